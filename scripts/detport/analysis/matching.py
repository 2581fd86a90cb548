"""Which object each detection found, and what is wrong with the others.

At an IoU of `IOU`, in the order of the scores, a detection finds the object of its class that it overlaps most and that
no better one has found. The others are errors of one of five kinds, in the order of their tests (Bolya et al., TIDE: A
General Toolbox for Identifying Object Detection Errors, 2020); an object that nothing found and that no error could
have found is missed, the sixth kind.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

IOU = 0.5  # overlap that makes a find
NEAR = 0.1  # overlap below which a detection has nothing to do with an object
KINDS = ("cls", "loc", "both", "dupe", "bkg", "miss")
TRUE, NONE = -1, -1  # in place of the number of a kind; of an object
CLS, LOC, BOTH, DUPE, BKG, MISS = range(len(KINDS))


class Image(NamedTuple):
    """The objects and the detections of an image, best score first."""

    image_id: int | str
    objects: list[dict]  # annotations of the ground truth that are to be found
    crowds: list[dict]  # regions in which detections of their class are no errors
    rows: list[dict]  # detections
    size: tuple[int, int]  # height and width


class Matched(NamedTuple):
    """Of every detection of an image: its kind, the object that this is about, and the overlap with it."""

    kinds: np.ndarray  # number of KINDS, or TRUE
    objects: np.ndarray  # position in Image.objects, or NONE
    overlaps: np.ndarray
    ignored: np.ndarray  # whether it lies in a crowd, so that it is no error


def images(truth: dict, image_ids: Iterable, rows: Iterable[dict], limit: int) -> Iterator[Image]:
    """The images with what is in them; of each at most `limit` detections, those of the best scores."""
    wanted = list(image_ids)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    found: dict = {image_id: ([], [], []) for image_id in wanted}
    for annotation in truth["annotations"]:
        if annotation["image_id"] in found:
            found[annotation["image_id"]][bool(annotation["iscrowd"])].append(annotation)
    for row in rows:
        if row["image_id"] in found:
            found[row["image_id"]][2].append(row)
    for image_id in wanted:
        objects, crowds, own = found[image_id]
        best = sorted(own, key=lambda row: -row["score"])[:limit]
        yield Image(image_id, objects, crowds, best, sizes[image_id])


def match(image: Image, iou_type: str = "bbox") -> Matched:
    """What every detection of an image is."""
    count = len(image.rows)
    kinds, about, best, ignored = np.full(count, BKG), np.full(count, NONE), np.zeros(count), np.zeros(count, bool)
    if not count:
        return Matched(kinds, about, best, ignored)
    shapes = [shape(row, iou_type, image.size) for row in image.rows]
    taken = np.zeros(len(image.objects), bool)
    overlaps = np.zeros((count, len(image.objects)))
    if image.objects:
        overlaps = coco_mask.iou(
            shapes, [shape(each, iou_type, image.size) for each in image.objects], [0] * len(taken)
        )
        same = same_class(image.rows, image.objects)
        own = overlaps * same
        free = own.copy()
        for i in range(count):
            k = int(free[i].argmax())
            if free[i, k] >= IOU:
                kinds[i], about[i], best[i] = TRUE, k, own[i, k]
                free[:, k] = 0
        wrong = np.flatnonzero(kinds != TRUE)
        kinds[wrong], about[wrong], best[wrong] = judge(overlaps[wrong], own[wrong], (overlaps * ~same)[wrong])
    if image.crowds:
        crowds = [shape(each, iou_type, image.size) for each in image.crowds]
        covered = (coco_mask.iou(shapes, crowds, [1] * len(crowds)) > IOU) & same_class(image.rows, image.crowds)
        ignored = (kinds != TRUE) & covered.any(axis=1)
    return Matched(kinds, about, best, ignored)


def judge(overlaps: np.ndarray, own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind, object and overlap of detections that found nothing, from their overlaps with all objects, with those of
    their class and with those of other classes; each test stands behind those that come before it."""
    nearest, other, any_class = own.max(axis=1), others.max(axis=1), overlaps.max(axis=1)
    tests = [
        (nearest >= NEAR) & (nearest <= IOU),
        other >= IOU,
        nearest >= IOU,
        any_class <= NEAR,
    ]
    kinds = np.select(tests, [LOC, CLS, DUPE, BKG], BOTH)
    about = np.select(
        [kinds == CLS, kinds == BOTH], [others.argmax(axis=1), overlaps.argmax(axis=1)], own.argmax(axis=1)
    )
    about[kinds == BKG] = NONE
    overlap = np.select([kinds == LOC, kinds == CLS, kinds == DUPE], [nearest, other, nearest], any_class)
    return kinds, about, overlap


def same_class(rows: list[dict], objects: list[dict]) -> np.ndarray:
    """[detections, objects]: whether they are of the same class."""
    return np.array([[row["category_id"] == each["category_id"] for each in objects] for row in rows], bool)


def shape(entry: dict, iou_type: str, size: tuple[int, int]) -> list[float] | dict:
    """The box of a detection or an annotation, or its mask as run lengths."""
    return entry["bbox"] if iou_type == "bbox" else run_lengths(entry["segmentation"], size)


def run_lengths(segmentation: list | dict, size: tuple[int, int]) -> dict:
    """A mask in COCO's compressed run lengths, from polygons or from run lengths of either form."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    return coco_mask.frPyObjects(segmentation, *size) if isinstance(segmentation["counts"], list) else segmentation
