"""Outputs with scores of all classes for each box: one table, or boxes and scores apart."""

import numpy as np

from detport.readings import values
from detport.readings.forms import Context, Reading, Readings
from detport.readings.values import Grid, Output

QUERIES = 1000  # rows; more are cells, for which NMS is to do
USUAL_CLASSES = (80, 1, 20, 91, 90, 365)
YOLO_ANCHORS = 3  # of a cell
COEFFICIENTS = 32  # of YOLO's masks
BINS = (8, 16, 17, 33, 5)  # of a distribution over distances: NanoDet's, YOLOv8's, GFL's …


def oriented(output: Output, context: Context) -> list[tuple[np.ndarray, str]]:
    """The output as [rows, numbers] and which way round, the likelier way first."""
    if len(output.shape) != 2 or output.integers or output.varies:
        return []
    last, first = output.rows(), np.concatenate([each.T for each in output.arrays]).astype(np.float64)
    ways = [(last, "last", output.shape[0]), (first, "first", output.shape[1])]
    ways.sort(key=lambda way: (values.grid_of(way[2], context.canvas, 3) is None, way[0].shape[1]))
    return [(table, side) for table, side, _ in ways if table.shape[1] > 1]


def per_cell(grid: Grid) -> str:
    return "a row for each cell" if grid.anchors == 1 else f"{grid.anchors} rows for each cell"


def grid_for(table: np.ndarray, runs: int, context: Context, most: int = 9) -> Grid | None:
    return values.grid_of(len(table) // runs, context.canvas, most)


def first_run(table: np.ndarray, runs: int) -> np.ndarray:
    return table[: len(table) // runs]


def together(outputs: list[Output], context: Context) -> Readings:
    """One table whose rows hold box, objectness and scores; of several heads the last is the likeliest. Maps beside it
    are prototypes of masks, or the same once more before the last layer, which nobody reads."""
    maps = [each for each in outputs if len(each.shape) == 3 and each.shape[0] == COEFFICIENTS][:1]
    tables = [each for each in outputs if len(each.shape) == 2 and not each.integers]
    if len({each.shape for each in tables}) != 1:
        return
    for output in reversed(tables):
        tensors = {"rows": output.name} | ({"masks": maps[0].name} if maps else {})
        for reading in of_table(output, context, maps):
            if len(outputs) > 1:
                why = "the others are not read" if len(tables) == 1 else "of several heads the last is usually meant"
                guesses = reading.guesses | ({"tensors"} if len(tables) > 1 else set())
                decode, why = reading.decode | {"tensors": tensors}, reading.why | {"tensors": why}
                reading = reading._replace(decode=decode, why=why, guesses=guesses)
            yield reading


def of_table(output: Output, context: Context, maps: list[Output]) -> Readings:
    """One table alone."""
    for table, _ in oriented(output, context)[:1]:
        numbers, runs = table.shape[1], len(output.arrays)
        grid = grid_for(table, runs, context)
        few = len(table) // runs <= QUERIES
        form = values.form_on_grid(first_run(table, runs)[:, :4], grid, context.canvas) if grid else None
        if numbers < 5:
            return
        if grid and form is None:
            yield from raw(table, grid, context)
        elif form is None and few:
            yield from queries_in_one(table, context, maps)
        else:
            yield from decoded(table, grid, form, context, maps)


def decoded(table: np.ndarray, grid: Grid | None, form: str | None, context: Context, maps: list[Output]) -> Readings:
    """Boxes that the graph has made, of cells."""
    spare = COEFFICIENTS * len(maps)
    for objectness, reason, sure in has_objectness(table.shape[1] - 4 - spare, grid, context):
        count = table.shape[1] - 4 - spare - objectness
        decode = {"kind": "dense", "box": form or "cxcywh", "objectness": objectness}
        cells = f"{per_cell(grid)} of strides {list(grid.strides)}" if grid else "rows of no grid that is known"
        why = {"kind": cells, "objectness": reason}
        guesses = set() if sure else {"objectness"}
        why["box"] = "in this form boxes lie where their cells are" if form else "the usual form"
        guesses |= set() if form else {"box"}
        if values.coordinates(table[:, :4]) == "normalised":
            decode["coordinates"], why["coordinates"] = "normalised", "no number of a box is above 2"
        activation_of(table[:, 4 : 4 + objectness + count], decode, why)
        if maps:
            decode["masks"] = {"form": "prototypes", "activation": "none", "threshold": 0}
            why["masks"] = f"{maps[0].name} has {COEFFICIENTS} maps; mixed, they are above 0 inside"
        yield Reading("dense_objectness" if objectness else "dense", decode, count, why, frozenset(guesses))


def has_objectness(numbers: int, grid: Grid | None, context: Context) -> list[tuple[bool, str, bool]]:
    """Whether rows with so many numbers behind the box have objectness, why, and whether that is sure."""
    if context.classes in (numbers, numbers - 1):
        own = context.classes == numbers - 1
        return [(own, f"4 + {'1 + ' * own}{context.classes} numbers, as many as there are classes", True)]
    anchors = grid is not None and grid.anchors > 1
    if numbers in USUAL_CLASSES and not anchors:
        found = [(False, f"4 + {numbers} numbers", False), (True, f"4 + 1 + {numbers - 1} numbers", False)]
    else:
        found = [(True, f"4 + 1 + {numbers - 1} numbers", False), (False, f"4 + {numbers} numbers", False)]
    return [each for each in found if numbers > each[0]]


def activation_of(scores: np.ndarray, decode: dict, why: dict) -> None:
    """Say what is still to be applied to scores, if anything is."""
    if not values.are_probabilities(scores):
        decode["activation"], why["activation"] = "sigmoid", "scores go beyond 0..1: logits"


def raw(table: np.ndarray, grid: Grid, context: Context) -> Readings:
    """Numbers from which boxes are still to be made, cell by cell: YOLOX's, NanoDet's, YOLO's with anchors."""
    numbers, strides = table.shape[1], list(grid.strides)
    lies = f"{per_cell(grid)} of strides {strides}, whose boxes do not lie there yet"
    for bins in BINS:
        count = numbers - 4 * bins
        if count < 1 or context.classes not in (None, count) or grid.anchors > 1:
            continue
        if values.are_probabilities(table[:, :count]) and not values.are_probabilities(table[:, count:]):
            decode = {"kind": "distances", "strides": strides, "bins": bins, "objectness": False}
            decode |= {"columns": ["classes", "boxes"], "point": 0 if len(strides) > 3 else 0.5}
            why = {"kind": f"{count} scores and 4 x {bins} logits", "strides": lies, "bins": f"4 x {bins} logits"}
            why |= {"objectness": "scores and distributions are all there is", "columns": "scores are in 0..1"}
            why["point"] = "NanoDet-Plus, which has four strides, has 0; NanoDet 0.x has 0.5"
            yield Reading("distributions", decode, count, why, frozenset({"point"}))
            return
    count = numbers - 5
    if count < 1 or (context.classes or count) != count:
        return
    if grid.anchors not in (1, YOLO_ANCHORS):
        return
    done = values.are_probabilities(table[:, 4:])
    why = {"kind": lies, "strides": "that grid has as many rows", "objectness": f"4 + 1 + {count} numbers"}
    decode = {"kind": "cells", "strides": strides, "objectness": True}
    if grid.anchors == 1:
        decode |= {"centre": "none", "size": "exp"}
        why |= {"centre": "YOLOX's form, offsets as they are", "size": "YOLOX's form, logarithms of sides"}
        form, guesses = "offsets", {"centre", "size"}
    else:
        decode |= {"centre": "none" if done else "sigmoid", "scale_x_y": 2, "size": "square"}
        why |= dict.fromkeys(("centre", "scale_x_y", "size"), "YOLOv5's form; Darknet has scale_x_y 1 and size exp")
        decode |= {"anchors": anchors_of(grid.anchors), "anchors_in": "strides"}
        why |= dict.fromkeys(("anchors", "anchors_in"), f"{grid.anchors} for each cell is all that the outputs tell")
        form, guesses = "anchored_rows", {"centre", "scale_x_y", "size", "anchors", "anchors_in"}
    activation_of(table[:, 4:], decode, why)
    yield Reading(form, decode, count, why, frozenset(guesses))


def queries_in_one(table: np.ndarray, context: Context, maps: list[Output]) -> Readings:
    """A box and the scores of all classes for each query of a transformer."""
    count = table.shape[1] - 4
    boxes, scores = table[:, :4], table[:, 4:]
    if (
        maps
        or count < 1
        or boxes.std() == 0
        or (context.classes or count) != count
        or not values.are_probabilities(boxes)
    ):
        return
    decode = {"kind": "dense", "box": "cxcywh", "objectness": False, "coordinates": "normalised", "nms": "none"}
    why = {"kind": f"{len(table)} rows, no grid's", "box": "transformers have centre and sides"}
    why |= {
        "objectness": f"4 + {count} numbers",
        "coordinates": "all are in 0..1",
        "nms": "queries do not repeat boxes",
    }
    activation_of(scores, decode, why)
    yield Reading("normalised_rows", decode, count, why, frozenset({"box", "nms"}))


def apart(outputs: list[Output], context: Context) -> Readings:
    """Boxes in one output and scores of all classes in another, rows in either axis; others are not read."""
    tables = [each for each in outputs if len(each.shape) == 2 and 4 in each.shape and not each.integers]
    tables = [each for each in tables if not each.varies]
    for boxes in sorted(tables, key=lambda each: looks_like_scores(each, context))[:1]:
        for table, _ in (way for way in oriented(boxes, context) if way[0].shape[1] == 4):
            rows = len(table) // len(boxes.arrays)
            found = [each for each in outputs if each is not boxes and holds_scores(each, rows, context)]
            triples = [each for each in outputs if each.integers and each.shape[-1:] == (3,)]
            if found and rows > 1:
                yield from with_scores(boxes, table, sorted_by_likeness(found)[0], rows, triples, context)
            break


def holds_scores(output: Output, rows: int, context: Context) -> bool:
    """Whether an output can have scores of all classes for so many rows."""
    if len(output.shape) != 2 or rows not in output.shape or output.integers or output.varies:
        return False
    count = output.shape[1] if output.shape[0] == rows else output.shape[0]
    known = context.classes
    return known is None or count in (known, known + 1)


def looks_like_scores(output: Output, context: Context) -> tuple[bool, bool]:
    """Whether four numbers are scores or logits of four classes rather than a box."""
    table = output.rows() if output.shape[1] == 4 else np.concatenate([each.T for each in output.arrays])
    return values.sum_to_one(table), not plausible(table, values.coordinates(table) == "normalised", context)


def sorted_by_likeness(found: list[Output]) -> list[Output]:
    """Outputs that look most like scores first: probabilities, then those with most classes."""
    return sorted(found, key=lambda each: (not values.are_probabilities(each.rows()), -min(each.shape)))


def with_scores(
    boxes: Output, table: np.ndarray, scores: Output, rows: int, triples: list[Output], context: Context
) -> Readings:
    """The reading of boxes and their scores."""
    turned = scores.shape[0] != rows
    classes = np.concatenate([each.T if turned else each for each in scores.arrays]).astype(np.float64)
    count, runs = classes.shape[1], len(boxes.arrays)
    grid = values.grid_of(rows, context.canvas)
    form = values.form_on_grid(first_run(table, runs), grid, context.canvas) if grid else None
    tensors = {"boxes": boxes.name, "classes": scores.name}
    why = {"tensors": "4 numbers and one for each class in as many rows"}
    if triples:
        tensors = {"boxes": boxes.name, "scores": scores.name, "indices": triples[0].name}
        why |= {"kind": f"{triples[0].name} holds triples of image, class and box, as NonMaxSuppression gives them"}
        decode = {"kind": "after_nms", "tensors": tensors, "box": "yxyx"}
        why["box"] = "NonMaxSuppression takes y first"
        if context.told_size:
            decode["coordinates"], why["coordinates"] = "original", "an input tells the graph the original size"
        yield Reading("triples", decode, count, why, frozenset({"box"}))
        return
    decode = {"kind": "dense", "tensors": tensors, "objectness": False}
    why |= {"kind": f"{rows} boxes with {count} scores", "objectness": "no output has one number for each row"}
    guesses = set()
    normalised = values.coordinates(table) == "normalised"
    if form is None and grid is not None and not plausible(table, normalised, context):
        yield from raw_apart(tensors, classes, grid, context)
        return
    if normalised:
        decode["coordinates"], why["coordinates"] = "normalised", f"no number of a box is above {values.NORMALISED:g}"
    probable = values.are_probabilities(classes)
    if probable and values.sum_to_one(classes):
        decode["background"] = values.background(classes)
        why["background"] = "scores add up to 1, and nearly all rows are of this class"
    elif not probable:
        softmax = count == (context.classes or count) + 1
        decode["activation"] = "softmax" if softmax else "sigmoid"
        why["activation"] = "scores go beyond 0..1: logits"
        why["activation"] += ", one more than there are classes" if softmax else ""
        if softmax:
            decode["background"], why["background"] = "last", "one class more than there are, the last as DETR has it"
            guesses.add("background")
        guesses |= {"activation"} if context.classes is None else set()
    queries = rows <= QUERIES and grid is None
    if queries:
        decode["nms"], why["nms"] = "none", f"{rows} rows are queries, which do not repeat boxes"
        guesses.add("nms")
    if form:
        decode["box"], why["box"] = form, "in this form boxes lie where their cells are"
    else:
        forms = values.forms_apart(best(table, classes), context.canvas, normalised)
        decode["box"] = "cxcywh" if queries and "cxcywh" in forms else forms[0]
        why["box"] = f"fits the boxes of the run{f', as {len(forms) - 1} other forms do' if len(forms) > 1 else ''}"
        guesses |= {"box"} if len(forms) > 1 else set()
    yield Reading(form_word(decode, queries), decode, count, why, frozenset(guesses))


def raw_apart(tensors: dict, classes: np.ndarray, grid: Grid, context: Context) -> Readings:
    """Deltas of anchors or distances from points, from which boxes are still to be made."""
    count = classes.shape[1]
    why = {"tensors": "4 numbers and one for each class in as many rows", "strides": "that grid has as many rows"}
    why["kind"] = f"{per_cell(grid)} of strides {list(grid.strides)}, whose boxes do not lie there yet"
    why["objectness"] = "no output has one number for each row"
    decode = {"tensors": tensors, "strides": list(grid.strides), "objectness": False}
    if grid.anchors == 1:
        decode = {"kind": "distances", **decode, "point": 0.5}
        why["point"] = "the usual, the middle of a cell"
        guesses = {"kind", "point"}
    else:
        decode = {"kind": "anchors", **decode, "point": 0.5, "variances": [0.1, 0.1, 0.2, 0.2]}
        decode |= {"anchors": anchors_of(grid.anchors), "anchors_in": "strides"}
        why |= {"point": "the usual, the middle of a cell", "variances": "the usual, those of SSD"}
        why |= dict.fromkeys(("anchors", "anchors_in"), f"{grid.anchors} for each cell is all that the outputs tell")
        guesses = {"kind", "point", "variances", "anchors", "anchors_in"}
    if values.are_probabilities(classes) and values.sum_to_one(classes):
        decode["background"], why["background"] = values.background(classes), "nearly all rows are of this class"
    else:
        activation_of(classes, decode, why)
    yield Reading("anchor_rows" if grid.anchors > 1 else "distances", decode, count, why, frozenset(guesses))


def anchors_of(count: int) -> list[list[list[float]]]:
    """Squares of one level, in strides: a guess that only has their number right."""
    return [[[round(4 * 2 ** (i / count), 3)] * 2 for i in range(count)]]


def plausible(table: np.ndarray, normalised: bool, context: Context) -> bool:
    """Whether boxes can be boxes: corners in order, inside the canvas."""
    forms = values.forms_apart(table, context.canvas, normalised)
    return len(forms) < len(values.FORMS)


def best(table: np.ndarray, classes: np.ndarray, count: int = 200) -> np.ndarray:
    """The boxes with the highest scores; those of nothing have any form."""
    return table[np.argsort(-classes.max(axis=1))[:count]]


def form_word(decode: dict, queries: bool) -> str:
    if queries:
        return "queries"
    return "background_first" if decode.get("background") == "first" else "boxes_and_scores"
