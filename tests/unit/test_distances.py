"""Points with distances to four sides: NanoDet, FCOS, RTMDet, raw YOLOv8, each against its formula in plain loops."""

import math

import numpy as np
import pytest

import plain
from detport.errors import UsageError

IMAGE = {
    "image_id": 7,
    "file": "a.jpg",
    "width": 128,
    "height": 32,
    "canvas": "32x64",
    "scale": [0.5, 1.0],
}  # stretched
CATEGORIES = [3, 5]
RULES = {"kind": "distances", "categories": CATEGORIES, "strides": [8, 16], "score_above": 0.3, "nms": "hard"}
RULES |= {"nms_iou": 0.6, "objectness": False}
NANODET = RULES | {"point": 0, "bins": 8, "clip": "before_nms", "max_detections": 20}
FCOS = RULES | {"point": 0.5, "activation": "sigmoid", "objectness": True}
CELLS = [(8, y, x) for y in range(4) for x in range(8)] + [(16, y, x) for y in range(2) for x in range(4)]


def around(x: float, y: float, sides: list[float], stride: float) -> list[float]:
    left, top, right, bottom = (side * stride for side in sides)
    return [x - left, y - top, x + right, y + bottom]


def test_nanodet_plus(decode) -> None:
    """[1, N, C + 4 * 8]: scores, then a distribution for each side; points at corners of cells, boxes cut early."""
    rng = np.random.default_rng(0)
    table = np.hstack([rng.random((40, 2)), rng.normal(0, 2, (40, 32))]).astype(np.float32)
    found = []
    for (stride, row, column), numbers in zip(CELLS, table.tolist(), strict=True):
        parts = [plain.softmax(numbers[2 + 8 * side : 10 + 8 * side]) for side in range(4)]
        means = [sum(i * part for i, part in enumerate(each)) for each in parts]
        box = around(column * stride, row * stride, means, stride)
        box = [min(max(value, 0), limit) for value, limit in zip(box, (64, 32) * 2, strict=True)]
        found += [(score, label, box) for label, score in enumerate(numbers[:2]) if score > 0.3]
    expected = plain.nms(found, 0.6)[:20]
    outputs = {"output": table[None]}
    plain.same(decode(outputs, IMAGE, **NANODET, columns=["classes", "boxes"]), expected, IMAGE, CATEGORIES)
    with pytest.raises(UsageError, match=r"columns: \[boxes, classes\], .*; or .*columns: \[classes, boxes\]"):
        decode(outputs, IMAGE, **NANODET)


def fcos() -> tuple[dict[str, np.ndarray], list[tuple]]:
    """Maps of classes, distances in strides and centerness of both levels, and what they hold."""
    rng = np.random.default_rng(1)
    outputs, found = {}, []
    for stride, (height, width) in ((16, (2, 4)), (8, (4, 8))):
        classes, sides, own = (rng.normal(0, 1, (1, count, height, width)).astype(np.float32) for count in (2, 4, 1))
        sides = np.exp(sides)
        outputs |= {f"cls{stride}": classes, f"reg{stride}": sides, f"ctr{stride}": own}
        for row, column in np.ndindex(height, width):
            centerness = plain.sigmoid(float(own[0, 0, row, column]))
            point = ((column + 0.5) * stride, (row + 0.5) * stride)
            box = around(*point, sides[0, :, row, column].tolist(), stride)
            for label, logit in enumerate(classes[0, :, row, column].tolist()):
                score = math.sqrt(plain.sigmoid(logit) * centerness)
                found += [(score, label, box)] if score > 0.3 else []
    return outputs, plain.nms(found, 0.6)


def test_fcos(decode) -> None:
    """The score is the root of class times centerness."""
    outputs, expected = fcos()
    assert len(expected) > 20
    rows = decode(outputs, IMAGE, **FCOS, objectness_power=0.5, class_power=0.5)
    plain.same(rows, expected, IMAGE, CATEGORIES)


def test_distances_in_pixels(decode) -> None:
    """RTMDet's graph multiplies by the stride."""
    outputs, expected = fcos()
    outputs |= {f"reg{stride}": outputs[f"reg{stride}"] * stride for stride in (8, 16)}
    rows = decode(outputs, IMAGE, **FCOS, objectness_power=0.5, class_power=0.5, distances_in="pixels")
    plain.same(rows, expected, IMAGE, CATEGORIES)


def test_candidates_of_each_level(decode) -> None:
    """The best pair of each level, whatever the other level has."""
    outputs, _ = fcos()
    rows = decode(outputs, IMAGE, **FCOS, candidates=1, candidates_of="level")
    best = [1 / ((1 + np.exp(-outputs[f"cls{stride}"])) * (1 + np.exp(-outputs[f"ctr{stride}"]))) for stride in (8, 16)]
    assert [row["score"] for row in rows] == pytest.approx(sorted((each.max() for each in best), reverse=True))


def test_raw_heads_of_yolov8(decode) -> None:
    """Distributions and classes in maps apart, as RKNN's exports have them; their sums of classes are nobody's."""
    boxes, classes = np.zeros((1, 16, 2, 4), np.float32), np.full((1, 2, 2, 4), 0.1, np.float32)
    boxes[0, :, 1, 2] = [90, 0, 0, 0, 0, 90, 0, 0, 0, 0, 90, 0, 0, 0, 0, 90]  # 0, 1, 2 and 3 strides
    classes[0, 1, 1, 2] = 0.9
    outputs = {"b": boxes, "c": classes, "sum": classes.sum(axis=1, keepdims=True)}
    (row,) = decode(outputs, IMAGE | {"scale": 1.0}, **RULES | {"strides": [16], "point": 0.5, "bins": 4})
    assert row["bbox"] == pytest.approx([40, 8, 32, 24])  # cut at the image: 72 becomes 72, 72 below becomes 32
    assert row["category_id"] == 5
