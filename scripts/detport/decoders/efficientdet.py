"""Detections of EfficientDet: class logits and box codes, either all of them or the best pairs only.

compact: `logits` [1, K], `box_codes` [1, K, 4], `index` [1, K] (anchor * classes + class).
raw: class maps [1, A*classes, H, W] and box maps [1, A*4, H, W] of P3..P7 under any names and in any order, since
the order of a compiled model's outputs depends on the version of its compiler.
"""

import numpy as np

from detport import decoders
from detport.efficientdet import ANCHORS, ASPECTS, CODES, COMPACT, OCTAVES, STRIDES, anchor_count
from detport.errors import Failure, UsageError

NEEDS = ("width", "height", "resized", "pad", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best score first.

    Everything in float32, the original's precision. A box outside the image is clipped to zero area before NMS
    and stays; NMS is per class, the limit of detections over all classes. Classes without a category take no part.
    """
    known = decoders.classes(categories, options["background"])
    classes = len(known)
    if "index" in outputs:
        logits, codes, index = (outputs[name][0] for name in COMPACT)
        require_pairs(index, image, classes)
    else:
        logits, codes, index = best_pairs(*pair_maps(outputs, classes), options["candidates"])
    scores = 1 / (1 + exp(-logits))
    # In the order of the scores, whatever the order of equal ones in the outputs was; the rest never becomes a row.
    order = np.lexsort((index, -logits))
    order = order[scores[order] >= options["min_score"]]
    order = order[np.array([category is not None for category in known])[index[order] % classes]]
    scores, codes, anchor, label = scores[order], codes[order], index[order] // classes, index[order] % classes

    scale = np.float32(1 / image["scale"])  # network pixels to original ones
    boxes = decode_boxes(codes, anchors(anchor, canvas(image), options["anchor_scale"]))
    limits = np.array([image["width"], image["height"]] * 2, np.float32) / scale
    boxes = np.clip(boxes, 0, limits)
    rows, output = (order, "box_codes") if "index" in outputs else (anchor, "the box maps, by anchor,")
    decoders.require_finite(boxes, rows, output, image)
    if options["nms"] == "soft":
        kept, scores = soft_nms(boxes, scores, label, options)
    else:
        kept = hard_nms(boxes, label, options)
        scores = scores[kept]
    boxes = boxes[kept] * scale
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {"image_id": image["image_id"], "category_id": known[label], "bbox": box, "score": score}
        for label, box, score in zip(label[kept].tolist(), boxes.tolist(), scores.tolist(), strict=True)
    ]


def require_pairs(index: np.ndarray, image: dict, classes: int) -> None:
    """Refuse an index that is none of an (anchor, class) pair of the image's canvas."""
    height, width = canvas(image)
    count = anchor_count(height, width) * classes
    wrong = index[(index < 0) | (index >= count)]
    if wrong.size:
        raise Failure(
            f"{image['file']!r}: index holds {wrong[0]}; {classes} categories at {height}x{width} have the pairs"
            f" 0 to {count - 1}; run inference for this shard again, or correct decode.categories"
        )


def canvas(image: dict) -> tuple[int, int]:
    """Height and width of the network input: the resized image at the top left, and its padding."""
    (width, height), (right, bottom) = image["resized"], image["pad"]
    return height + bottom, width + right


def pair_maps(outputs: dict[str, np.ndarray], classes: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Class maps [A, classes, H*W] and box maps [A, 4, H*W] of P3..P7, told apart by their shapes."""
    if classes == CODES:
        raise UsageError(
            f"raw outputs of {classes} classes look like box codes: use the compact contract (network.contract)"
        )
    found = {classes: {}, CODES: {}}
    for name, value in outputs.items():
        values = value.shape[1] // ANCHORS if value.ndim == 4 else 0
        size = value.shape[2:]
        if value.shape[1] != values * ANCHORS or values not in found or size in found[values]:
            raise UsageError(
                f"output {name} {list(value.shape)}: neither a class map of {classes} classes nor a box map of a level"
            )
        found[values][size] = value.reshape(ANCHORS, values, -1)
    sizes = sorted(found[classes], reverse=True)
    if sizes != sorted(found[CODES], reverse=True) or len(sizes) != len(STRIDES):
        raise UsageError(f"class maps {sizes} and box maps {sorted(found[CODES])}: expected both for P3..P7")
    return [found[classes][size] for size in sizes], [found[CODES][size] for size in sizes]


def best_pairs(
    logits: list[np.ndarray], codes: list[np.ndarray], candidates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best (anchor, class) pairs of all levels: logits, box codes, index = anchor * classes + class.

    They are among the pairs of the anchors whose best class is best: a pair of any other anchor has as many better
    ones before it as there are candidates. So the whole maps are read once and never sorted or transposed.
    """
    classes = logits[0].shape[1]
    best = np.concatenate([level.max(axis=1).T.reshape(-1) for level in logits])
    anchor = np.sort(largest(best, candidates))
    starts = np.cumsum([0] + [level.shape[0] * level.shape[2] for level in logits])
    parts = np.split(anchor, np.searchsorted(anchor, starts[1:-1]))
    scores, boxes = [], []
    for part, start, level, box in zip(parts, starts, logits, codes, strict=False):
        position, cell = np.divmod(part - start, ANCHORS)
        scores.append(level[cell, :, position])
        boxes.append(box[cell, :, position])
    scores = np.concatenate(scores).reshape(-1)
    pairs = largest(scores, candidates)
    owner, label = np.divmod(pairs, classes)
    return scores[pairs], np.concatenate(boxes)[owner], anchor[owner] * classes + label


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values, or of all, in no order."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, -count)[-count:]


def anchors(index: np.ndarray, canvas: tuple[int, int], scale: float) -> np.ndarray:
    """Anchors (ymin xmin ymax xmax) by their index in the order level, row, column, octave, aspect.

    Computed in float64 and rounded once. Sizes are scale * stride * octave * aspect, centres (i + 0.5) * stride.
    """
    strides = np.array(STRIDES)
    columns = canvas[1] // strides
    starts = np.cumsum(np.concatenate([[0], canvas[0] // strides * columns * ANCHORS]))
    level = np.searchsorted(starts, index, side="right") - 1
    position, cell = np.divmod(index - starts[level], ANCHORS)
    row, column = np.divmod(position, columns[level])
    octave, aspect = np.divmod(cell, len(ASPECTS))
    stride = strides[level]
    base = scale * stride * np.array(OCTAVES)[octave]
    half_x, half_y = (base * factor[aspect] / 2 for factor in np.array(ASPECTS).T)
    y, x = (row + 0.5) * stride, (column + 0.5) * stride
    return np.stack([y - half_y, x - half_x, y + half_y, x + half_x], axis=1).astype(np.float32)


def decode_boxes(codes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Boxes x1 y1 x2 y2 in network pixels from codes (ty, tx, th, tw)."""
    ymin, xmin, ymax, xmax = anchors.T
    ty, tx, th, tw = codes.T
    anchor_h, anchor_w = ymax - ymin, xmax - xmin
    y = ty * anchor_h + (ymin + ymax) / 2
    x = tx * anchor_w + (xmin + xmax) / 2
    half_h, half_w = exp(th) * anchor_h / 2, exp(tw) * anchor_w / 2
    return np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=1)


def exp(x: np.ndarray) -> np.ndarray:
    """float32, but rounded from float64: float32's own exp differs in the last digit between processors."""
    with np.errstate(over="ignore"):  # a wild code becomes an infinite box, which is clipped
        return np.exp(x, dtype=np.float64).astype(np.float32)


def hard_nms(boxes: np.ndarray, labels: np.ndarray, options: dict) -> np.ndarray:
    """Indices of the boxes that no better box of their class covers by more than `nms_iou`.

    The boxes come best first, so that the search ends with the last detection that is wanted.
    """
    order, _, ends = by_class(labels)
    corners, areas = grouped(boxes, order)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for place in np.argsort(order).tolist():
        if len(kept) == options["max_detections"]:
            break
        if alive[place]:
            kept.append(place)
            rivals = slice(place + 1, ends[place])
            alive[rivals] &= overlap(corners, areas, place, rivals) <= options["nms_iou"]
    return order[kept]


def soft_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, options: dict) -> tuple[np.ndarray, np.ndarray]:
    """Indices and new scores: every detection lowers the scores of its class by exp(-IoU² / sigma).

    It ends where the best score left is below `min_score` or 0, which is also the score of what was taken.
    """
    order, starts, ends = by_class(labels)
    corners, areas = grouped(boxes, order)
    left = scores[order]
    kept: list[int] = []
    new: list[np.float32] = []
    while len(kept) < min(options["max_detections"], len(boxes)):
        place = int(left.argmax())
        if left[place] < options["min_score"] or left[place] <= 0:
            break
        kept.append(place)
        new.append(left[place])
        left[place] = 0
        rivals = slice(starts[place], ends[place])
        left[rivals] *= np.exp(-(overlap(corners, areas, place, rivals) ** 2) / np.float32(options["soft_sigma"]))
    return order[kept], np.array(new, np.float32)


def by_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order that puts every class together, and for every place in it where its class starts and ends."""
    order = np.argsort(labels, kind="stable")
    together = labels[order]
    return order, np.searchsorted(together, together, "left"), np.searchsorted(together, together, "right")


def grouped(boxes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in an order as rows x1, y1, x2, y2, and their areas."""
    corners = np.ascontiguousarray(boxes[order].T)
    x1, y1, x2, y2 = corners
    return corners, (x2 - x1) * (y2 - y1)


def overlap(corners: np.ndarray, areas: np.ndarray, one: int, others: slice) -> np.ndarray:
    """IoU of one box with others; 0 where they share nothing."""
    x1, y1, x2, y2 = corners[:, others]
    left, top, right, bottom = corners[:, one]
    width = np.minimum(x2, right) - np.maximum(x1, left)
    height = np.minimum(y2, bottom) - np.maximum(y1, top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = areas[one] + areas[others] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
