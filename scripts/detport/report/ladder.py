"""The ladder in a report: what each rung changed against what the yaml allows, and the table that people read."""

from collections.abc import Iterator

from detport.report.gates import FAIL, NOT_MEASURED, PASS

FULL = "float32"  # what all rungs are that are not made for a backend
SHOWN = 240  # characters of a reason, which may quote a foreign program
WORDS = {"nan": "NaN", "inf": "infinite"}


def judged(parity: dict, settings: dict) -> list[dict]:
    """A verdict for every rung of a backend, and in words what is beyond the tolerances. `settings` are the model's
    section parity."""
    rows, before = [], None
    for entry in parity["rungs"]:
        row = {"backend": parity["backend"], "rung": entry["rung"]}
        row["precision"] = parity["precisions"].get(entry["rung"], FULL)
        if entry["reason"] is not None:
            rows.append(row | {"verdict": NOT_MEASURED, "told": entry["reason"]})
            continue
        if entry["rung"] == "preprocess":
            found = list(levels_beyond(entry, settings["levels"]))
        else:
            found = [*unusable(entry, before), *beyond(entry["previous"], settings["tolerances"][row["precision"]])]
            before = entry
        rows.append(row | {"verdict": FAIL if found else PASS, "told": "; ".join(found)})
    return rows


def levels_beyond(entry: dict, allowed: dict) -> Iterator[str]:
    """What of the preprocessing is not as the yaml says."""
    for key, most in allowed.items():
        value = entry["levels"][key]
        if abs(value) > most:
            where = {"largest": f" ({entry['file']!r})", "mean": " over a channel", "padding": " around the image"}[key]
            yield f"{value:.3g} grey levels off{where}, {most:g} allowed"


def unusable(entry: dict, before: dict | None) -> Iterator[str]:
    """Outputs that are no numbers or no detections. What the rung before had too, it has not begun."""
    for name, counts in entry["strange"].items():
        kinds = ", ".join(f"{count} {WORDS[kind]}" for kind, count in counts.items() if count)
        if kinds:
            carried = before is not None and any(before["strange"].get(name, {}).values())
            yield f"{kinds} numbers in {name}" + ", as in the rung before" * carried
    if entry["problem"]:
        carried = before is not None and before["problem"]
        yield "no detections, as in the rung before" if carried else entry["problem"]


def beyond(found: dict | None, allowed: dict) -> Iterator[str]:
    """What changed from the rung before by more than is allowed."""
    if found is None:
        return
    for name, tensor in found["tensors"].items():
        if "other" in tensor:
            yield f"{name} {tensor['other']}"
        elif allowed["apart"] is not None and (tensor.get("apart") or 0) > allowed["apart"]:
            yield f"{name} differs by {tensor['apart']:.2g} of its scale, {allowed['apart']:g} allowed"
    if found["detections"] is None:
        return
    changes = found["detections"]
    count = changes["before"]
    for key, words in (("lost", "lost"), ("new", "new"), ("flips", "of another category now")):
        if changes[key] > allowed[key] * count:
            yield f"{changes[key]} of {count} detections {words}" if key != "new" else f"{changes[key]} new detections"
    for key, words, unit in (("score_shift", "a score changes", ""), ("box_shift", "a box moves", " pixels")):
        if changes[key] and changes[key]["largest"] > allowed[key]:
            yield f"{words} by {changes[key]['largest']:.3g}{unit}, {allowed[key]:g} allowed"
    for key, limit, words in (("least_iou", "iou", "box"), ("least_mask_iou", "mask_iou", "mask")):
        if changes[key] is not None and changes[key] < allowed[limit]:
            yield f"a {words} has IoU {changes[key]:.3f} with what it was, {allowed[limit]:g} asked for"


def gate_lines(rows: list[dict], widest: int = 14) -> list[tuple[str, str]]:
    """Verdict and line: of every rung that fails, of all of a backend that pass, and of those not measured for one
    reason. `widest` is the length of the longest name of a backend."""
    lines = []

    def line(verdict: str, name: str, told: str) -> tuple[str, str]:
        return verdict, f"{verdict:<13}{name:<24}{backend:<{widest}} {told}"

    for backend in dict.fromkeys(row["backend"] for row in rows):
        own = [row for row in rows if row["backend"] == backend]
        lines += [line(FAIL, f"parity: {row['rung']}", row["told"]) for row in own if row["verdict"] == FAIL]
        good = [row["rung"] for row in own if row["verdict"] == PASS]
        if good:
            lines.append(line(PASS, "parity", ", ".join(good)))
        lines += [line(NOT_MEASURED, "parity", told) for told in reasons(own)]
    return lines


def table(parity: dict, rows: list[dict]) -> dict:
    """What each rung changed, as a table of the report."""
    verdicts = {row["rung"]: row["verdict"] for row in rows}
    measured = [entry for entry in parity["rungs"] if entry["reason"] is None]
    steps = [entry for entry in measured if entry["rung"] != "preprocess"]
    masks = any(
        each and each["detections"] and each["detections"]["least_mask_iou"] is not None for each in befores(steps)
    )
    compiles = any(entry["rung"] == "compiled" for entry in parity["rungs"])
    columns = ["rung", "", "of", "lost", "new", "flips", "score", "box px", "IoU", *["mask IoU"] * masks]
    return {
        "title": f"{len(parity['images'])} images, seed {parity['seed']}; detections from score {parity['score']:g} on;"
        f" input {parity['input']}" + f"; the compiled model is {parity['precisions']['compiled']}" * compiles,
        "columns": [*columns, "outputs", "cosine"],
        "rows": [[named(entry), verdicts[entry["rung"]], *cells(entry, entry["previous"], masks)] for entry in steps],
        "notes": [
            *first_and_last(steps, masks),
            *level_lines(measured, verdicts),
            *nothing_found(parity["score"], steps),
            *unusable_images(parity["skipped"]),
        ],
    }


def unusable_images(images: list[dict]) -> list[str]:
    """Images in whose place others were taken; parity.json lists all of them."""
    if not images:
        return []
    count, first = len(images), images[0]
    what = "1 image" if count == 1 else f"the first of {count} images"
    return [f"{what} that cannot be used: {first['file']!r} {first['reason']}"]


def named(entry: dict) -> str:
    return entry["rung"] + " (SIMULATOR)" * entry["simulator"]


def nothing_found(score: float, steps: list[dict]) -> list[str]:
    """That there was nothing to lose, where it is so."""
    if not steps or any(entry["detections"] for entry in steps):
        return []
    return [
        f"no detection from score {score:g} on, so that only outputs were compared; lower parity.score in config.yaml"
    ]


def befores(steps: list[dict]) -> list[dict | None]:
    return [entry["previous"] for entry in steps]


def cells(entry: dict, found: dict | None, masks: bool) -> list[str]:
    """The numbers of a row: what changed beside another rung."""
    changes = found and found["detections"]
    if not changes:
        count = "-" if entry["detections"] is None else str(entry["detections"])
        counts = [count, *["-"] * (6 + masks)]
    else:
        counts = [str(changes[key]) for key in ("before", "lost", "new", "flips")]
        counts += [
            "-" if changes[key] is None else f"{changes[key]['largest']:.1e}" for key in ("score_shift", "box_shift")
        ]
        least = [changes[key] for key in ("least_iou", *["least_mask_iou"] * masks)]
        counts += ["-" if value is None else f"{value:.4f}" for value in least]
    tensors = found["tensors"].values() if found else ()
    apart = max((each["apart"] for each in tensors if each.get("apart") is not None), default=None)
    cosine = min(
        (each["cosine"] for each in tensors if each.get("cosine") is not None and each.get("rows") != "in place"),
        default=None,
    )
    return [*counts, "-" if apart is None else f"{apart:.1e}", "-" if cosine is None else f"{cosine:.6f}"]


def first_and_last(steps: list[dict], masks: bool) -> list[str]:
    """The whole way: what changed between the first and the last rung, where there are rungs between them."""
    if len(steps) < 3 or steps[-1]["first"] is None or steps[-1]["first"]["detections"] is None:
        return []
    names = ("of", "lost", "new", "flips", "score", "box px", "IoU", *["mask IoU"] * masks, "outputs")
    found = zip(names, cells(steps[-1], steps[-1]["first"], masks), strict=False)
    return [f"{steps[-1]['rung']} beside {steps[0]['rung']}: " + ", ".join(f"{name} {value}" for name, value in found)]


def level_lines(measured: list[dict], verdicts: dict[str, str]) -> list[str]:
    """The preprocessing beside its reference."""
    return [
        f"preprocess {verdicts['preprocess']} {entry['runner']}: largest {entry['levels']['largest']:.2f}, mean"
        f" {entry['levels']['mean']:.3f}, padding {entry['levels']['padding']:.3f} grey levels"
        for entry in measured
        if entry["rung"] == "preprocess"
    ]


def reasons(rows: list[dict]) -> list[str]:
    """Why rungs were not measured, those of one reason together."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"] == NOT_MEASURED:
            told.setdefault(row["told"], []).append(row["rung"])
    return [f"{', '.join(names)}: {shortened(reason)}" for reason, names in told.items()]


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
