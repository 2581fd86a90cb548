"""What the scores of detections are worth: how many are true, at which score one would work, what is confused."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from detport.analysis import matching
from detport.analysis.matching import TRUE, Image
from detport.analysis.tide import Table

BINS, COARSE = 20, 10  # of the histogram, and of the calibration


def histogram(found: Table) -> dict:
    """Of every bin of the score how many detections found an object and how many did not."""
    edges = np.linspace(0, 1, BINS + 1)
    counted = ~found.ignored
    true = found.kind == TRUE
    return {
        "edges": edges.round(6).tolist(),
        "true": counts(found.score[counted & true], edges),
        "false": counts(found.score[counted & ~true], edges),
    }


def counts(scores: np.ndarray, edges: np.ndarray) -> list[int]:
    return np.histogram(scores.clip(0, 1), edges)[0].tolist()


def calibration(found: Table) -> dict:
    """Of every tenth of the score: detections, their mean score, and the part of them that found an object. `error` is
    the mean difference of the two, weighted by the detections (expected calibration error)."""
    counted = ~found.ignored
    scores, true = found.score[counted].clip(0, 1), (found.kind == TRUE)[counted]
    tenth = np.minimum((scores * COARSE).astype(int), COARSE - 1)
    rows, off = [], 0.0
    for i in range(COARSE):
        own = tenth == i
        if own.any():
            score, right = float(scores[own].mean()), float(true[own].mean())
            rows.append({"from": i / COARSE, "detections": int(own.sum()), "score": score, "right": right})
            off += own.sum() * abs(score - right)
    return {"error": float(off / len(scores)) if len(scores) else None, "bins": rows}


def working(found: Table) -> dict | None:
    """The score from which on precision and recall over all classes are best together (largest F1), and these."""
    counted = ~found.ignored
    scores, true = found.score[counted], (found.kind == TRUE)[counted]
    if not true.any():
        return None
    order = np.argsort(-scores, kind="stable")
    hits, scores = true[order].cumsum(), scores[order]
    taken = np.arange(1, len(scores) + 1)
    last = np.append(np.diff(scores) != 0, True)  # all of one score are taken, or none
    f1 = np.where(last, 2 * hits / (taken + len(found.objects)), 0)
    best = int(f1.argmax())
    return {
        "score": float(scores[best]),
        "f1": float(f1[best]),
        "precision": float(hits[best] / taken[best]),
        "recall": float(hits[best] / len(found.objects)),
    }


def by_class(found: Table, names: list[str], score: float) -> list[dict]:
    """Of every class its objects, and the finds and the errors among the detections of at least that score."""
    counted = ~found.ignored & (found.score >= score)
    true = found.kind == TRUE
    columns = {
        "objects": np.bincount(found.objects, minlength=len(names)),
        "found": np.bincount(found.category[counted & true], minlength=len(names)),
        "wrong": np.bincount(found.category[counted & ~true], minlength=len(names)),
    }
    return [{"name": name} | {key: int(each[i]) for key, each in columns.items()} for i, name in enumerate(names)]


def confusion(images: Iterable[Image], categories: list, score: float) -> list[dict]:
    """How often an object of one class (`truth`) was detected as another or the same (`as`), by positions in the list.

    Detections of at least that score take, best first, the object of any class that they overlap most and that is free.
    Without `as` the object was missed; without `truth` there was none.
    """
    number = {category: i for i, category in enumerate(categories)}
    pairs: Counter = Counter()
    for image in images:
        kept = image._replace(rows=[row for row in image.rows if row["score"] >= score])
        blind = matching.match(without_classes(kept))
        taken = set()
        for row, kind, k, ignored in zip(kept.rows, blind.kinds, blind.objects, blind.ignored, strict=True):
            if kind == TRUE:
                taken.add(int(k))
                pairs[number[image.objects[k]["category_id"]], number[row["category_id"]]] += 1
            elif not ignored:
                pairs[None, number[row["category_id"]]] += 1
        for k, each in enumerate(image.objects):
            if k not in taken:
                pairs[number[each["category_id"]], None] += 1
    order = sorted(pairs.items(), key=lambda item: [-1 if each is None else each for each in item[0]])
    return [{"truth": truth, "as": detected, "count": count} for (truth, detected), count in order]


def without_classes(image: Image) -> Image:
    """All of one class."""
    objects, crowds, rows = (
        [each | {"category_id": 0} for each in entries] for entries in (image.objects, image.crowds, image.rows)
    )
    return image._replace(objects=objects, crowds=crowds, rows=rows)
