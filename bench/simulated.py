"""Two simulated detectors of known quality: what they find on images drawn by chance, as `resampling` takes it.

Objects are hard or easy for both alike, which is what makes them a pair; the second finds fewer by `worse` and places
its boxes less well. Their true AP is that on all the images that were ever drawn.
"""

import numpy as np

from detport import resampling
from detport.metrics.coco_matches import STANDARD

OVERLAPS = np.array(STANDARD.iouThrs)
RECALLS = np.array(STANDARD.recThrs)
OBJECTS = 0.5  # of a class in an image, on average
FALSE = 3  # false detections of a class in an image, on average


def detectors(images: int, classes: int, worse: float, noise: float, seed: int) -> list[list[resampling.Found]]:
    """Both detectors' detections of every class. `noise` is what each of them does differently, image by image, beside
    what it does worse."""
    rng = np.random.default_rng(seed)
    found: list[list[resampling.Found]] = [[], []]
    for k in range(classes):
        objects = rng.poisson(OBJECTS / np.sqrt(k + 1), images)
        image = np.repeat(np.arange(images), objects)
        elsewhere = np.repeat(np.arange(images), rng.poisson(FALSE, images))
        hard, tempting = rng.normal(0, 1, len(image)), rng.normal(-1.5, 1, len(elsewhere))
        for d, detections in enumerate(found):
            own = [rng.normal(0, noise, len(image)) for _ in range(3)]
            there = hard + own[0] < 1 - worse * d
            overlap = 1 / (1 + np.exp(0.6 * hard + own[1] - 1.6 + worse * d))
            score = np.concatenate(
                [(0.8 - 0.7 * hard + own[2])[there], tempting + rng.normal(0, noise, len(elsewhere))]
            )
            true = np.zeros((len(OVERLAPS), len(score)), bool)
            true[:, : there.sum()] = overlap[there] >= OVERLAPS[:, None]
            where = np.concatenate([image[there], elsewhere])
            order = np.lexsort((where, -score))
            detections.append(
                resampling.Found(where[order], score[order], true[:, order], np.zeros_like(true), objects)
            )
    return found


def part(found: resampling.Found, start: int, images: int) -> resampling.Found:
    """The detections of some images alone."""
    kept = (found.image >= start) & (found.image < start + images)
    fields = (found.score[kept], found.true[:, kept], found.ignored[:, kept], found.objects[start : start + images])
    return resampling.Found(found.image[kept] - start, *fields)


def ap(classes: list[resampling.Found], drawn: np.ndarray) -> np.ndarray:
    """AP in every resample."""
    return resampling.mean(resampling.average_precisions(classes, drawn, RECALLS))


def resampled(found: list[list[resampling.Found]], start: int, images: int, resamples: int, seed: int) -> list[dict]:
    """Of both detectors on some of the images, what resample.py would write."""
    drawn = np.concatenate([np.ones((1, images), np.int16), resampling.draws(images, resamples, seed)])
    written = []
    for classes in found:
        values = ap([part(each, start, images) for each in classes], drawn)
        written.append(
            {
                "statistics": {"seed": seed, "resamples": resamples},
                "images": {"counted": images, "sha256": str(start)},
                "measures": {"bbox.AP": {"value": values[0], "resamples": values[1:]}},
            }
        )
    return written
