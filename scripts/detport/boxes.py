"""Boxes as x1, y1, x2, y2 in NumPy: forms, back to the original image, overlap, non-maximum suppression."""

import numpy as np

from detport.activations import exp

SMALLEST = np.finfo(np.float32).tiny  # area in place of none, so that nothing divides by zero


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


def clip_to_placed(boxes: np.ndarray, image: dict) -> np.ndarray:
    """Boxes [..., 4] in pixels of the network input, cut at the borders of the image on it."""
    low = np.array([image.get("left", 0), image.get("top", 0)], boxes.dtype)
    high = low + np.array([image["width"], image["height"]], boxes.dtype) * np.array(image["scale"], boxes.dtype)
    return boxes.clip(np.tile(low, 2), np.tile(high, 2))


def to_corners(boxes: np.ndarray, form: str) -> np.ndarray:
    """Boxes [N, 4] as x1 y1 x2 y2, from xyxy, yxyx, xywh (the corner and sides) or cxcywh (the centre and sides)."""
    if form in ("xyxy", "yxyx"):
        return boxes if form == "xyxy" else boxes[:, [1, 0, 3, 2]]
    place, sides = boxes[:, :2], boxes[:, 2:]
    low = place if form == "xywh" else place - sides / 2
    return np.concatenate([low, low + sides if form == "xywh" else place + sides / 2], axis=1)


def to_pixels(boxes: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Boxes x1 y1 x2 y2 in pixels of the network input (height, width) from fractions of its sides."""
    height, width = canvas
    return boxes * np.array([width, height] * 2, boxes.dtype)


def from_deltas(deltas: np.ndarray, centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Boxes from dx, dy, dw, dh [..., 4]: the centre moves by so many sides, the sides grow by exp(dw), exp(dh)."""
    middles = deltas[..., :2] * sides + centres
    halves = exp(deltas[..., 2:]) * sides / 2
    return np.concatenate([middles - halves, middles + halves], axis=-1)


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
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float, limit: int | None, plus: float
) -> np.ndarray:
    """Rows that survive, best first, at most `limit` over all classes.

    A box removes the later ones of its class that overlap it by more than `threshold`. The sort is stable: equal
    scores, frequent on float16 devices, keep their order. The search ends with the last row that is wanted.
    """
    best = np.argsort(-scores, kind="stable")
    order, _, ends = by_class(classes[best])
    geometry = grouped(boxes[best], order, plus)
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    for place in np.argsort(order).tolist():
        if len(kept) == limit:
            break
        if alive[place]:
            kept.append(place)
            rivals = slice(place + 1, ends[place])
            if rivals.start < rivals.stop:
                alive[rivals] &= shares(*geometry, place, rivals) <= threshold
    return best[order[kept]]


def soft_nms(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, sigma: float, floor: float, limit: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their new scores: each lowers the scores of its class by exp(-IoU² / sigma), down to `floor`."""
    order, starts, ends = by_class(classes)
    geometry = grouped(boxes, order, plus=0)
    left = scores[order]
    kept: list[int] = []
    new: list[np.float32] = []
    while len(kept) < len(boxes) and len(kept) != limit:
        place = int(left.argmax())
        if left[place] < floor or left[place] <= 0:
            break
        kept.append(place)
        new.append(left[place])
        left[place] = 0
        rivals = slice(starts[place], ends[place])
        left[rivals] *= np.exp(-(shares(*geometry, place, rivals) ** 2) / np.float32(sigma))
    return order[kept], np.array(new, np.float32)


def by_class(classes: np.ndarray) -> tuple[np.ndarray, list[int], list[int]]:
    """The order that puts every class together, and for every place in it where its class starts and ends."""
    order = np.argsort(classes, kind="stable")
    together = classes[order]
    starts, ends = (np.searchsorted(together, together, side) for side in ("left", "right"))
    return order, starts.tolist(), ends.tolist()


def grouped(boxes: np.ndarray, order: np.ndarray, plus: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in an order as rows x1, y1 and x2, y2, where they end, and their areas.

    `plus` goes to x2 and y2, not to widths: as in a graph whose operator for NMS knows no `plus`, bit for bit.
    """
    low, high = np.ascontiguousarray(boxes[order].T).reshape(2, 2, -1)
    high = high + plus
    width, height = high - low
    return low, high, width * height


def shares(low: np.ndarray, high: np.ndarray, areas: np.ndarray, one: int, others: slice) -> np.ndarray:
    """IoU of one box with others; 0 where they share nothing."""
    sides = np.minimum(high[:, others], high[:, one : one + 1]) - np.maximum(low[:, others], low[:, one : one + 1])
    width, height = np.maximum(sides, 0)
    shared = width * height
    return shared / np.maximum(areas[others] + areas[one] - shared, SMALLEST)
