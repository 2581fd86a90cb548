"""Which images teach something, and what the page needs to draw on them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from detport.analysis import matching, tide
from detport.analysis.matching import TRUE, Image, Matched
from detport.page import pictures

MOST, LEAST = 32, 16  # images, if there are as many
CANDIDATES = 200  # images of which the loss is computed
PARTS = (("worst", 10), ("missed", 5), ("false", 5), ("differ", 6), ("best", 6))
UNJUDGED = (("many", 10), ("sure", 6), ("faint", 6), ("differ", 6))  # without ground truth
SURE = 0.3  # score from which on detections are shown at first where no ground truth says which is best
FAINTEST = 0.05  # score of the detections that are drawn, unless one works with lower ones
DRAWN = 60  # detections of an image and backend
EXACT = 6  # digits of an overlap of masks


class Seen(NamedTuple):
    """What a backend found: images, what each detection is, and the score that one works with."""

    images: Sequence[Image]
    matches: Sequence[Matched]
    score: float


def choose(seen: Sequence[Seen], categories: list, judged: bool = True) -> dict[int, list[str]]:
    """Positions of the images to show with the reasons, first those where the first backend loses most AP; without
    ground truth those where it finds most.

    Equal ones come in the order of the dataset, so that the same detections always give the same images.
    """
    ranks = judged_ranks(seen, categories) if judged else unjudged_ranks(seen)
    chosen: dict[int, list[str]] = {}
    for reason, count in PARTS if judged else UNJUDGED:
        order = np.argsort(-ranks[reason], kind="stable")
        best = [int(i) for i in order if ranks[reason][i] > 0][:count]
        for i in best:
            chosen.setdefault(i, []).append(reason)
    for i in spread(len(seen[0].images), LEAST):
        if len(chosen) >= LEAST:
            break
        chosen.setdefault(i, [])
    return dict(list(chosen.items())[:MOST])


def judged_ranks(seen: Sequence[Seen], categories: list) -> dict[str, np.ndarray]:
    """How much each image has of what it may be chosen for."""
    first = seen[0]
    found = tide.table(first.images, first.matches, categories)
    missed, false = counts(first)
    objects = np.array([len(image.objects) for image in first.images])
    return {
        "worst": losses(found, missed, false, len(first.images)),
        "missed": missed,
        "false": false,
        "differ": differing(seen),
        "best": np.where((missed == 0) & (false == 0), objects, 0),
    }


def unjudged_ranks(seen: Sequence[Seen]) -> dict[str, np.ndarray]:
    """The same where nobody knows what is there: most detections, the highest best score, the lowest one."""
    best = np.array([max((row["score"] for row in image.rows), default=0.0) for image in seen[0].images])
    sure = best >= np.median(best)
    return {
        "many": np.array([len(kept(image.rows, seen[0].score)) for image in seen[0].images]),
        "sure": np.where(sure, best, 0),
        "faint": np.where(sure, 0, 1 - best),
        "differ": differing(seen),
    }


def differing(seen: Sequence[Seen]) -> np.ndarray:
    """Of every image how far other backends are from the first."""
    return sum((differences(seen[0], other) for other in seen[1:]), np.zeros(len(seen[0].images)))


def spread(count: int, wanted: int) -> list[int]:
    """Positions evenly over so many images, then all others."""
    even = np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist() if count else []
    return list(dict.fromkeys([*even, *range(count)]))


def counts(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Of every image the objects that no detection of the working score finds, and the detections that find none."""
    missed, false = [], []
    for image, matched in zip(seen.images, seen.matches, strict=True):
        kept = np.array([row["score"] >= seen.score for row in image.rows], bool)
        true = (matched.kinds == TRUE) & kept
        missed.append(len(image.objects) - int(true.sum()))
        false.append(int((kept & ~true & ~matched.ignored).sum()))
    return np.array(missed), np.array(false)


def losses(found: tide.Table, missed: np.ndarray, false: np.ndarray, count: int) -> np.ndarray:
    """What the AP at an IoU of 0.5 would gain if all errors in an image were fixed: its false detections gone, and the
    objects that nothing finds not asked for. Of images with hardly any errors it is taken as 0."""
    lost = np.zeros(count)
    candidates = np.argsort(-(missed + false), kind="stable")[:CANDIDATES]
    kinds = np.unique(found.objects)
    for kind in kinds:
        own = ~found.ignored & (found.category == kind)
        order = np.argsort(-found.score[own], kind="stable")
        true, image = (found.kind[own] == TRUE)[order], found.image[own][order]
        asked = found.objects == kind
        unfound = found.image_of[asked & ~found.found]
        before = tide.average_precision(true, int(asked.sum()))
        for i in np.intersect1d(candidates, np.concatenate([image[~true], unfound])):
            kept = true | (image != i)
            after = tide.average_precision(true[kept], int(asked.sum() - (unfound == i).sum()))
            lost[i] += max(after - before, 0) / len(kinds)
    return lost


def differences(one: Seen, other: Seen) -> np.ndarray:
    """Of every image the detections of working score that only one of two backends has, and how far scores differ."""
    found = []
    for a, b in zip(one.images, other.images, strict=True):
        left, right = kept(a.rows, one.score), kept(b.rows, other.score)
        pair = matching.match(a._replace(objects=left, crowds=[], rows=right))
        common = np.flatnonzero(pair.kinds == TRUE)
        moved = sum(abs(right[i]["score"] - left[pair.objects[i]]["score"]) for i in common)
        found.append(len(left) + len(right) - 2 * len(common) + moved)
    return np.array(found, float)


def kept(rows: list[dict], score: float) -> list[dict]:
    return [row for row in rows if row["score"] >= score]


def drawn(image: Image, found: Sequence[Image], side: int, ids: list, least: float, by_mask: bool) -> dict:
    """What is drawn on an image that is at most `side` pixels wide or high: objects as class, whether they are a crowd,
    and place; detections of every backend as class, score and place. Classes are positions in `ids`. What the masks of
    detections and objects share is told too if they are judged `by_mask`, because outlines are not exact."""
    height, width = image.size
    size = pictures.shown_size(width, height, side)
    scale, number = size[0] / width, {category: i for i, category in enumerate(ids)}
    objects = [(each, 0) for each in image.objects] + [(each, 1) for each in image.crowds]
    best = [kept(each.rows, least)[:DRAWN] for each in found]
    return {
        "id": image.image_id,
        "size": list(size),
        "objects": [[number[each["category_id"]], crowd, *places(each, image, scale)] for each, crowd in objects],
        "rows": [
            [[number[row["category_id"]], round(row["score"], 4), *places(row, image, scale)] for row in rows]
            for rows in best
        ],
        "shared": [mask_overlaps(image, rows) for rows in best] if by_mask else [],
    }


def mask_overlaps(image: Image, rows: Sequence[dict]) -> list[list[list]]:
    """Of every detection the objects whose masks its own touches, crowds behind the others, with the IoU; of a crowd it
    is the part of the detection that lies in it."""
    every = [*image.objects, *image.crowds]
    if not rows or not every:
        return [[] for _ in rows]
    one, other = ([matching.shape(each, "segm", image.size) for each in side] for side in (rows, every))
    crowd = [0] * len(image.objects) + [1] * len(image.crowds)
    overlaps = coco_mask.iou(one, other, crowd)
    return [[[int(k), round(float(own[k]), EXACT)] for k in np.flatnonzero(own)] for own in overlaps]


def places(entry: dict, image: Image, scale: float) -> list:
    """The box, and the outline of the mask where there is one."""
    box = [round(value * scale, 1) for value in entry["bbox"]]
    return [*box, pictures.outline(entry["segmentation"], image.size, scale)] if entry.get("segmentation") else box


def faintest(seen: Sequence[Seen]) -> float:
    """The least score of what is drawn."""
    return min([FAINTEST, *(each.score / 2 for each in seen)])
