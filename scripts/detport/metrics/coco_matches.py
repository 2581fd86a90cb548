"""What every detection finds, told by the evaluator itself: what resamples of COCO's average precision are made of."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator

import hotcoco
import numpy as np

from detport.resampling import Found

AT_ONCE = 500  # images whose matches are held in the evaluator's own form, which is large
STANDARD = hotcoco.Params("bbox")  # the overlaps, recalls and areas of COCO's tools


def found(truth: dict, image_ids: list[int], rows: list[dict], iou_type: str, most: int) -> list[Found]:
    """The detections of every category that has objects, at most the best `most` of an image. Ids are numbers.

    The evaluator is asked only where a category has annotations in an image: elsewhere all detections are false.
    """
    place = {image: i for i, image in enumerate(image_ids)}
    asked = {(entry["image_id"], entry["category_id"]) for entry in truth["annotations"]}
    near, far = [], []
    for row in rows:
        if row["image_id"] in place:
            (near if (row["image_id"], row["category_id"]) in asked else far).append(row)
    parts: dict[int, list] = defaultdict(list)
    objects: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(len(place), np.int64))
    for match in matches(truth, sorted(place), near, iou_type, most):
        category, image, count = match["category_id"], match["image_id"], len(match["dtScores"])
        objects[category][place[image]] = match["gtIgnore"].count(False)
        flags = (np.array(match[key], bool).reshape(len(STANDARD.iouThrs), count) for key in ("dtMatched", "dtIgnore"))
        parts[category].append((np.full(count, image), np.arange(count), np.array(match["dtScores"]), *flags))
    for category, (images, ranks, scores) in best_of_images(far, most).items():
        nothing = np.zeros((len(STANDARD.iouThrs), len(images)), bool)
        parts[category].append((images, ranks, scores, nothing, nothing))
    having = sorted(category for category, count in objects.items() if count.any())
    return [in_order(parts[category], objects[category], place) for category in having]


def matches(truth: dict, image_ids: list[int], rows: list[dict], iou_type: str, most: int) -> Iterator[dict]:
    """The evaluator's matches of every image and category that it has something of, over objects of any size."""
    ground_truth = hotcoco.COCO()
    ground_truth.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its progress
        ground_truth.createIndex()
        evaluator = hotcoco.COCOeval(ground_truth, ground_truth.loadRes(rows), iou_type)
    evaluator.params.maxDets = [most]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = STANDARD.areaRng[:1], STANDARD.areaRngLbl[:1]
    for start in range(0, len(image_ids), AT_ONCE):
        evaluator.params.imgIds = image_ids[start : start + AT_ONCE]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.evaluate()
        yield from (match for match in evaluator.eval_imgs if match is not None)


def best_of_images(rows: list[dict], most: int) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of every category the images, ranks and scores of the best detections of each image."""
    if not rows:
        return {}
    category, image = (np.array([row[key] for row in rows]) for key in ("category_id", "image_id"))
    score = np.array([row["score"] for row in rows], float)
    order = np.lexsort((-score, image, category))  # stable: equal scores stay as they are
    category, image, score = category[order], image[order], score[order]
    first = np.concatenate([[True], (np.diff(category) != 0) | (np.diff(image) != 0)])
    starts = np.flatnonzero(first)
    rank = np.arange(len(order)) - starts[np.cumsum(first) - 1]
    kept = rank < most
    category, image, score, rank = category[kept], image[kept], score[kept], rank[kept]
    return {
        int(each): (image[category == each], rank[category == each], score[category == each])
        for each in set(category.tolist())
    }


def in_order(parts: list[tuple], objects: np.ndarray, place: dict[int, int]) -> Found:
    """The detections of a category, given by image, in the evaluator's order."""
    image, rank, score, true, ignored = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    order = np.lexsort((rank, image, -score))
    places = np.array([place[each] for each in image.tolist()], int)
    return Found(places[order], score[order], true[:, order], ignored[:, order], objects)
