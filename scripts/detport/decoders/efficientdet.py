"""Detections of EfficientDet: class logits and box codes, either all of them or the best pairs only.

compact: `logits` [1, K], `box_codes` [1, K, 4], `index` [1, K] (anchor * classes + class).
raw: class maps [1, A*classes, H, W] and box maps [1, A*4, H, W] of P3..P7 under any names and in any order, since
the order of a compiled model's outputs depends on the version of its compiler.
"""

import numpy as np

from detport import decoders
from detport.activations import sigmoid
from detport.boxes import from_deltas, nms, soft_nms
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
    scores = sigmoid(logits)
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
        settings = (options["soft_sigma"], options["min_score"], options["max_detections"])
        kept, scores = soft_nms(boxes, scores, label, *settings)
    else:
        kept = nms(boxes, scores, label, options["nms_iou"], options["max_detections"], plus=0)
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
    """Boxes x1 y1 x2 y2 in network pixels from codes (ty, tx, th, tw) and anchors (ymin xmin ymax xmax)."""
    low, high = anchors[:, 1::-1], anchors[:, 3:1:-1]
    return from_deltas(codes[:, [1, 0, 3, 2]], (low + high) / 2, high - low)
