"""Detections of R-FCN: `rois` (0 x1 y1 x2 y2, network pixels), `cls_prob` and `bbox_pred` of every class.

A box from 0 to 9 is 10 pixels wide. All arithmetic is float32, as the published figures were made.
"""

import numpy as np

from detport import decoders
from detport.boxes import below, from_deltas, nms, to_original
from detport.errors import UsageError

NEEDS = ("resized", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, class by class, best score first; corners 0-based, so w = x2 - x1.

    Rois of zeros, where there were too few proposals, are treated as any other: the published figure has them.
    """
    rois, scores, deltas = (outputs[name][0] for name in ("rois", "cls_prob", "bbox_pred"))
    classes = decoders.classes(categories, options["background"])
    if scores.shape[1] != len(classes) or deltas.shape[1] != 4 * len(classes):
        raise UsageError(
            f"{image['file']!r}: cls_prob has {scores.shape[1]} classes, bbox_pred {deltas.shape[1]} deltas; correct"
            f" decode.categories or decode.background, by which there are {len(classes)} classes with 4 deltas each"
        )
    boxes = class_boxes(rois[:, 1:], deltas, options["box_stds"])
    boxes = to_original(clip(boxes, *image["resized"]), image)
    decoders.require_finite(boxes.reshape(len(rois), -1), np.arange(len(rois)), "bbox_pred", image)
    named = np.array([category is not None for category in classes])
    labels, rows = np.nonzero(((scores > np.float32(options["score_above"])) & named).T)
    boxes, scores = boxes[rows, labels], scores[rows, labels]
    # R-FCN removes boxes at exactly the threshold too, `nms` only above it.
    chosen = best(boxes, scores, labels, below(options["nms_iou"]), options["max_detections"])
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    corners = boxes[chosen].astype(np.float64)  # exact differences: x + w gives x2 back
    corners[:, 2:] -= corners[:, :2]
    return [
        {"image_id": image["image_id"], "category_id": classes[label], "bbox": box, "score": score}
        for label, box, score in zip(labels[chosen].tolist(), corners.tolist(), scores[chosen].tolist(), strict=True)
    ]


def class_boxes(rois: np.ndarray, deltas: np.ndarray, stds: list[float]) -> np.ndarray:
    """Boxes [R, C, 4] of every class from rois [R, 4] and normalised deltas [R, 4 * C] (dx, dy, dw, dh).

    Widths have +1, but x2, y2 no matching -1, and dw, dh no limit.
    """
    deltas = deltas.reshape(len(rois), -1, 4) * np.float32(stds)
    sides = rois[:, None, 2:] - rois[:, None, :2] + np.float32(1)
    return from_deltas(deltas, rois[:, None, :2] + np.float32(0.5) * sides, sides)


def clip(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes cut to the resized image, whose last pixel is width - 1, height - 1."""
    return np.clip(boxes, np.float32(0), np.float32([width - 1, height - 1, width - 1, height - 1]))


def best(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, threshold: float, limit: int) -> np.ndarray:
    """What NMS of every class leaves, best first: the `limit` best over all classes, and all that equal the last of
    them. The others, by far the most, need not be compared with each other."""
    kept = nms(boxes, scores, labels, threshold, limit, plus=1)
    if len(kept) < limit:
        return kept
    near = np.flatnonzero(scores >= scores[kept[-1]])
    return near[nms(boxes[near], scores[near], labels[near], threshold, len(near), plus=1)]
