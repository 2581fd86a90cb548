"""Which output of a network is what, where every box has one score and one label, as behind an NMS; these as arrays.

An output is found by the name that `decode.tensors` gives, else by shape and type. What has no reading or several is a
UsageError that says what the yaml must say: nothing is guessed.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from detport import decoders, layouts
from detport.errors import Failure, UsageError

WIDTHS = {"box": 4, "score": 1, "label": 1, "batch": 1}
# Scores and labels that are both floats are told apart by the names that TF's exports and EfficientNMS give them.
NAMES = {
    "scores": ("scores", "detection_scores", "det_scores"),
    "labels": ("labels", "detection_classes", "det_classes"),
}


class Output(NamedTuple):
    """What is known of an output before it is read: its shape without the batch's axis, whether it holds integers."""

    shape: tuple[int, ...]
    integers: bool


class Reading(NamedTuple):
    """Outputs by their role, and the columns of the one with boxes."""

    outputs: dict[str, str]
    columns: tuple


class Rows(NamedTuple):
    """What the network gives for each box; `rows` are the places among the `count` of the outputs, without padding."""

    count: int
    rows: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    coefficients: np.ndarray | None = None


def read(outputs: dict[str, np.ndarray], options: dict, classes: int, image: dict) -> Rows:
    """The rows of the outputs."""
    known = {name: Output(without_batch(value.shape), value.dtype.kind in "iu") for name, value in outputs.items()}
    reading = find(known, options, classes)
    found = {role: outputs[name] for role, name in reading.outputs.items()}
    if "indices" in found:
        return followed(found, known[reading.outputs["scores"]].shape, classes, image)
    table = np.asarray(found["boxes"], np.float32).reshape(-1, found["boxes"].shape[-1])
    ends = np.cumsum([width(column, options, table.shape[1]) for column in reading.columns])
    parts = dict(zip(reading.columns, np.split(table, ends[:-1], axis=1), strict=True))
    count = int(found["count"].reshape(())) if "count" in found else len(table)
    if not 0 <= count <= len(table):
        raise Failure(
            f"{image['file']!r}: the count of rows is {count}, and there are {len(table)}; correct decode.tensors"
        )
    if "batch" in parts:  # the first row of no image ends the list
        count = min(count, *np.flatnonzero(parts["batch"] < 0)[:1].tolist(), len(table))
        if (parts["batch"][:count] > 0).any():
            row = int(np.argmax(parts["batch"] > 0))
            raise Failure(f"{image['file']!r}: row {row} of the outputs is of image {parts['batch'][row, 0]:g}, not 0")
    scores = parts["score"] if "score" in parts else np.asarray(found["scores"], np.float32)
    labels = parts["label"] if "label" in parts else found["labels"]
    columns = (parts["box"], scores.reshape(-1), labels.reshape(-1), parts.get("coefficients"))
    return Rows(len(table), np.arange(count), *(None if each is None else each[:count] for each in columns))


def without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the axes of one element before the last two."""
    return tuple(itertools.dropwhile(lambda size: size == 1, shape[:-2])) + shape[-2:]


def followed(found: dict[str, np.ndarray], shape: tuple[int, ...], classes: int, image: dict) -> Rows:
    """The rows that the triples (image, class, box) of NonMaxSuppression point to."""
    boxes, triples = np.asarray(found["boxes"], np.float32).reshape(-1, 4), found["indices"].reshape(-1, 3)
    scores = np.asarray(found["scores"], np.float32).reshape(shape)
    scores = scores if shape == (len(boxes), classes) else scores.T
    triples = triples[: int(np.argmax(np.append(triples[:, 0], -1) < 0))]
    wrong = (triples < 0) | (triples >= (1, classes, len(boxes)))
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=1)))
        raise Failure(
            f"{image['file']!r}: row {row} of the indices is {triples[row].tolist()}; there are 1 image, {classes}"
            f" classes, {len(boxes)} boxes; correct decode.categories or the order of outputs"
        )
    return Rows(len(boxes), triples[:, 2], boxes[triples[:, 2]], scores[triples[:, 2], triples[:, 1]], triples[:, 1])


def width(column: str | int, options: dict, whole: int) -> int:
    """Numbers of a part of a row; a number itself is of columns that nobody reads, coefficients are all the others."""
    if column == "coefficients":
        return whole - sum(width(other, options, whole) for other in options["columns"] if other != column)
    return column if isinstance(column, int) else WIDTHS[column]


def find(outputs: dict[str, Output], options: dict, classes: int) -> Reading:
    """The one way to read these outputs."""
    declared = layouts.listed({name: output.shape for name, output in outputs.items()})
    for role, name in options["tensors"].items():
        if name not in outputs and role != "masks":
            raise UsageError(f"decode.tensors.{role}: no output is called {name!r}; there are {declared}")
    found = list(readings(outputs, options, classes))
    if len(found) > 1:
        ways = "; or ".join(
            "{" + ", ".join(f"{role}: {name}" for role, name in reading.outputs.items()) + "}" for reading in found
        )
        raise UsageError(f"there is more than one way to read {declared}; say which in decode.tensors: {ways}")
    if not found:
        raise UsageError(
            "the decoder reads boxes [N, 4] or, with the score, [N, 5], and scores and labels [N]; or the columns that"
            f" decode.columns lists, for example [box, score, label]; declared are {declared}; correct outputs, or say"
            " what they are in decode.columns and decode.tensors"
        )
    return found[0]


def readings(outputs: dict[str, Output], options: dict, classes: int) -> Iterator[Reading]:
    """All ways to read the outputs."""
    triples = fitting("indices", outputs, options, lambda each: each.integers and each.shape[1:] == (3,))
    for boxes in fitting("boxes", outputs, options, lambda each: len(each.shape) == 2):
        count, numbers = outputs[boxes].shape
        tables = ((count, classes), (classes, count))
        scores = fitting("scores", outputs, options, lambda each, tables=tables: each.shape in tables)
        for chosen in itertools.product(scores, triples) if numbers == 4 else ():
            yield Reading(dict(zip(("boxes", "scores", "indices"), (boxes, *chosen), strict=True)), ("box",))
        columns = columns_of(numbers, options)
        if columns:
            yield from with_vectors(boxes, columns, outputs, options)


def columns_of(numbers: int, options: dict) -> tuple:
    """What the columns of the output with boxes are, if there may be so many."""
    if not options["columns"]:
        return {4: ("box",), 5: ("box", "score")}.get(numbers, ())
    columns = tuple(options["columns"])
    widths = [width(column, options, numbers) for column in columns]
    return columns if sum(widths) == numbers and min(widths) > 0 else ()


def with_vectors(boxes: str, columns: tuple, outputs: dict[str, Output], options: dict) -> Iterator[Reading]:
    """All ways to find the scores and labels that are no columns, and the count of boxes, if there is one."""
    count = outputs[boxes].shape[0]
    others = {name: output for name, output in outputs.items() if name != boxes}
    roles = [role for role, column in (("scores", "score"), ("labels", "label")) if column not in columns]
    names = [fitting(role, others, options, lambda each: math.prod(each.shape) == count) for role in roles]
    found = [
        dict(zip(roles, chosen, strict=True)) for chosen in itertools.product(*names) if len({*chosen}) == len(roles)
    ]
    for clue in (
        lambda chosen: "scores" not in chosen or not outputs[chosen["scores"]].integers,
        lambda chosen: "labels" not in chosen or outputs[chosen["labels"]].integers,
        lambda chosen: any(name in NAMES[role] for role, name in chosen.items()),
    ):
        found = [chosen for chosen in found if clue(chosen)] or found
    for chosen in found:
        left = {name: output for name, output in others.items() if name not in chosen.values()}
        counts = fitting("count", left, options, lambda each: math.prod(each.shape) == 1) if count > 1 else []
        for name in counts or [None]:
            yield Reading({"boxes": boxes} | chosen | ({"count": name} if name else {}), columns)


def fitting(role: str, outputs: dict[str, Output], options: dict, test: Callable[[Output], bool]) -> list[str]:
    """The outputs that may have a role: the one that the yaml says, or all that nothing else is said of."""
    said = options["tensors"]
    names = [said[role]] if role in said else [name for name in outputs if name not in said.values()]
    return [name for name in names if name in outputs and test(outputs[name])]


def problem(model: dict) -> tuple[tuple, str] | None:
    """What is wrong with the outputs that a model declares for such a decoder."""
    options = model["decode"]
    shapes = {output["name"]: tuple(output["shape"]) for output in model["outputs"]}
    known = {
        output["name"]: Output(without_batch(shapes[output["name"]]), np.dtype(output["dtype"]).kind in "iu")
        for output in model["outputs"]
    }
    prototypes = options["masks"] and options["masks"]["form"] == "prototypes"
    if prototypes and "coefficients" not in (options["columns"] or ()):
        return ("decode", "columns"), "with masks of prototypes, must say which columns are coefficients"
    try:
        own = layouts.mask_output(shapes, options)
        classes = decoders.classes(decoders.categories(options["categories"]), options["background"])
        find({name: output for name, output in known.items() if name != own}, options, len(classes))
    except UsageError as error:
        return ("outputs",), str(error)
    return None
