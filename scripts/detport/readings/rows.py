"""Outputs with one score and one label for each box, as they leave an NMS or a selection of the best."""

import math
from collections.abc import Iterable

import numpy as np

from detport.readings import values
from detport.readings.forms import Context, Reading, Readings
from detport.readings.values import Output

TF = {"boxes": "detection_boxes", "scores": "detection_scores", "labels": "detection_classes"}
TF_COUNT = "num_detections"
SCORES = ("scores", "detection_scores", "det_scores", "graph2_pred_scores")
LABELS = ("labels", "detection_classes", "det_classes", "classes", "graph2_pred_classes")
MOST_ROWS = 1200  # of a table behind an NMS; more are cells
# Orders of the columns of one table, by how many they are, the usual first; and who writes them.
ORDERS = {
    6: {("box", "score", "label"): "rows_of_6", ("label", "score", "box"): "counted_rows"},
    7: {
        ("batch", "box", "score", "label"): "rows_of_7",
        ("batch", "box", "label", "score"): "rows_of_7",
        ("batch", "label", "score", "box"): "detection_output",
    },
}


def named(outputs: list[Output], context: Context) -> Readings:
    """TensorFlow's detection_boxes and their like."""
    known = {output.name.partition(":")[0]: output.name for output in outputs}
    if not {*TF.values()} <= known.keys():
        return
    tensors = {role: known[name] for role, name in (*TF.items(), ("count", TF_COUNT)) if name in known}
    why = dict.fromkeys(("kind", "tensors"), "TensorFlow's names")
    why |= dict.fromkeys(
        ("box", "coordinates", "labels_from"), "TensorFlow's API has y first, fractions, labels from 1"
    )
    decode = {"kind": "after_nms", "tensors": tensors, "box": "yxyx", "coordinates": "normalised", "labels_from": 1}
    yield Reading("tensorflow", decode, 0, why)


def vectors(outputs: list[Output], context: Context) -> Readings:
    """Boxes [K, 4] or, with the score, [K, 5] beside scores and labels [K]; or followed by triples of an NMS."""
    for boxes in outputs:
        if len(boxes.shape) != 2 or boxes.shape[1] not in (4, 5) or boxes.integers or boxes.shape[0] == 1:
            continue
        count = boxes.shape[0]
        others = [output for output in outputs if output is not boxes and is_vector(output, count)]
        labels = [output for output in others if output.integers] or by_name(others, LABELS)
        labels = labels or [output for output in others if values.are_whole(output.numbers())]
        scores = [output for output in others if output not in labels and not output.integers]
        scores = by_name(scores, SCORES) or scores
        if labels and (scores or boxes.shape[1] == 5):
            yield from behind_nms(boxes, scores[:1], labels[0], outputs, context)


def is_vector(output: Output, count: int) -> bool:
    """Whether an output has a number for each row."""
    return math.prod(output.shape) == count


def by_name(outputs: Iterable[Output], names: tuple[str, ...]) -> list[Output]:
    """Those with one of some names."""
    return [output for output in outputs if output.name in names]


def behind_nms(
    boxes: Output, scores: list[Output], labels: Output, outputs: list[Output], context: Context
) -> Readings:
    """The reading of boxes, scores and labels that lie in outputs of their own."""
    tensors = {"boxes": boxes.name, "labels": labels.name} | ({"scores": scores[0].name} if scores else {})
    counts = [each for each in outputs if math.prod(each.shape) == 1 and each.name not in tensors.values()]
    tensors |= {"count": counts[0].name} if counts else {}
    decode = {"kind": "after_nms", "tensors": tensors}
    why = {"kind": "a label and a score for each box", "tensors": "by their shapes and types"}
    table = boxes.rows()
    score = table[:, 4] if boxes.shape[1] == 5 else scores[0].numbers()
    real = table[score > 0][:, :4] if len(score) == len(table) else table[:, :4]
    guesses = describe_boxes(real, context, decode, why)
    number = labels.numbers()[: len(score)]
    guesses |= describe_labels(number[score[: len(number)] > 0], decode, why)
    form = "counted" if counts else "scored_boxes" if boxes.shape[1] == 5 else "vectors"
    yield Reading(form, decode, 0, why, frozenset(guesses))


def describe_boxes(boxes: np.ndarray, context: Context, decode: dict, why: dict) -> set[str]:
    """Write form and unit of boxes; the keys that are guesses."""
    guesses = set()
    unit = values.coordinates(boxes)
    if context.told_size and unit == "pixels":
        decode["coordinates"] = "original"
        why["coordinates"] = "an input tells the graph the size of the original image"
    elif unit == "normalised":
        decode["coordinates"] = unit
        why["coordinates"] = f"no number of a box is above {values.NORMALISED:g}"
        guesses |= {"coordinates"} if len(boxes) < values.ENOUGH else set()
    elif not len(boxes):
        guesses.add("coordinates")
        decode["coordinates"], why["coordinates"] = unit, "the usual unit; the run found no box"
    forms = values.forms_apart(boxes, context.canvas, decode.get("coordinates") == "normalised")
    if decode.get("coordinates") == "original":
        forms = forms if len(boxes) >= values.ENOUGH and len(forms) == 1 else list(values.FORMS)
    decode["box"] = forms[0]
    if len(boxes) < values.ENOUGH:
        guesses.add("box")
        why["box"] = f"the usual form; the run found {len(boxes)} boxes, too few to tell"
    else:
        others = f", though {', '.join(forms[1:])} would fit too" if len(forms) > 1 else ""
        why["box"] = f"the {len(boxes)} boxes of the run fit it{others}"
        guesses |= {"box"} if len(forms) > 1 and forms[0] != "xyxy" else set()
    return guesses


def describe_labels(labels: np.ndarray, decode: dict, why: dict) -> set[str]:
    """Write where labels begin; whether that is a guess."""
    if labels.size and labels.min() == 0:
        return set()  # they begin at 0, the default
    why["labels_from"] = f"the usual; the {labels.size} labels of the run do not show a 0"
    decode["labels_from"] = 0
    return {"labels_from"}


def matrix(outputs: list[Output], context: Context) -> Readings:
    """One table of K rows with box, score and label, and perhaps a count."""
    tables = [each for each in outputs if len(each.shape) == 2 and each.shape[1] in ORDERS and not each.integers]
    others = [each for each in outputs if each not in tables]
    if len(tables) != 1 or not all(math.prod(each.shape) == 1 for each in others):
        return
    output = tables[0]
    if output.shape[0] > MOST_ROWS and values.grid_of(output.shape[0], context.canvas):
        return
    table = output.rows()
    real = table[np.abs(table).max(axis=1) > 0] if len(table) else table
    orders = {order: form for order, form in ORDERS[output.shape[1]].items() if fits(real, order, context)}
    if not orders and len(real) < values.ENOUGH:
        orders = ORDERS[output.shape[1]]
    for order, form in orders.items():
        decode = {"kind": "after_nms", "columns": list(order)}
        why = {"kind": f"rows of {output.shape[1]} numbers", "columns": "whole numbers, scores and corners are there"}
        if others:
            decode["tensors"] = {"boxes": output.name, "count": others[0].name}
            why["tensors"] = "one number beside the table is how many rows count"
        place = columns_of(order)
        guesses = describe_boxes(real[:, place["box"] : place["box"] + 4], context, decode, why)
        guesses |= describe_labels(real[:, place["label"]], decode, why)
        if len(real) < values.ENOUGH or len(orders) != 1:
            guesses.add("columns")
            why["columns"] = f"the usual order; the {len(real)} rows of the run do not tell"
        yield Reading(form, decode, 0, why, frozenset(guesses))


def columns_of(order: tuple[str, ...]) -> dict[str, int]:
    """Where each part of a row begins."""
    starts, at = {}, 0
    for part in order:
        starts[part] = at
        at += 4 if part == "box" else 1
    return starts


def fits(table: np.ndarray, order: tuple[str, ...], context: Context) -> bool:
    """Whether the columns hold what an order says."""
    place = columns_of(order)
    label, score = table[:, place["label"]], table[:, place["score"]]
    known = context.classes
    return (
        values.are_whole(label)
        and (known is None or not label.size or label.max() <= known)
        and values.are_probabilities(score)
        and ("batch" not in place or not table.size or table[:, place["batch"]].max() <= 0)
    )
