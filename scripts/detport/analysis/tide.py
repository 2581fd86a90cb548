"""What the AP at an IoU of 0.5 would gain if all errors of one kind were fixed (TIDE).

A detection of the wrong class or place becomes a find if nothing else has found its object and it is the best of those
that could, else it goes; of the other kinds it goes; a missed object is no longer asked for.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from detport.analysis.matching import CLS, KINDS, LOC, MISS, NONE, TRUE, Image, Matched

POINTS = np.arange(101) / 100  # recalls at which COCO reads the precision


class Table(NamedTuple):
    """All detections of a dataset, and all its objects, by rows."""

    image: np.ndarray  # of the detections: the position of their image
    category: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    about: np.ndarray  # the row of their object, or NONE
    ignored: np.ndarray
    objects: np.ndarray  # categories of the objects
    image_of: np.ndarray  # the position of the objects' image
    found: np.ndarray  # of the objects: whether a detection has found them
    missed: np.ndarray  # and whether nothing could have


def table(images: Iterable[Image], matches: Iterable[Matched], categories: list) -> Table:
    """The images one behind the other; categories become their positions in the list."""
    number = {category: i for i, category in enumerate(categories)}
    columns: list[list] = [[] for _ in range(8)]
    start = 0
    for i, (image, matched) in enumerate(zip(images, matches, strict=True)):
        columns[0].append(np.full(len(image.rows), i))
        columns[1].append(np.array([number[row["category_id"]] for row in image.rows], int))
        columns[2].append(np.array([row["score"] for row in image.rows], float))
        columns[3].append(matched.kinds)
        columns[4].append(np.where(matched.objects == NONE, NONE, matched.objects + start))
        columns[5].append(matched.ignored)
        columns[6].append(np.array([number[each["category_id"]] for each in image.objects], int))
        columns[7].append(np.full(len(image.objects), i))
        start += len(image.objects)
    place, category, score, kind, about, ignored, objects, image_of = map(joined, columns)
    found, near = np.zeros(start, bool), np.zeros(start, bool)
    found[about[kind == TRUE]] = True
    near[about[np.isin(kind, (CLS, LOC))]] = True
    missed = ~(found | near)
    return Table(
        place, category, score.astype(float), kind, about, ignored.astype(bool), objects, image_of, found, missed
    )


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """One behind the other; whole numbers where there is none."""
    return np.concatenate(parts) if parts else np.zeros(0, int)


def gains(found: Table) -> dict:
    """The AP at an IoU of 0.5 as TIDE counts it, and of each kind the number of errors and the gain."""
    before = mean_ap(*outcomes(found, NONE))
    result = {}
    for kind, name in enumerate(KINDS):
        count = found.missed.sum() if name == "miss" else ((found.kind == kind) & ~found.ignored).sum()
        result[name] = {"count": int(count), "gain": max(mean_ap(*outcomes(found, kind)) - before, 0.0)}
    return {"AP50": before, "kinds": result}


def outcomes(found: Table, fixed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the detections that count once a kind is fixed (NONE: none): class, score, whether they are true; and the
    classes of the objects that are asked for."""
    kept, true, category, asked = ~found.ignored, found.kind == TRUE, found.category, found.objects
    order = np.arange(len(true))
    if fixed != NONE:
        order = np.argsort(true, kind="stable")  # as in TIDE, where an error stands before a find of the same score
        mended = best_of_each(found) & (found.kind == fixed)
        category = category.copy()
        category[mended] = found.objects[found.about[mended]]
        kept = (kept & (found.kind != fixed)) | mended
        true = true | mended
    if fixed == MISS:
        asked = asked[~found.missed]
    order = order[kept[order]]
    return category[order], found.score[order], true[order], asked


def best_of_each(found: Table) -> np.ndarray:
    """Of the errors of class and place about one object that nothing has found, the one of the best score."""
    errors = np.flatnonzero(np.isin(found.kind, (CLS, LOC)))
    errors = errors[~found.found[found.about[errors]]]
    order = errors[np.argsort(-found.score[errors], kind="stable")]
    _, first = np.unique(found.about[order], return_index=True)
    best = np.zeros(len(found.kind), bool)
    best[order[first]] = True
    return best


def mean_ap(category: np.ndarray, score: np.ndarray, true: np.ndarray, objects: np.ndarray) -> float:
    """The mean over all classes that have an object or a detection."""
    kinds = np.union1d(category, objects)
    if not kinds.size:
        return 0.0
    aps = []
    for kind in kinds:
        own = category == kind
        order = np.argsort(-score[own], kind="stable")
        aps.append(average_precision(true[own][order], int((objects == kind).sum())))
    return sum(aps) / len(aps)


def average_precision(true: np.ndarray, objects: int) -> float:
    """The mean of the precision at 101 recalls; `true` are a class's detections, best score first."""
    return float(precisions(true, objects).mean())


def precisions(true: np.ndarray, objects: int) -> np.ndarray:
    """At each of the 101 recalls the best precision at this recall or a larger one; 0 where it is not reached."""
    if not objects or not len(true):
        return np.zeros(len(POINTS))
    found = np.cumsum(true)
    envelope = np.maximum.accumulate((found / np.arange(1, len(true) + 1))[::-1])[::-1]
    places = np.searchsorted(found / objects, POINTS, side="left")
    return np.append(envelope, 0)[places]
