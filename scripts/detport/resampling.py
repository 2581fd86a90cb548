"""The bootstrap over images: the average precision of a set of images drawn with replacement, many times.

What a detection finds depends on its own image alone, so matches are made once, by the metric. A resample is then how
often every image is drawn, and its precision and recall are sums of these numbers along the detections in the order of
their scores. The result is what the evaluator gives for a ground truth in which an image stands as often as it was
drawn, with equal scores in the order of the images: not an approximation of it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

AT_ONCE = 1 << 20  # numbers of detections x resamples that are worked on together: some MB, so that caches hold them


class Found(NamedTuple):
    """The detections of one class over all images, best score first; equal scores in the order of images, and within
    one in the order that the evaluator takes them in."""

    image: np.ndarray  # [D] position of the image that each is in
    score: np.ndarray  # [D]
    true: np.ndarray  # [T, D] whether it finds an object, at each overlap
    ignored: np.ndarray  # [T, D] whether it counts neither as true nor as false
    objects: np.ndarray  # [images] how many there are to be found


def draws(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of the images is drawn in each resample, [resamples, images]. Equal arguments give equal draws,
    so that detectors that are resampled apart are compared on the same images."""
    drawn = np.random.default_rng(seed).integers(0, images, (resamples, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.int16)


def average_precisions(classes: Iterable[Found], drawn: np.ndarray, recalls: np.ndarray | None) -> np.ndarray:
    """AP of every class at every overlap in every resample, [classes, T, resamples]; NaN without an object.

    It is the mean over `recalls` of the best precision at that recall or more; without them, the area under that curve.
    """
    most = int(drawn.max())
    found = [of_class(interleaved(each, most), drawn, recalls) for each in classes]
    return np.stack(found) if found else np.zeros((0, 1, len(drawn)))


def mean(precisions: np.ndarray) -> np.ndarray:
    """Mean over overlaps and those classes that have objects, of [classes, T, resamples]; NaN if none has."""
    there = ~np.isnan(precisions[:, 0]) if len(precisions) else np.zeros((0, precisions.shape[2]), bool)
    total = np.where(there, precisions.mean(axis=1), 0).sum(axis=0)
    return np.divide(total, there.sum(axis=0), out=np.full(total.shape, np.nan), where=there.any(axis=0))


class Copies(NamedTuple):
    """Detections of one class, some of which stand for one copy of their image alone."""

    found: Found
    copy: np.ndarray  # [D] 0: all copies of the image, with one score one behind the other; k: its k-th copy


def interleaved(found: Found, most: int) -> Copies:
    """Where an image has true and false detections of equal score, an evaluator sees them in turns, once per copy of
    the image: there, every copy is written out, up to the `most` that occur."""
    another = (np.diff(found.score) != 0) | (np.diff(found.image) != 0)
    group = np.concatenate([[0], np.cumsum(another)])[: len(found.image)]
    mixed = np.zeros(len(found.image), bool)
    for true, ignored in zip(found.true, found.ignored, strict=True):
        kinds = [np.isin(group, group[which & ~ignored]) for which in (true, ~true)]
        mixed |= kinds[0] & kinds[1]
    alone, turns = np.flatnonzero(~mixed), np.flatnonzero(mixed)
    at = np.concatenate([alone, np.repeat(turns, most)])
    copy = np.concatenate([np.zeros(len(alone), int), np.tile(np.arange(1, most + 1), len(turns))])
    order = np.lexsort((at, copy, group[at]))
    at, copy = at[order], copy[order]
    return Copies(Found(found.image[at], found.score[at], found.true[:, at], found.ignored[:, at], found.objects), copy)


def of_class(copies: Copies, drawn: np.ndarray, recalls: np.ndarray | None) -> np.ndarray:
    """AP of a class at every overlap in every resample, [T, resamples]."""
    found = copies.found
    true = found.true & ~found.ignored
    ends = np.flatnonzero(true.any(axis=0))
    last = int(ends[-1]) + 1 if len(ends) else 0  # what comes after the last true one changes no precision that counts
    having = np.flatnonzero(found.objects)
    positives = drawn[:, having].astype(int) @ found.objects[having]
    result = np.zeros((len(true), len(drawn)))
    step = max(1, AT_ONCE // max(1, last))
    for start in range(0, len(drawn) if last else 0, step):
        part = slice(start, start + step)
        result[:, part] = of_part(copies, true, ends, last, drawn[part], positives[part], recalls)
    result[:, positives == 0] = np.nan
    return result


def of_part(
    copies: Copies,
    true: np.ndarray,
    ends: np.ndarray,
    last: int,
    drawn: np.ndarray,
    positives: np.ndarray,
    recalls: np.ndarray | None,
) -> np.ndarray:
    """The same for some of the resamples."""
    image, copy = copies.found.image[:last], copies.copy[:last]
    times = drawn.take(image, axis=1)  # how often each detection is there
    single = np.flatnonzero(copy)
    times[:, single] = times[:, single] >= copy[single]
    ranks = times.cumsum(axis=1, dtype=np.int32).take(ends, axis=1)  # how many there are up to each true one
    rising, scale = shares(positives, recalls)
    result = np.empty((len(true), len(drawn)))
    for t, now in enumerate(true):
        at = np.flatnonzero(now)
        if not len(at):
            result[t] = 0
            continue
        counted = ranks.take(np.searchsorted(ends, at), axis=1)
        ignored = np.flatnonzero(copies.found.ignored[t, :last])
        if len(ignored):
            before = np.pad(times.take(ignored, axis=1).cumsum(axis=1, dtype=np.int32), ((0, 0), (1, 0)))
            counted -= before.take(np.searchsorted(ignored, at), axis=1)
        hits = times.take(at, axis=1).cumsum(axis=1, dtype=np.intp)
        precision = hits / np.maximum(counted, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        hits += rising.rows[:, None]
        reached = rising.table.take(hits)
        reached[:, 1:] -= reached[:, :-1].copy()
        result[t] = np.einsum("rd,rd->r", reached, best) / scale
    return result


class Rising(NamedTuple):
    """What a number of objects found is worth: how many of the recalls it reaches, or what share of the objects."""

    table: np.ndarray  # for each number of objects that there may be a row, one behind the other
    rows: np.ndarray  # [resamples] where in the table that of a resample begins


def shares(positives: np.ndarray, recalls: np.ndarray | None) -> tuple[Rising, float]:
    """What is reached with 0, 1, 2 … objects found, for every resample; and what it is divided by in the end."""
    sizes, which = np.unique(positives, return_inverse=True)
    recall = np.arange(sizes[-1] + 1) / np.maximum(sizes, 1)[:, None]
    table = recall if recalls is None else np.searchsorted(recalls, recall, side="right").astype(float)
    return Rising(table.ravel(), which * table.shape[1]), 1 if recalls is None else len(recalls)
