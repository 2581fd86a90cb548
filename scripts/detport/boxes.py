"""Boxes as x1, y1, x2, y2 in NumPy: back to the original image, overlap, non-maximum suppression."""

import numpy as np


def to_original(boxes: np.ndarray, image: dict) -> np.ndarray:
    """Boxes [..., 4] in pixels of the network input as boxes in pixels of the original image, in their own precision.

    `image` is the image's entry of shard.json: `scale`, a number or [x, y], and the padding before the image, `left`
    and `top`, if there is any.
    """
    offset = np.array([image.get("left", 0), image.get("top", 0)] * 2, boxes.dtype)
    scale = np.broadcast_to(np.array(image["scale"], boxes.dtype), 2)
    return (boxes - offset) / np.tile(scale, 2)


def clip_to_image(boxes: np.ndarray, image: dict) -> np.ndarray:
    """Boxes [..., 4] in pixels of the original image, cut at its borders."""
    return boxes.clip(0, np.array([image["width"], image["height"]] * 2, boxes.dtype))


def overlaps(box: np.ndarray, boxes: np.ndarray, plus: float) -> np.ndarray:
    """Intersection over union of one box with many; `plus` is 1 where x2 and y2 are the last pixels inside."""
    x1 = np.maximum(box[0], boxes[:, 0])
    y1 = np.maximum(box[1], boxes[:, 1])
    x2 = np.minimum(box[2], boxes[:, 2])
    y2 = np.minimum(box[3], boxes[:, 3])
    shared = np.maximum(x2 - x1 + plus, 0) * np.maximum(y2 - y1 + plus, 0)
    with np.errstate(invalid="ignore"):  # two boxes without area: 0 / 0 is NaN, which exceeds no threshold
        return shared / (area(box[None], plus) + area(boxes, plus) - shared)


def area(boxes: np.ndarray, plus: float) -> np.ndarray:
    """Width times height."""
    return (boxes[:, 2] - boxes[:, 0] + plus) * (boxes[:, 3] - boxes[:, 1] + plus)


def below(threshold: float) -> np.float32:
    """The float32 next to it: with it, what suppresses above a threshold only does so at exactly the threshold too."""
    return np.nextafter(np.float32(threshold), np.float32(0))


def nms(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float, limit: int, plus: float
) -> np.ndarray:
    """Rows that survive, best first, at most `limit` over all classes.

    A box removes the later ones of its class that overlap it by more than `threshold`. The sort is stable: equal
    scores, frequent on float16 devices, keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, classes = boxes[order], classes[order]
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == limit:
            break
        rivals = np.flatnonzero(alive[i + 1 :] & (classes[i + 1 :] == classes[i])) + i + 1
        alive[rivals[overlaps(boxes[i], boxes[rivals], plus) > threshold]] = False
    return order[kept]
