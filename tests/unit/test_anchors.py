"""Anchors with deltas: SSD and RetinaNet, each against its formula in plain loops."""

import math

import numpy as np
import pytest

import plain

IMAGE = {"image_id": 7, "file": "a.jpg", "width": 64, "height": 32, "canvas": "32x64", "scale": 1.0}
CATEGORIES = [3, 5]
RULES = {"kind": "anchors", "categories": CATEGORIES, "strides": [8, 16], "objectness": False, "nms": "hard"}
LEVELS = ((8, 4, 8), (16, 2, 4))
SIZES = [[[8, 8], [16, 8]], [[16, 16], [30, 15], [15, 30]]]
SSD = RULES | {"anchors": SIZES, "point": 0.5, "variances": [0.1, 0.1, 0.2, 0.2], "activation": "softmax"}
SSD |= {"background": "first", "score_above": 0.4, "nms_iou": 0.45, "candidates": 10, "candidates_of": "class"}


def moved(anchor: list[float], deltas: list[float]) -> list[float]:
    """The box that deltas make of an anchor x y w h, whose x y is the centre."""
    (x, y, w, h), (dx, dy, dw, dh) = anchor, deltas
    x, y, w, h = x + dx * w, y + dy * h, w * math.exp(dw), h * math.exp(dh)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def ssd() -> tuple[np.ndarray, np.ndarray, list[tuple]]:
    """Deltas [N, 4], logits [N, 3] and what they hold: all levels by cell, with two and three anchors."""
    rng = np.random.default_rng(0)
    anchors = [
        ((x + 0.5) * stride, (y + 0.5) * stride, w, h)
        for (stride, height, width), sizes in zip(LEVELS, SIZES, strict=True)
        for y in range(height)
        for x in range(width)
        for w, h in sizes
    ]
    deltas, logits = (rng.normal(0, 1.5, (len(anchors), count)).astype(np.float32) for count in (4, 3))
    found: dict[int, list] = {0: [], 1: []}
    for anchor, delta, values in zip(anchors, deltas.tolist(), logits.tolist(), strict=True):
        dx, dy, dw, dh = delta
        box = moved(anchor, [0.1 * dx, 0.1 * dy, 0.2 * dw, 0.2 * dh])
        for label, score in enumerate(plain.softmax(values)[1:]):  # class 0 is the background
            found[label] += [(score, label, box)] if score > 0.4 else []
    best = [one for label in found for one in sorted(found[label], key=lambda one: -one[0])[:10]]
    return deltas, logits, plain.nms(best, 0.45)


def test_ssd(decode) -> None:
    deltas, logits, expected = ssd()
    assert len(expected) > 12
    plain.same(decode({"boxes": deltas[None], "scores": logits[None]}, IMAGE, **SSD), expected, IMAGE, CATEGORIES)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_ssd_in_maps(decode, channels: str) -> None:
    """[1, anchors * numbers, rows, columns] of each level, told apart by shape alone."""
    deltas, logits, expected = ssd()
    outputs = {}
    for (_, height, width), part in zip(LEVELS, (slice(64), slice(64, None)), strict=True):
        for table in (logits, deltas):
            level = table[part].reshape(1, height, width, -1)
            outputs[str(len(outputs))] = level.transpose(0, 3, 1, 2) if channels == "first" else level
    plain.same(decode(outputs, IMAGE, **SSD), expected, IMAGE, CATEGORIES)


def test_ssd_with_y_first(decode) -> None:
    deltas, logits, expected = ssd()
    outputs = {"boxes": deltas[None][:, :, [1, 0, 3, 2]], "scores": logits[None]}
    plain.same(decode(outputs, IMAGE, **SSD, deltas="yxhw"), expected, IMAGE, CATEGORIES)


def test_retina_net(decode) -> None:
    """Sigmoid, anchors in strides at corners of cells, dw and dh limited, the best of each level, boxes cut early."""
    rng = np.random.default_rng(1)
    shapes = [[4, 4], [5.6, 2.8]]
    rules = RULES | {"anchors": [shapes], "anchors_in": "strides", "point": 0, "variances": [1, 1, 1, 1]}
    rules |= {"largest_log": 0.5, "activation": "sigmoid", "clip": "before_nms"}
    rules |= {"score_above": 0.05, "nms_iou": 0.5, "candidates": 15, "candidates_of": "level", "max_detections": 12}
    outputs, found = {}, []
    for stride, height, width in LEVELS:
        deltas, logits = (rng.normal(0, 1, (1, 2 * count, height, width)).astype(np.float32) for count in (4, 2))
        outputs |= {f"d{stride}": deltas, f"l{stride}": logits}
        level = []
        for row, column, anchor, label in np.ndindex(height, width, 2, 2):
            dx, dy, dw, dh = deltas[0, 4 * anchor : 4 * anchor + 4, row, column].tolist()
            w, h = (side * stride for side in shapes[anchor])
            box = moved([column * stride, row * stride, w, h], [dx, dy, min(dw, 0.5), min(dh, 0.5)])
            box = [min(max(value, 0), limit) for value, limit in zip(box, (64, 32) * 2, strict=True)]
            level.append((plain.sigmoid(float(logits[0, 2 * anchor + label, row, column])), label, box))
        found += sorted(level, key=lambda one: -one[0])[:15]
    expected = plain.nms(found, 0.5)[:12]
    assert len(expected) == 12
    plain.same(decode(outputs, IMAGE, **rules), expected, IMAGE, CATEGORIES)
