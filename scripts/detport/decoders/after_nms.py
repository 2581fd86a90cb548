"""Boxes with one score and one label each, as they leave an NMS or a selection of queries; it may still be to do."""

import numpy as np

from detport import boxes as boxlib
from detport import canvases, decoders, labelled, layouts, masks, selecting
from detport.errors import Failure

NEEDS = ("width", "height", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best first; where nothing is suppressed or limited, class by class in the network's order."""
    shapes = {name: value.shape for name, value in outputs.items()}
    mask_output = layouts.mask_output(shapes, options)
    classes = decoders.classes(categories, options["background"])
    found = labelled.read(
        {name: outputs[name] for name in outputs if name != mask_output}, options, len(classes), image
    )
    selecting.refuse(~(found.scores <= 1 + selecting.ROUNDING), found.scores, found.rows, image)
    filled = np.flatnonzero(found.scores > options["score_above"])
    labels = known(found.labels[filled], found.rows[filled], options["labels_from"], len(classes), image)
    wanted = np.array([category is not None for category in classes])[labels]
    pairs = selecting.Pairs(filled, labels, found.scores[filled]).take(wanted)
    if options["nms"] == "none" and options["max_detections"] is None:
        pairs = pairs.take(np.argsort(pairs.labels, kind="stable"))
    else:
        pairs = selecting.best_first(pairs)
    boxes = boxlib.to_corners(found.boxes[pairs.rows], options["box"])
    if options["coordinates"] == "normalised":
        boxes = boxlib.to_pixels(boxes, canvases.size_of(image))
    boxes, pairs = selecting.detections(boxes, pairs, options, image)
    results = selecting.results(boxes, pairs, classes, image)
    if mask_output:
        source = masks.source(outputs[mask_output], found.coefficients, found.count, options["masks"])
        masks.add(results, source, found.rows[pairs.rows], boxes, image)
    return results


def known(labels: np.ndarray, rows: np.ndarray, first: int, count: int, image: dict) -> np.ndarray:
    """The class, counted from 0, of every label; `first` is the label of the first of `count` classes.

    A label beyond them is a Failure: dropped, it would only make the accuracy a little lower.
    """
    found = labels.astype(np.int64) - first
    strange = np.flatnonzero((found < 0) | (found >= count) | (found + first != labels))
    if strange.size:
        raise Failure(
            f"{image['file']!r}: row {rows[strange[0]]} of the outputs has the label {labels[strange[0]]:g}; by"
            f" decode.categories, background and labels_from there are {first} to {first + count - 1}. Correct them"
        )
    return found
