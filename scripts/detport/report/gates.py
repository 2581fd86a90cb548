"""Gates: conditions on measured numbers, and the verdict that follows from them. What published numbers alone say."""

from detport import metrics

PASS, FAIL, NOT_MEASURED, UNDECIDED = "PASS", "FAIL", "NOT MEASURED", "UNDECIDED"
NO_GATES = "NO GATES"  # nothing was asked for, so there is nothing to judge


def figures(accuracy: dict | None, performance: dict | None) -> dict[str, float]:
    """Every measured number of a backend under the name that gates and references use, as bbox.AP or fps.

    What could not be measured, because the ground truth has nothing to find, is left out.
    """
    found = {}
    for group, numbers in (accuracy or {}).get("accuracy", {}).items():
        found |= {f"{group}.{name}": value for name, value in numbers.items() if is_figure(value)}
    if performance:
        found["fps"] = performance["fps"]
        found |= {f"latency_ms.{name}": value for name, value in performance["latency_ms"].items()}
        for name in ("fps_per_device", "fps_card_measured"):
            if performance.get(name) is not None:
                found[name] = performance[name]
    return found


def published_fps(speed: dict) -> tuple[float, str]:
    """Images per second that follow from a published speed, and the arithmetic in words."""
    if "images" in speed:
        return speed["images"] / speed["seconds"], f"{speed['images']}/{speed['seconds']}"
    factors = [str(speed[key]) for key in ("devices", "batch") if speed[key] != 1]
    if "fps_per_device" in speed:
        return speed["devices"] * speed["fps_per_device"], " x ".join([*factors, str(speed["fps_per_device"])])
    fps = speed["devices"] * speed["batch"] * 1000 / speed["latency_ms"]
    return fps, " x ".join([*factors, f"1000/{speed['latency_ms']}"])


def published_figures(reference: dict) -> dict[str, float]:
    """The figures of a reference: those that it states, and the fps that follow from its speed."""
    computed = {"fps": published_fps(reference["speed"])[0]} if reference["speed"] else {}
    return reference["values"] | computed


def compared(references: list[dict], measured: dict[str, dict]) -> list[dict]:
    """Every figure of a reference beside that of every backend; `measured` are the figures of the backends."""
    rows = []
    for reference in references:
        for figure, value in published_figures(reference).items():
            for backend, figures in measured.items():
                found = figures.get(figure)
                both = found is not None
                rows.append(
                    {
                        "figure": figure,
                        "backend": backend,
                        "measured": found,
                        "reference": value,
                        "difference": round(found - value, 6) if both else None,
                        "ratio": round(found / value, 6) if both and value else None,
                        "of": reference["name"],
                    }
                )
    return rows


def judge(gate: dict, backend: str, measured: dict[str, dict], references: list[dict], trusted: bool) -> dict:
    """A gate's row of the report. `measured` are the figures of every backend; `trusted` is false where too many
    images were skipped to believe an accuracy."""
    measure = gate["measure"]
    value = measured[backend].get(measure)
    if gate["against"] is None:
        bar = published_figures(named(references, gate["reference"]))[measure]
    else:
        bar = measured.get(gate["against"], {}).get(measure)
    believed = value is not None and bar is not None and (trusted or not is_accuracy(measure))
    return {
        "name": gate["name"],
        "backend": backend,
        "measure": measure,
        "measured": value,
        "required": None if bar is None else round(least(gate, bar), 6),
        "reference": gate["reference"],
        "against": gate["against"],
        "ratio": round(value / bar, 6) if believed and bar else None,
        "margin": gate["margin"],
        "interval": None,
        "note": None,
        "verdict": passed(gate, value, bar) if believed else NOT_MEASURED,
    }


def published(gates: list[dict], references: list[dict]) -> list[dict]:
    """The gates that published numbers decide by themselves: of backends that have a published figure, against another
    one. They say nothing of this run and have no part in its verdict."""
    rows = []
    for gate in (each for each in gates if each["margin"] is None):
        for backend in gate["backends"] or []:
            own = of_backend(references, backend, gate["measure"])
            if gate["against"] is None:
                other = named(references, gate["reference"])
            else:
                other = of_backend(references, gate["against"], gate["measure"])
            if own and other and own is not other:
                value, bar = (published_figures(reference)[gate["measure"]] for reference in (own, other))
                rows.append(
                    {
                        "name": gate["name"],
                        "backend": backend,
                        "measure": gate["measure"],
                        "published": value,
                        "published_by": own["name"],
                        "required": round(least(gate, bar), 6),
                        "compared_with": bar,
                        "compared_with_name": other["name"],
                        "ratio": round(value / bar, 6),
                        "times": gate["times"],
                        "minus": gate["minus"],
                        "verdict": passed(gate, value, bar),
                        "basis": "published",
                    }
                )
    return rows


def least(gate: dict, bar: float) -> float:
    """The smallest number that passes."""
    return bar * gate["times"] - (gate["minus"] if gate["margin"] is None else gate["margin"])


def passed(gate: dict, value: float, bar: float) -> str:
    return PASS if value >= least(gate, bar) else FAIL


def named(references: list[dict], name: str) -> dict:
    return next(reference for reference in references if reference["name"] == name)


def of_backend(references: list[dict], backend: str, measure: str) -> dict | None:
    """The first reference that publishes a figure of a backend."""
    found = (each for each in references if each["backend"] == backend and measure in published_figures(each))
    return next(found, None)


def is_figure(value: object) -> bool:
    """Whether an entry of accuracy.json is a measured number: not a table, not undefined, not COCO's mark."""
    return isinstance(value, float) and value != metrics.NOTHING_TO_FIND


def headline(accuracy: dict) -> dict[str, float | None]:
    """The first figure of every group, which is the one that a metric is known by: bbox.AP, voc07.mAP."""
    found = {f"{group}.{(first := next(iter(numbers)))}": numbers[first] for group, numbers in accuracy.items()}
    return {name: value if is_figure(value) else None for name, value in found.items()}


def is_accuracy(measure: str) -> bool:
    return not measure.startswith(("fps", "latency_ms"))


def verdict(rows: list[dict], not_asked: list[dict] | None = None, scored: bool = True) -> str:
    """One word for all gates of a report; `not_asked` are those declared whose backends were not in the run. Nobody can
    say that a detector is right which was not `scored`, whatever its speed."""
    verdicts = {row["verdict"] for row in rows}
    if FAIL in verdicts:
        return FAIL
    if not scored:
        return NOT_MEASURED
    if not rows and not not_asked:
        return NO_GATES
    if verdicts == {PASS}:
        return PASS
    return UNDECIDED if verdicts & {PASS, UNDECIDED} else NOT_MEASURED


def check_references(model: dict, source: str) -> str | None:
    """What is wrong with references and gates of a model's yaml, or None: a gate's reference must hold its figure."""
    for i, reference in enumerate(model["references"]):
        if reference["speed"] and "fps" in reference["values"]:
            return f"{source}: references.{i}.values.fps: follows from speed; leave one of them out"
    values = {reference["name"]: published_figures(reference) for reference in model["references"]}
    for i, gate in enumerate(model["gates"]):
        if gate["measure"].startswith("latency_ms"):
            return f"{source}: gates.{i}.measure: a gate asks for at least a number; use fps instead of a latency"
        if gate["against"] is not None:
            continue
        if gate["reference"] not in values:
            known = ", ".join(values) or "none is declared"
            return f"{source}: gates.{i}.reference: no reference {gate['reference']!r}; expected one of {known}"
        if gate["measure"] not in values[gate["reference"]]:
            known = ", ".join(values[gate["reference"]])
            return f"{source}: gates.{i}.measure: {gate['reference']!r} has no {gate['measure']!r}; it has {known}"
    return None
