"""Cells with offsets and sizes: YOLOX, YOLO with anchors, FastestDet, each against its formula in plain loops."""

import math

import numpy as np
import pytest

import plain
from detport.errors import UsageError

IMAGE = {"image_id": 7, "file": "a.jpg", "width": 64, "height": 32, "canvas": "32x64", "scale": 1.0}
CATEGORIES = [3, 5]
RULES = {
    "kind": "cells",
    "categories": CATEGORIES,
    "strides": [8, 16],
    "score_above": 0.2,
    "nms": "hard",
    "nms_iou": 0.5,
}
YOLOX = RULES | {"centre": "none", "size": "exp"}
ANCHORS = [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]]]
YOLOV5 = RULES | {"anchors": ANCHORS, "centre": "sigmoid", "scale_x_y": 2, "size": "square", "activation": "sigmoid"}
CELLS = [(8, y, x) for y in range(4) for x in range(8)] + [(16, y, x) for y in range(2) for x in range(4)]


def test_yolox(decode) -> None:
    """[1, N, 5 + C] in the order of the strides, cells row by row; objectness and classes are scores already."""
    rng = np.random.default_rng(0)
    table = np.hstack([rng.normal(0, 0.7, (40, 4)), rng.random((40, 3))]).astype(np.float32)
    found = []
    for (stride, row, column), (tx, ty, tw, th, own, *scores) in zip(CELLS, table.tolist(), strict=True):
        x, y, w, h = (tx + column) * stride, (ty + row) * stride, math.exp(tw) * stride, math.exp(th) * stride
        best = int(np.argmax(scores))
        if scores[best] * own > 0.2:
            found.append((scores[best] * own, best, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    expected = plain.nms(found, 0.5)
    assert len(expected) > 10
    plain.same(decode({"output": table[None]}, IMAGE, **YOLOX, multi_label=False), expected, IMAGE, CATEGORIES)


def yolov5() -> tuple[list[np.ndarray], list[tuple]]:
    """Raw maps [1, anchors, rows, columns, 5 + C] and what they hold."""
    rng = np.random.default_rng(1)
    maps, found = [], []
    for stride, (height, width), anchors in zip((8, 16), ((4, 8), (2, 4)), ANCHORS, strict=True):
        maps.append(rng.normal(0, 1.5, (1, 3, height, width, 7)).astype(np.float32))
        for (_, anchor, row, column), _ in np.ndenumerate(maps[-1][..., 0]):
            tx, ty, tw, th, own, *scores = (plain.sigmoid(t) for t in maps[-1][0, anchor, row, column].tolist())
            x, y = (2 * tx - 0.5 + column) * stride, (2 * ty - 0.5 + row) * stride
            w, h = (2 * tw) ** 2 * anchors[anchor][0], (2 * th) ** 2 * anchors[anchor][1]
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            found += [(own * score, label, box) for label, score in enumerate(scores) if own * score > 0.2]
    return maps, plain.nms(found, 0.5)


def test_yolov5_by_level_in_any_order(decode) -> None:
    (fine, coarse), expected = yolov5()
    assert len(expected) > 30
    plain.same(decode({"a": coarse, "b": fine}, IMAGE, **YOLOV5), expected, IMAGE, CATEGORIES)


@pytest.mark.parametrize("axes", [(0, 1, 4, 2, 3), (0, 2, 3, 1, 4)])
def test_anchors_and_their_numbers_in_one_axis(decode, axes: tuple) -> None:
    """[1, anchors * (5 + C), rows, columns] as Darknet, [1, rows, columns, anchors * (5 + C)] as TensorFlow."""
    maps, expected = yolov5()
    outputs = {}
    for i, each in enumerate(maps):
        moved = each.transpose(axes)
        _, _, height, width, _ = each.shape
        outputs[str(i)] = moved.reshape((1, 21, height, width) if axes[2] == 4 else (1, height, width, 21))
    plain.same(decode(outputs, IMAGE, **YOLOV5), expected, IMAGE, CATEGORIES)


@pytest.mark.parametrize("by", ["anchor", "cell"])
def test_all_levels_in_one_table(decode, by: str) -> None:
    maps, expected = yolov5()
    order = (0, 1, 2, 3, 4) if by == "anchor" else (0, 2, 3, 1, 4)
    table = np.concatenate([each.transpose(order).reshape(1, -1, 7) for each in maps], axis=1)
    plain.same(decode({"o": table}, IMAGE, **YOLOV5, rows_by=by), expected, IMAGE, CATEGORIES)


def test_numbers_that_have_been_through_the_sigmoid(decode) -> None:
    maps, expected = yolov5()
    rules = YOLOV5 | {"centre": "none", "size_activation": "none", "activation": "none"}
    outputs = {str(i): 1 / (1 + np.exp(-each)) for i, each in enumerate(maps)}
    plain.same(decode(outputs, IMAGE, **rules), expected, IMAGE, CATEGORIES)


def one_cell(numbers: list, row: int, column: int) -> dict[str, np.ndarray]:
    """Maps of both levels with one object, at the coarse one; what is nothing has logits far below."""
    fine, coarse = np.full((1, 7, 4, 8), -20, np.float32), np.full((1, 7, 2, 4), -20, np.float32)
    coarse[0, :, row, column] = numbers
    return {"fine": fine, "coarse": coarse}


@pytest.mark.parametrize(("scale_x_y", "shift"), [(1, 0.0), (1.2, 0.1), ([1.05, 1.2], 0.1)])
def test_darknet(decode, scale_x_y: float | list, shift: float) -> None:
    """YOLOv3 and v4: sigmoid of the centre, spread about the middle by scale_x_y, exp of the sides."""
    rules = RULES | {"anchors": [[[8, 8]], [[20, 10]]], "centre": "sigmoid", "size": "exp", "activation": "sigmoid"}
    large = 40.0  # its sigmoid is 1
    (row,) = decode(
        one_cell([large, 0, 0, math.log(2), large, large, -large], 1, 2), IMAGE, **rules, scale_x_y=scale_x_y
    )
    x, y = (2 + 1 + shift) * 16, (1 + 0.5) * 16
    assert row["bbox"] == pytest.approx([x - 10, y - 10, min(20, 64 - (x - 10)), 18], abs=1e-4)
    assert row["category_id"] == 3


def test_fastest_det(decode) -> None:
    """A single map whose rows begin with objectness; sides are fractions of the canvas."""
    numbers = np.zeros((1, 7, 2, 4), np.float32)
    numbers[0, :, 1, 2] = [0.5, math.atanh(0.5), 0, 0, -20, 0.75, 0]  # objectness, tx ty tw th, scores
    rules = RULES | {
        "strides": [16],
        "columns": ["objectness", "boxes", "classes"],
        "centre": "tanh",
        "size": "fraction",
    }
    (row,) = decode({"o": numbers}, IMAGE, **rules, objectness_power=0.6, class_power=0.4)
    assert row["bbox"] == pytest.approx([2.5 * 16 - 16, 16, 32, 0], abs=1e-4)
    assert row["score"] == pytest.approx(0.5**0.6 * 0.75**0.4)


def test_a_canvas_that_cuts_cells(decode) -> None:
    """31 pixels have four cells of 8: the last one is cut."""
    image = IMAGE | {"canvas": "31x64", "height": 31}
    assert decode({"o": np.zeros((1, 40, 7), np.float32)}, image, **YOLOX) == []
    with pytest.raises(UsageError, match=r"40 rows \(maps of 4x8, 2x4\) of 4 boxes \+ 1 objectness \+ 2 classes"):
        decode({"o": np.zeros((1, 39, 7), np.float32)}, image, **YOLOX)


def test_levels_of_one_size_need_a_list(decode) -> None:
    """On a canvas of one cell two maps are alike; the list says which is of which stride."""
    image = IMAGE | {"canvas": "8x8", "width": 8, "height": 8}
    numbers = {name: np.full((1, 7, 1, 1), -20, np.float32) for name in ("a", "b")}
    numbers["b"][0, :, 0, 0] = [0, 0, 0, 0, 0.75, 1, 0]
    numbers["a"][0, 4:] = numbers["b"][0, 5:, 0, 0].min()
    rules = YOLOX | {"clip": "none"}
    with pytest.raises(UsageError, match=r"more than one way .*rows: \[a, b\].*; or .*rows: \[b, a\]"):
        decode(numbers, image, **rules)
    for names, side in ((["b", "a"], 8), (["a", "b"], 16)):
        (row,) = decode(numbers, image, **rules, tensors={"rows": names})
        assert row["bbox"][2:] == [side, side]


def test_lists_of_anchors_that_are_not_one_for_each_stride(decode) -> None:
    with pytest.raises(UsageError, match=r"decode\.anchors: has 3 lists for 2 strides"):
        decode({"o": np.zeros((1, 40, 7), np.float32)}, IMAGE, **YOLOV5 | {"anchors": [[[1, 1]]] * 3})
