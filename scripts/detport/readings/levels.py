"""Outputs by level: maps, or rows of one level each, from which boxes are still to be made."""

import math
from typing import NamedTuple

import numpy as np

from detport.readings import values
from detport.readings.forms import Context, Reading, Readings
from detport.readings.tables import activation_of, anchors_of
from detport.readings.values import Output

STRIDES = (4, 8, 16, 32, 64, 128)
BINS = (8, 16, 17, 33, 5, 7)  # numbers of a distribution over distances


class Part(NamedTuple):
    """An output of one level: its stride and how many numbers a cell has, as rows; `anchors` where an axis tells."""

    output: Output
    stride: int
    numbers: int
    table: np.ndarray
    anchors: int | None = None


def of_maps(outputs: list[Output], context: Context) -> Readings:
    """All outputs of levels, two or more."""
    parts = [part for output in outputs if (part := part_of(output, context))]
    strides = sorted({part.stride for part in parts})
    if len(parts) < 2 or len(parts) != len(outputs) or len(parts) % len(strides) or len(strides) < 2:
        return
    kinds: dict[int, list[Part]] = {}  # outputs with equal numbers, by level
    for part in parts:
        kinds.setdefault(part.numbers, []).append(part)
    groups = [sorted(group, key=lambda part: part.stride) for group in kinds.values()]
    if any([part.stride for part in group] != strides for group in groups):
        return
    lies = {"strides": f"the levels are as large as the input divided by {strides}"}
    if len(groups) == 1:
        yield from alone(groups[0], strides, lies, context)
    elif len(groups) == 2:
        yield from scores_and_boxes(groups, strides, lies, context)
    elif len(groups) == 3:
        yield from three(groups, strides, lies, context)


def part_of(output: Output, context: Context) -> Part | None:
    """An output as the rows of a level."""
    if output.varies:
        return None
    shape = output.shape
    for stride in STRIDES:
        size = tuple(math.ceil(side / stride) for side in context.canvas)
        if len(shape) == 3 and shape[1:] == size:
            return Part(output, stride, shape[0], table_of(output, (0, 2, 3, 1), shape[0]))
        if len(shape) == 3 and shape[:2] == size:
            return Part(output, stride, shape[2], table_of(output, (0, 1, 2, 3), shape[2]))
        if len(shape) == 4 and shape[1:3] == size:
            return Part(output, stride, shape[0] * shape[3], table_of(output, (0, 1, 2, 3, 4), shape[3]), shape[0])
        if len(shape) == 2 and shape[0] == math.prod(size):
            return Part(output, stride, shape[1], table_of(output, (0, 1, 2), shape[1]))
    return None


def table_of(output: Output, axes: tuple[int, ...], numbers: int) -> np.ndarray:
    """All runs as rows of so many numbers, which are last when the axes are in this order."""
    return np.stack(output.arrays).astype(np.float64).transpose(axes).reshape(-1, numbers)


def all_rows(group: list[Part]) -> np.ndarray:
    return np.concatenate([part.table for part in group])


def names_of(group: list[Part]) -> list[str]:
    return [part.output.name for part in group]


def alone(group: list[Part], strides: list[int], lies: dict, context: Context) -> Readings:
    """One output for each level: YOLO with anchors, or boxes as distributions with scores behind."""
    numbers, known = group[0].numbers, context.classes
    each = numbers // 3
    if numbers % 3 == 0 and each > 5 and known in (None, each - 5) and group[0].anchors in (None, 3):
        table = np.concatenate([part.table.reshape(-1, each) for part in group])
        done = values.are_probabilities(table[:, 4:])
        decode = {"kind": "cells", "tensors": {"rows": names_of(group)}, "strides": strides, "objectness": True}
        decode |= {"centre": "none" if done else "sigmoid", "scale_x_y": 2, "size": "square"}
        why = lies | {"kind": f"3 x (4 + 1 + {each - 5}) numbers for each cell", "tensors": "in the order of strides"}
        why |= {"objectness": f"4 + 1 + {each - 5} numbers"}
        why |= dict.fromkeys(("centre", "scale_x_y", "size"), "YOLOv5's form; Darknet has scale_x_y 1 and size exp")
        if done:
            decode["size_activation"], why["size_activation"] = "none", "the graph has applied the sigmoid"
        activation_of(table[:, 4:], decode, why)
        decode |= {"anchors": anchors_of(3), "anchors_in": "strides"}
        why |= dict.fromkeys(("anchors", "anchors_in"), "3 for each cell is all that the outputs tell")
        guesses = frozenset({"centre", "scale_x_y", "size", "anchors", "anchors_in"})
        yield Reading("anchored_maps", decode, each - 5, why, guesses)
    for bins in BINS:
        count = numbers - 4 * bins
        if count > 0 and (known == count or (known is None and bins == 16)):
            decode = {"kind": "distances", "tensors": {"rows": names_of(group)}, "strides": strides, "bins": bins}
            decode |= {"point": 0.5, "objectness": False, "columns": ["boxes", "classes"]}
            why = lies | dict.fromkeys(("kind", "bins", "columns"), f"4 x {bins} + {count} numbers for each cell")
            why |= {"tensors": "in the order of strides", "point": "the middle of a cell, as YOLOv8 has it"}
            why |= {"objectness": "distributions and scores are all there is"}
            activation_of(all_rows(group)[:, 4 * bins :], decode, why)
            yield Reading("raw_yolov8", decode, count, why, frozenset({"point"}))


def scores_and_boxes(groups: list[list[Part]], strides: list[int], lies: dict, context: Context) -> Readings:
    """Scores in one output of a level and boxes in another: PicoDet, RTMDet, RetinaNet."""
    for boxes, scores in (groups, groups[::-1]):
        count, numbers = scores[0].numbers, boxes[0].numbers
        bins = numbers // 4
        if numbers % 4 or (bins not in (1, *BINS) and numbers % 12 and numbers % 24):
            continue
        tensors = {"boxes": names_of(boxes), "classes": names_of(scores)}
        why = lies | {"tensors": f"{numbers} numbers are boxes, {count} scores; in the order of strides"}
        per_cell = {**lies, **why}
        if bins in (1, *BINS) and context.classes in (None, count) and likelier_scores(scores, boxes):
            decode = {"kind": "distances", "tensors": tensors, "strides": strides, "point": 0.5, "objectness": False}
            why = per_cell | {"kind": f"{numbers} numbers for each cell", "objectness": "there is no third output"}
            if bins > 1:
                decode["bins"], why["bins"] = bins, f"4 x {bins} numbers for each cell"
            why["point"] = "the usual, the middle of a cell; RTMDet and NanoDet-Plus have 0"
            guesses = {"point"}
            if bins == 1:
                decode["distances_in"] = "pixels" if float(np.median(np.abs(all_rows(boxes)))) > 8 else "strides"
                why["distances_in"] = "by how large they are"
                guesses.add("distances_in")
            activation_of(all_rows(scores), decode, why)
            yield Reading("distribution_levels" if bins > 1 else "distances", decode, count, why, frozenset(guesses))
            return
        anchors = numbers // 4
        if anchors > 1 and count % anchors == 0 and context.classes in (None, count // anchors, count // anchors - 1):
            decode = {"kind": "anchors", "tensors": tensors, "strides": strides, "objectness": False}
            decode |= {"point": 0.5, "variances": [1, 1, 1, 1]}
            decode |= {"anchors": anchors_of(anchors), "anchors_in": "strides"}
            per_cell |= dict.fromkeys(("anchors", "anchors_in"), f"{anchors} a cell is all that the outputs tell")
            why = per_cell | {"kind": f"{anchors} anchors of 4 deltas and {count // anchors} scores"}
            why |= {"objectness": "there is no third output"}
            why |= dict.fromkeys(("point", "variances"), "no number of a file tells; RetinaNet of torchvision has this")
            activation_of(all_rows(scores), decode, why)
            guesses = frozenset({"point", "variances", "anchors", "anchors_in"})
            yield Reading("anchor_maps", decode, count // anchors, why, guesses)
            return


def likelier_scores(scores: list[Part], boxes: list[Part]) -> bool:
    """Whether two groups are not the other way round: names lie, numbers do not."""
    if boxes[0].numbers == 4 or not values.are_probabilities(all_rows(boxes)):
        return True
    return not values.are_probabilities(all_rows(scores))


def three(groups: list[list[Part]], strides: list[int], lies: dict, context: Context) -> Readings:
    """Boxes, objectness or centreness, and scores apart: YOLOX and FCOS."""
    by_count = {group[0].numbers: group for group in groups}
    if not {1, 4} <= by_count.keys():
        return
    boxes, own = by_count[4], by_count[1]
    scores = next(group for count, group in by_count.items() if count not in (1, 4))
    count = scores[0].numbers
    if context.classes not in (None, count):
        return
    tensors = {"boxes": names_of(boxes), "objectness": names_of(own), "classes": names_of(scores)}
    why = lies | {"tensors": "4 numbers, 1 and one for each class; in the order of strides"}
    decode = {"tensors": tensors, "strides": strides, "objectness": True}
    why["objectness"] = "an output has one number for each cell"
    table = all_rows(boxes)
    if table.min() >= 0:
        decode = {"kind": "distances", **decode, "point": 0.5, "objectness_power": 0.5, "class_power": 0.5}
        why |= {"kind": "no number of a box is negative: distances to its sides", "point": "FCOS has the middle"}
        why |= dict.fromkeys(("objectness_power", "class_power"), "FCOS takes the root of centreness times score")
        guesses = {"kind", "point", "objectness_power", "class_power"}
    else:
        decode = {"kind": "cells", **decode, "centre": "none", "size": "exp"}
        why |= {"kind": "numbers of a box go below 0: offsets", "centre": "YOLOX's form", "size": "YOLOX's form"}
        guesses = {"kind", "centre", "size"}
    activation_of(np.concatenate([all_rows(scores), all_rows(own)], axis=1), decode, why)
    yield Reading("offsets" if decode["kind"] == "cells" else "centreness", decode, count, why, frozenset(guesses))
