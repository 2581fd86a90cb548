"""What the differences between two runs are worth: better, worse, or no more than noise."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from detport import classes, metrics, resampling, schemas
from detport.comparing.runs import Run
from detport.parity import pairs
from detport.report import gates

BETTER, WORSE, NOISE, SAME, CHANGED = "better", "worse", "noise", "same", "changed"
SCORE = 0.3  # from which on a detection that is lost or new is counted
SHOWN = 10  # images that changed most
RESAMPLES, SEED, CONFIDENCE = 1000, 0, 0.95
LATENCIES = ("p50", "p99")  # that are told beside a speed
LEAST_NOISE = 0.02  # of a latency: two runs on one machine are never nearer for certain


def compared(before: Mapping[str, Run], after: Mapping[str, Run]) -> dict:
    """Everything that differs, by model."""
    both = [name for name in before if name in after]
    models = {name: of_model(before[name], after[name]) for name in both}
    changes = [row["change"] for model in models.values() for row in rows_of(model)]
    only = {"only_before": [name for name in before if name not in after]}
    only["only_after"] = [name for name in after if name not in before]
    return {
        "schema": 1,
        "confidence": CONFIDENCE,
        **only,
        "models": models,
        "worse": changes.count(WORSE) + len(only["only_before"]),
        "better": changes.count(BETTER),
        "different": any(change != SAME for change in changes) or any(only.values()),
    }


def rows_of(model: dict) -> list[dict]:
    """Everything of a model that has got better or worse, or not."""
    rows = list(model["gates"])
    for backend in model["backends"].values():
        rows += [*backend["figures"], *backend["speed"]]
    return rows


def of_model(before: Run, after: Run) -> dict:
    """What differs between two runs of a model."""
    old, new = before.report["backends"], after.report["backends"]
    both = [name for name in old if name in new]
    return {
        "verdict": [before.report["verdict"], after.report["verdict"]],
        "date": [run.report["provenance"]["date"] for run in (before, after)],
        "only_before": [name for name in old if name not in new],
        "only_after": [name for name in new if name not in old],
        "without": [run.without for run in (before, after)],
        "gates": gate_rows(before.report["gates"], after.report["gates"], both),
        "backends": {name: of_backend(name, before, after) for name in both},
        "provenance": origins(before.report["provenance"], after.report["provenance"]),
    }


def gate_rows(before: list[dict], after: list[dict], backends: list[str]) -> list[dict]:
    """Gates whose verdict is another one, and those that one run alone has."""
    old, new = ({(gate["name"], gate["backend"]): gate["verdict"] for gate in found} for found in (before, after))
    rows = []
    for name, backend in dict.fromkeys((*old, *new)):
        was, now = (found.get((name, backend)) for found in (old, new))
        if backend in backends and was != now:
            worse = was == gates.PASS or now == gates.FAIL
            change = CHANGED if None in (was, now) else WORSE if worse else BETTER if now == gates.PASS else CHANGED
            rows.append({"name": name, "backend": backend, "before": was, "after": now, "change": change})
    return rows


def of_backend(name: str, before: Run, after: Run) -> dict:
    """What differs between two runs of a model on a backend."""
    old, new = (run.report["backends"][name] for run in (before, after))
    around = intervals(name, before, after)
    return {
        "figures": figure_rows(old["figures"], new["figures"], around),
        "intervals": bool(around),
        "classes": class_rows(old["accuracy"], new["accuracy"]),
        "speed": speed_rows(old["performance"], new["performance"]),
        "images": changed_images(before.parts.get(name, []), after.parts.get(name, [])),
    }


def figure_rows(old: Mapping[str, float], new: Mapping[str, float], around: Mapping[str, list[float]]) -> list[dict]:
    """Figures of accuracy that both runs have or one of them."""
    rows = []
    for measure in dict.fromkeys((*old, *new)):
        if not gates.is_accuracy(measure):
            continue
        was, now = old.get(measure), new.get(measure)
        row = {"measure": measure, "before": was, "after": now, "difference": None, "interval": around.get(measure)}
        if None in (was, now):
            row["change"] = CHANGED
        else:
            row |= {"difference": now - was, "change": change_of(now - was, around.get(measure))}
        rows.append(row)
    return rows


def change_of(difference: float, interval: Sequence[float] | None) -> str:
    """What a difference is worth; without an interval any counts, since the same detections give the same figure."""
    if not difference:
        return SAME
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return NOISE
    return BETTER if difference > 0 else WORSE


def intervals(name: str, before: Run, after: Run) -> dict[str, list[float]]:
    """The interval of the difference of every figure that can be resampled, by the same draws for both runs."""
    if not (before.truth and after.truth and before.metric == after.metric and before.annotations == after.annotations):
        return {}
    settings, truth = after.metric, after.truth
    metric, about = metrics.load(settings["kind"]), schemas.plugin("metrics", settings["kind"])
    sides = [parts_of(run.parts[name]) for run in (before, after)]
    counted = [metric.counted(truth, images, settings) for images, _ in sides]
    if counted[0] != counted[1] or not counted[0]:
        return {}
    measures = [
        each for each in about.get("intervals", ()) if each.split(".")[0] in after.report["backends"][name]["accuracy"]
    ]
    drawn = resampling.draws(len(counted[0]), RESAMPLES, SEED)
    categories = metric.categories(truth, settings)
    found = [
        metric.resampled(truth, counted[0], classes.with_ids(rows, categories)[0], settings, measures, drawn)
        for _, rows in sides
    ]
    told = {}
    for measure in measures:
        difference = found[1][measure] - found[0][measure]
        defined = difference[~np.isnan(difference)]
        if 2 * len(defined) > len(difference):
            told[measure] = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return told


def parts_of(parts: list[dict]) -> tuple[list, list[dict]]:
    """Images in one order, and all their detections."""
    images = sorted((image for part in parts for image in part["images"]), key=str)
    return images, [row for part in parts for row in part["detections"]]


def class_rows(old: Mapping[str, dict], new: Mapping[str, dict]) -> list[dict]:
    """AP per class where it changed, by how much."""
    rows = []
    for group in (group for group in old if group in new):
        classes_of = (old[group].get("per_class") or {}, new[group].get("per_class") or {})
        for name in (name for name in classes_of[0] if name in classes_of[1]):
            was, now = (found[name] for found in classes_of)
            if was != now and gates.is_figure(was) and gates.is_figure(now):
                rows.append({"group": group, "class": name, "before": was, "after": now, "difference": now - was})
    return sorted(rows, key=lambda row: -abs(row["difference"]))


def speed_rows(old: dict, new: dict) -> list[dict]:
    """Frames per second, by the spread of the latency; a log that was brought may have no percentiles."""
    was, now = old["fps"], new["fps"]
    spreads = [spread(each["latency_ms"]) for each in (old, new)]
    noise = max([LEAST_NOISE, *(each for each in spreads if each is not None)])
    ratio = now / was if was else math.inf
    beyond = abs(ratio - 1) > noise
    change = SAME if was == now else (BETTER if ratio > 1 else WORSE) if beyond else NOISE
    before, after = (each["latency_ms"] for each in (old, new))
    latencies = {
        key: {"before": before[key], "after": after[key]} for key in LATENCIES if key in before and key in after
    }
    row = {"measure": "fps", "before": was, "after": now, "ratio": ratio, "noise": noise, "change": change}
    return [row | {"latency_ms": latencies}]


def spread(latency: Mapping[str, float]) -> float | None:
    """How far the 90th percentile is from the median, as a part of it."""
    if not latency.get("p50") or latency.get("p90") is None:
        return None
    return latency["p90"] / latency["p50"] - 1


def changed_images(before: list[dict], after: list[dict]) -> list[dict]:
    """The images whose detections changed most, with what changed in them."""
    old, new = (by_image(parts) for parts in (before, after))
    rows = []
    for image in (image for image in old if image in new):
        found = pairs.changes([old[image]], [new[image]], SCORE)
        shifts = {key: (found[key] or {"largest": 0.0})["largest"] for key in ("score_shift", "box_shift")}
        if found["lost"] or found["new"] or any(shifts.values()):
            counts = {key: found[key] for key in ("matched", "lost", "new", "flips")}
            rows.append({"image_id": image, **counts, **shifts, "least_iou": found["least_iou"]})
    return sorted(rows, key=most_changed_first)[:SHOWN]


def most_changed_first(row: dict) -> tuple:
    return (-row["lost"] - row["new"], -row["score_shift"], -row["box_shift"], str(row["image_id"]))


def by_image(parts: list[dict]) -> dict[object, list[dict]]:
    """Detections of every image that was decoded, also of those without any."""
    found: dict[object, list[dict]] = {image: [] for part in parts for image in part["images"]}
    for part in parts:
        for row in part["detections"]:
            found[row["image_id"]].append(row)
    return found


def origins(before: dict, after: dict) -> list[dict]:
    """What the two runs were made with where that differs: files, packages, processors, command."""
    rows = []
    for name in dict.fromkeys((*before["sha256"], *after["sha256"])):
        rows.append(
            {"what": f"sha256 of {name}", "before": before["sha256"].get(name), "after": after["sha256"].get(name)}
        )
    old, new = (by_stage(each["stages"]) for each in (before, after))
    for stage in dict.fromkeys((*old, *new)):
        was, now = old.get(stage, {}), new.get(stage, {})
        for key in dict.fromkeys((*was, *now)):
            rows.append({"what": f"{key} of {stage}", "before": was.get(key), "after": now.get(key)})
    rows.append({"what": "command", "before": before["command"], "after": after["command"]})
    return [row for row in rows if row["before"] != row["after"]]


def by_stage(steps: list[dict]) -> dict[str, dict]:
    """Versions, threads and processor of every stage; of one that ran in several ways, all of them."""
    found: dict[str, dict[str, set]] = {}
    for step in steps:
        own = found.setdefault(step["stage"], {})
        for key, value in (step["versions"] | {"threads": step["threads"], "processor": step["processor"]}).items():
            own.setdefault(key, set()).add(str(value))
    return {stage: {key: ", ".join(sorted(values)) for key, values in own.items()} for stage, own in found.items()}
