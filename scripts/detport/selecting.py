"""From boxes and scores to detections: minimum score, best candidates, suppression, the way back to the image.

The order of these is that of the published evaluations. A pair is a box and one class of it.
"""

from typing import NamedTuple

import numpy as np

from detport import boxes as boxlib
from detport import decoders
from detport.activations import sigmoid, softmax
from detport.errors import Failure

ROUNDING = 1e-3  # a probability may leave 0..1 by so much in a device's arithmetic


class Pairs(NamedTuple):
    """Parallel arrays, best first: the row of the box in the outputs, the class from 0, the score."""

    rows: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def take(self, chosen: np.ndarray) -> "Pairs":
        """Some of them, in that order."""
        return Pairs(*(values[chosen] for values in self))


def candidates(
    table: np.ndarray,
    objectness: np.ndarray | None,
    options: dict,
    classes: list,
    image: dict,
    levels: np.ndarray | None = None,
    most: int | None = None,
) -> Pairs:
    """The pairs whose score is above `score_above`, of too many the best.

    `table` [N, C] has the scores of classes, or logits where there is an `activation`; `objectness` [N] is that of the
    box itself; `classes` are the categories, None where there is none; `levels` [N] are the groups of `candidates_of:
    level`; `most` is how many of the best are wanted at all. Only the maximum of every box is looked at, all else is
    computed for the few that pass.
    """
    if options["activation"] == "softmax":
        table = softmax(table)
    wanted = np.flatnonzero([category is not None for category in classes])
    table = table[:, wanted[0] : wanted[-1] + 1] if np.ptp(wanted) < len(wanted) else table[:, wanted]
    with np.errstate(invalid="ignore"):  # a root of a negative number is refused below
        factor = None if objectness is None else activated(objectness, options) ** options["objectness_power"]
        ranked_by = None if options["filter_by"] == "class" else factor
        best = joined(table.max(axis=1), ranked_by, options)
        refuse(~(best <= 1 + ROUNDING), best, np.arange(len(best)), image)
        rows = np.flatnonzero(best > options["score_above"])
        if most and rows.size > most:  # a pair of any other box has as many better ones before it
            rows = rows[best[rows] >= np.partition(best[rows], -most)[-most]]
        table = joined(table[rows], None if ranked_by is None else ranked_by[rows, None], options)
    refuse(table < -ROUNDING, table, rows, image)
    limits = [most, options["candidates"] if options["candidates_of"] == "all" else None]
    count = min((limit for limit in limits if limit), default=None)
    if options["multi_label"]:
        values = table.reshape(-1)
        chosen = above(values, options["score_above"], count)
        place, labels = np.divmod(chosen, table.shape[1])
    else:
        every = table.argmax(axis=1) if rows.size else rows
        values = table[np.arange(rows.size), every]
        chosen = place = above(values, options["score_above"], count)
        labels = every[chosen]
    pairs = best_first(Pairs(rows[place], wanted[labels], values[chosen]))
    if options["candidates"] and options["candidates_of"] != "all":
        groups = pairs.labels if options["candidates_of"] == "class" else levels[pairs.rows]
        pairs = pairs.take(places_in_groups(groups) < options["candidates"])
    if factor is not None and options["filter_by"] == "class":
        pairs = best_first(pairs._replace(scores=pairs.scores * factor[pairs.rows]))
    return pairs


def activated(values: np.ndarray, options: dict) -> np.ndarray:
    """Scores of what may be logits; softmax has become scores already, and is of classes only."""
    return sigmoid(values) if options["activation"] == "sigmoid" else values


def joined(classes: np.ndarray, factor: np.ndarray | None, options: dict) -> np.ndarray:
    """The scores of classes, times the box's own."""
    scores = activated(classes, options)
    if options["class_power"] != 1:
        scores = scores ** options["class_power"]
    return scores if factor is None else scores * factor


def refuse(wrong: np.ndarray, scores: np.ndarray, rows: np.ndarray, image: dict) -> None:
    """Refuse scores that are none, as logits are and NaN; `rows` are theirs in the outputs."""
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        raise Failure(
            f"{image['file']!r}: row {rows[place[0]]} of the outputs scores {scores[place]:g}, which is no score: set"
            " decode.activation if these are logits, or correct decode.columns, decode.tensors or the order of outputs"
        )


def above(values: np.ndarray, floor: float, count: int | None) -> np.ndarray:
    """Places of values above a floor; if they are more than `count`, of the best, and of equal ones the first."""
    if count and values.size > count:
        last = np.partition(values, -count)[-count]
        if last > floor:
            better, equal = np.flatnonzero(values > last), np.flatnonzero(values == last)
            return np.sort(np.concatenate([better, equal[: count - better.size]]))
    return np.flatnonzero(values > floor)


def best_first(pairs: Pairs) -> Pairs:
    """Sorted by score; equal ones keep their order."""
    return pairs.take(np.argsort(-pairs.scores, kind="stable"))


def places_in_groups(groups: np.ndarray) -> np.ndarray:
    """For every element how many of its group come before it."""
    order = np.argsort(groups, kind="stable")
    together = groups[order]
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - np.searchsorted(together, together)
    return places


def detections(boxes: np.ndarray, pairs: Pairs, options: dict, image: dict) -> tuple[np.ndarray, Pairs]:
    """What is left of pairs, best first, and its boxes in the original image.

    `boxes` x1 y1 x2 y2 are those of the pairs, in pixels of the network input or, with `coordinates: original`, of the
    image.
    """
    decoders.require_finite(boxes, pairs.rows, "the boxes", image)
    original = options["coordinates"] == "original"
    if options["clip"] == "before_nms":
        boxes = boxlib.clip_to_image(boxes, image) if original else boxlib.clip_to_placed(boxes, image)
    classes = np.zeros_like(pairs.labels) if options["agnostic"] else pairs.labels
    limit = options["max_detections"]
    if options["nms"] == "hard":
        kept = boxlib.nms(boxes, pairs.scores, classes, options["nms_iou"], limit, options["iou_plus"])
        pairs = pairs.take(kept)
    elif options["nms"] == "soft":
        floor = options["score_above"]
        kept, scores = boxlib.soft_nms(boxes, pairs.scores, classes, options["soft_sigma"], floor, limit)
        pairs = pairs.take(kept)._replace(scores=scores)
    else:
        kept = slice(limit)
        pairs = pairs.take(kept)
    boxes = boxes[kept] if original else boxlib.to_original(boxes[kept], image)
    return boxlib.clip_to_image(boxes, image) if options["clip"] == "after_nms" else boxes, pairs


def results(boxes: np.ndarray, pairs: Pairs, classes: list, image: dict) -> list[dict]:
    """COCO result rows from boxes in the original image and the categories of classes."""
    corners = boxes.astype(np.float64)  # exact differences: x + w gives x2 back
    corners[:, 2:] -= corners[:, :2]
    return [
        {"image_id": image["image_id"], "category_id": classes[label], "bbox": box, "score": score}
        for label, box, score in zip(pairs.labels.tolist(), corners.tolist(), pairs.scores.tolist(), strict=True)
    ]
