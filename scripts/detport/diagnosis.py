"""The doctor: how accurate a model's yaml is on a few images, and how accurate it would be without a usual mistake."""

import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detport import classes, config, decoders, inputs, outputs, suspects, tensors
from detport.backends import local
from detport.errors import Complaint, UsageError
from detport.metrics import coco
from detport.suspects import Changes

SPREAD = 0.06  # of AP by chance, over the root of the number of images
POOR = 0.02  # AP of a yaml that is wrong somewhere
ROUNDS = 3  # of changes on top of the best
SHOWN = 15  # lines of the table
UNSEEN = "-"
BOXES = {"iou_types": ["bbox"], "max_detections": [1, 10, 100], "mask_area": "bbox"}  # settings of COCO's metric


class Trial(NamedTuple):
    """A change of the yaml with its AP, or with the reason why there is none."""

    changes: Changes
    accuracy: float | None
    problem: str = ""


class Case(NamedTuple):
    """What trials have in common."""

    folder: Path  # of the images
    rows: list[dict]  # of the index
    truth: dict  # of these images, in COCO's form
    names: dict[int, str]  # of categories that the metric numbers
    run: local.Run


def diagnose(model: dict, case: Case, log: Callable[[str], None]) -> list[Trial]:
    """The yaml as it is and everything that was tried; the yaml comes first, then the best.

    A network runs once for every preprocessing. Where nothing is found, every preprocessing is combined with every way
    to decode, because one mistake hides another; else one change is tried at a time, the next on top of the best.
    """
    found: dict[str, Trial] = {}
    best = Trial({}, None)
    for turn in range(ROUNDS):
        around, blind = completed(model, best.changes), (best.accuracy or 0) < POOR
        for changes in ({}, *suspects.of_preprocessing(around)):
            prepared = completed(around, changes)
            if prepared is None:
                continue
            log(f"round {turn + 1}: {suspects.in_words(changes) or 'preprocessing as it is'}")
            seen = run(prepared, case)
            plain = score(prepared["decode"], seen, case)
            note(found, model, best.changes | changes, plain)
            blind = blind and (plain[0] or 0) < POOR
            ways = ways_to_decode(prepared, not plain[1], pairs=blind and not changes) if blind or not changes else []
            for decoding, other in ways:
                note(found, model, best.changes | changes | decoding, score(other["decode"], seen, case))
        before, best = best, simplest(found.values(), chance(len(case.rows)))
        if not best.changes or (best.accuracy or 0) <= (before.accuracy or 0) + chance(len(case.rows)):
            break
    own = found.pop("")
    return [own, *sorted(found.values(), key=lambda trial: (-(trial.accuracy or -1), len(trial.changes)))]


def note(found: dict[str, Trial], model: dict, changes: Changes, result: tuple[float | None, str]) -> None:
    """Keep a trial, by those of its changes that are any."""
    real = {path: value for path, value in changes.items() if suspects.value_at(model, path) != value}
    found.setdefault(suspects.in_words(real), Trial(real, *result))


def chance(images: int) -> float:
    """Differences of AP that say nothing on so few images."""
    return round(SPREAD / math.sqrt(max(images, 1)), 3)


def simplest(trials: Iterable[Trial], margin: float) -> Trial:
    """Of the trials that are as good as the best but for chance, the one with fewest changes."""
    trials = list(trials)
    most = max(trial.accuracy or 0 for trial in trials)
    good = [trial for trial in trials if (trial.accuracy or 0) > 0 and trial.accuracy >= most - margin] or trials[:1]
    return min(good, key=lambda trial: (len(trial.changes), -(trial.accuracy or 0)))


def ways_to_decode(model: dict, fits: bool, pairs: bool) -> list[tuple[Changes, dict]]:
    """Other ways to decode, by one change or by two, with the model that each makes. Where the one of the yaml `fits`
    and takes scores as they are, they are none that an activation has still to make."""
    single = list(suspects.of_decoding(model))
    if fits and model["decode"].get("activation") == "none":
        single = [each for each in single if ("decode", "activation") not in each]
    both = itertools.combinations(single, 2) if pairs else ()
    double = [one | other for one, other in both if not one.keys() & other.keys()]
    tried = [(changes, completed(model, changes)) for changes in (*single, *double)]
    return [(changes, other) for changes, other in tried if other is not None]


def completed(model: dict, changes: Changes) -> dict | None:
    """A model with changes and, for new sections, defaults; None if these do not go together."""
    sections = {key: suspects.changed(model, changes)[key] for key in ("input", "preprocess", "outputs", "decode")}
    filler = {"title": UNSEEN, "dataset": UNSEEN, "onnx": UNSEEN, "metric": {"kind": "coco", "iou_types": ["bbox"]}}
    try:
        return config.check(filler | sections, "model", UNSEEN) if changes else model
    except UsageError:
        return None


def run(model: dict, case: Case) -> list[tuple[dict, dict[str, np.ndarray]]]:
    """Every image's entry, as in shard.json, and what the network makes of it."""
    names = [output["name"] for output in model["outputs"]]
    seen = []
    for row in case.rows:
        tensor, placement = tensors.preprocess(case.folder / row["file"], model, (row["width"], row["height"]))
        image = {"image_id": row["image_id"], "file": row["file"]} | placement
        arrays = case.run(inputs.feeds(model["input"], inputs.batched(tensor, model["input"], image), image))
        seen.append((image, {name: outputs.widened(array) for name, array in zip(names, arrays, strict=True)}))
    return seen


def score(options: dict, seen: list[tuple[dict, dict[str, np.ndarray]]], case: Case) -> tuple[float | None, str]:
    """AP of a way to decode, or why there is none."""
    categories, decoder = decoders.categories(options["categories"]), decoders.load(options["kind"])
    try:
        found = [row for image, arrays in seen for row in decoder.decode(arrays, image, options, categories)]
        rows = [row | {"category_id": case.names.get(row["category_id"], row["category_id"])} for row in found]
        rows, _ = classes.with_ids([row for row in rows if row["category_id"] is not None], case.truth["categories"])
        figures = coco.evaluate(case.truth, [image["image_id"] for image, _ in seen], rows, BOXES, False)
    except Complaint as error:
        return None, str(error)
    return figures["bbox"]["AP"], ""


def text(name: str, trials: list[Trial], notes: list[str], images: int) -> list[str]:
    """The diagnosis: what to change first, then everything that was tried."""
    own, *others = trials
    lines = [f"{name}: {verdict(own, others, chance(images))}"]
    lines.append(f"AP of boxes on {images} images; less than {chance(images):g} of it is chance")
    lines += [f"the graph: {note}" for note in notes]
    if own.problem:
        lines.append(f"the yaml as it is: {own.problem}")
    lines += ["", "    AP  change", row(own)]
    lines += [row(trial) for trial in others[:SHOWN] if trial.accuracy is not None]
    left = len([trial for trial in others if trial.accuracy is not None]) - SHOWN
    failed = [trial for trial in others if trial.accuracy is None]
    lines += [f"and {left} more, none of them better"] * (left > 0)
    if failed:
        lines.append(f"{len(failed)} changes do not fit the outputs, such as {suspects.in_words(failed[0].changes)}")
    return lines


def verdict(own: Trial, others: list[Trial], margin: float) -> str:
    """The first line."""
    start = "your yaml gives no figure" if own.accuracy is None else f"your yaml gives AP {own.accuracy:.3f}"
    best = simplest([own, *others], margin)
    if best is own or (best.accuracy or 0) <= (own.accuracy or 0) + margin:
        return f"{start}; nothing tried is better" + f"; {LEFT}" * ((own.accuracy or 0) < POOR)
    return f"{start}; with {suspects.in_words(best.changes)} {best.accuracy:.3f}"


LEFT = "look at decode.categories, the anchors, the ground truth and whether these are the weights that you mean"


def row(trial: Trial) -> str:
    figure = "     -" if trial.accuracy is None else f"{trial.accuracy:6.3f}"
    return f"{figure}  {suspects.in_words(trial.changes) or 'the yaml as it is'}"
