"""Detections of two rungs, paired one to one, and what changed between them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

OVERLAP = 0.5  # IoU from which on two boxes are of the same object
PERCENTILE = 99


class Pairs(NamedTuple):
    """Rows of two lists of detections: partners with their IoU, and those that have none."""

    partners: list[tuple[int, int, float]]
    lost: list[int]  # rows of the first list
    new: list[int]  # rows of the second


def paired(before: Sequence[dict], after: Sequence[dict]) -> Pairs:
    """Partners are of the same category and share at least half; those that share most find each other first, among
    equals those of the nearest scores."""
    if not before or not after:
        return Pairs([], list(range(len(before))), list(range(len(after))))
    shares = ious(before, after)
    same = np.array([[a["category_id"] == b["category_id"] for b in after] for a in before])
    scores = np.abs(np.subtract.outer([row["score"] for row in before], [row["score"] for row in after]))
    rows, columns = np.nonzero(same & (shares >= OVERLAP))
    order = np.lexsort((scores[rows, columns], -shares[rows, columns]))
    free = [set(range(len(before))), set(range(len(after)))]
    partners = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row in free[0] and column in free[1]:
            partners.append((row, column, float(shares[row, column])))
            free[0].remove(row)
            free[1].remove(column)
    return Pairs(sorted(partners), *map(sorted, free))


def ious(before: Sequence[dict], after: Sequence[dict]) -> np.ndarray:
    """IoU of every box of one list with every one of the other; boxes are x, y, width, height."""
    a, b = (np.array([row["bbox"] for row in rows], np.float64) for rows in (before, after))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    union = np.prod(a[:, 2:], axis=1)[:, None] + np.prod(b[:, 2:], axis=1) - shared
    same = (a[:, None] == b[None]).all(axis=2)  # boxes without area share nothing, not even with themselves
    return np.where(same, 1.0, shared / np.where(union > 0, union, 1.0))


def changes(before: Sequence[Sequence[dict]], after: Sequence[Sequence[dict]], score: float) -> dict:
    """What changed over all images, which are in the same order: counts of detections of at least `score`, and of
    partners of which one has it. A detection is `lost` or `new` only if it has no partner of any score."""
    counts = {"before": 0, "after": 0, "matched": 0, "lost": 0, "new": 0, "flips": 0}
    scores, boxes, shares, masks = [], [], [], []
    changed = []
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        found = paired(old, new)
        lost, more = (
            [row for row in rows if own[row]["score"] >= score] for rows, own in ((found.lost, old), (found.new, new))
        )
        flips = len(flipped(old, new, lost, found.new))
        kept = [each for each in found.partners if max(old[each[0]]["score"], new[each[1]]["score"]) >= score]
        for key, count in (("matched", len(kept)), ("lost", len(lost)), ("new", len(more)), ("flips", flips)):
            counts[key] += count
        for key, rows in (("before", old), ("after", new)):
            counts[key] += sum(row["score"] >= score for row in rows)
        for a, b, share in kept:
            scores.append(abs(old[a]["score"] - new[b]["score"]))
            boxes.append(float(np.abs(corners(old[a]) - corners(new[b])).max()))
            shares.append(share)
            if "segmentation" in old[a] and "segmentation" in new[b]:
                masks.append(mask_iou(old[a]["segmentation"], new[b]["segmentation"]))
        if lost or more:
            changed.append(i)
    return counts | {
        "score_shift": summary(scores),
        "box_shift": summary(boxes),
        "least_iou": min(shares, default=None),
        "least_mask_iou": min(masks, default=None),
        "images": changed,
    }


def flipped(old: Sequence[dict], new: Sequence[dict], lost: Sequence[int], free: Sequence[int]) -> list[int]:
    """Of the lost ones, those in whose place there is now one of another category that has no partner either."""
    if not lost or not free:
        return []
    shares = ious([old[row] for row in lost], [new[row] for row in free])
    return [row for row, best in zip(lost, shares.max(axis=1), strict=True) if best >= OVERLAP]


def corners(row: dict) -> np.ndarray:
    x, y, width, height = row["bbox"]
    return np.array([x, y, x + width, y + height])


def mask_iou(one: dict, other: dict) -> float:
    """IoU of two run-length encodings; two empty ones are the same."""
    if not coco_mask.area(one) and not coco_mask.area(other):
        return 1.0
    return float(coco_mask.iou([one], [other], [0])[0, 0])


def summary(values: Sequence[float]) -> dict | None:
    """The largest and the 99th percentile."""
    return {"largest": max(values), "p99": float(np.percentile(values, PERCENTILE))} if values else None
