"""Decoded boxes with scores of all classes: the layouts of YOLO, PP-YOLOE, YOLO-NAS and DETR."""

import numpy as np
import pytest

import plain
from detport.errors import Failure, UsageError

# 120 x 60 pixels enlarged by 1.5, in the middle of a canvas of 180 x 180
IMAGE = {"image_id": 7, "file": "a.jpg", "width": 120, "height": 60, "canvas": "180x180", "scale": 1.5, "top": 45}
CATEGORIES = [3, 5, 90]
RULES = {"kind": "dense", "categories": CATEGORIES, "box": "cxcywh", "objectness": False}
RULES |= {"score_above": 0.1, "nms": "hard", "nms_iou": 0.6}
OWN = RULES | {"objectness": True}
COUNT = 50


def random_table(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres and sides of boxes that overlap in threes, objectness and scores of three classes."""
    rng = np.random.default_rng(seed)
    places = np.repeat(rng.uniform(20, 160, (COUNT // 3 + 1, 2)), 3, axis=0)[:COUNT]
    boxes = np.hstack([places + rng.normal(0, 1, (COUNT, 2)), rng.uniform(20, 30, (COUNT, 2))])
    return boxes.astype(np.float32), rng.random(COUNT, np.float32), rng.random((COUNT, 3), np.float32)


def reference(boxes: np.ndarray, own: np.ndarray, classes: np.ndarray, multi_label: bool = True) -> list[tuple]:
    """(score, label, box) as the published evaluations of YOLO find them, in plain loops."""
    found = []
    for (x, y, w, h), factor, scores in zip(boxes.tolist(), own.tolist(), classes.tolist(), strict=True):
        for label in range(3) if multi_label else [int(np.argmax(scores))]:
            if scores[label] * factor > 0.1:
                found.append((scores[label] * factor, label, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    return plain.nms(found, 0.6)


@pytest.mark.parametrize("multi_label", [True, False])
def test_yolov5(decode, multi_label: bool) -> None:
    """[1, N, 5 + C], or its transpose."""
    boxes, own, classes = random_table()
    expected = reference(boxes, own, classes, multi_label)
    assert 20 < len(expected) < COUNT * 2
    table = np.hstack([boxes, own[:, None], classes])[None]
    plain.same(decode({"output0": table}, IMAGE, **OWN, multi_label=multi_label), expected, IMAGE, CATEGORIES)
    transposed = {"output0": np.ascontiguousarray(table.transpose(0, 2, 1))}
    plain.same(decode(transposed, IMAGE, **OWN, multi_label=multi_label), expected, IMAGE, CATEGORIES)


def test_yolov8(decode) -> None:
    """[1, 4 + C, N], no objectness; only the best of all are kept."""
    boxes, _, classes = random_table(1)
    expected = reference(boxes, np.ones(COUNT), classes)
    outputs = {"output0": np.hstack([boxes, classes]).T[None]}
    plain.same(decode(outputs, IMAGE, **RULES), expected, IMAGE, CATEGORIES)
    plain.same(decode(outputs, IMAGE, **RULES, max_detections=5), expected[:5], IMAGE, CATEGORIES)


@pytest.mark.parametrize("most", [1, 3, 40])
def test_all_candidates_are_tried_where_the_best_do_not_suffice(decode, most: int) -> None:
    """A hundred times the same box fills what is tried first."""
    boxes, _, classes = random_table(2)
    crowd = np.float32([[90, 90, 30, 30, 0.95, 0, 0]] * 100)
    table = np.vstack([crowd, np.hstack([boxes, classes])])
    expected = reference(table[:, :4], np.ones(len(table)), table[:, 4:])
    plain.same(decode({"o": table[None]}, IMAGE, **RULES, max_detections=most), expected[:most], IMAGE, CATEGORIES)


@pytest.mark.parametrize("transposed", [False, True])
def test_boxes_and_scores_apart(decode, transposed: bool) -> None:
    """YOLO-NAS [1, N, C], PP-YOLOE [1, C, N]: corners, whatever the outputs are called."""
    boxes, _, classes = random_table(3)
    corners = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
    outputs = {"scores": corners[None], "boxes": classes.T[None] if transposed else classes[None]}  # names lie
    expected = reference(boxes, np.ones(COUNT), classes)
    plain.same(decode(outputs, IMAGE, **RULES | {"box": "xyxy"}), expected, IMAGE, CATEGORIES)


def test_in_pieces_of_a_map_each(decode) -> None:
    """Levels with their own outputs, decoded in place; a list says which, because it could be something else."""
    boxes, own, classes = random_table(4)
    table = np.hstack([boxes, own[:, None], classes])
    outputs = {"a": table[:32].T.reshape(1, 8, 2, 16), "b": table[32:].T[None], "other": np.zeros((1, 5))}
    rows = decode(outputs, IMAGE, **OWN, tensors={"rows": ["a", "b"]})
    plain.same(rows, reference(boxes, own, classes), IMAGE, CATEGORIES)
    with pytest.raises(UsageError, match=r"more than one way .*\{rows: a\}, .*; or tensors: \{rows: b\}"):
        decode(outputs, IMAGE, **OWN)


def test_a_stretched_image_has_two_scales(decode) -> None:
    image = IMAGE | {"scale": [1.5, 3.0], "top": 0}
    (row,) = decode({"o": np.float32([[[90, 90, 30, 60, 0.5, 0, 0]]])}, image, **RULES)
    assert row["bbox"] == [50, 20, 20, 20]


def test_detr(decode) -> None:
    """Softmax with a last class for nothing, the best class of each query, boxes as fractions, no NMS."""
    boxes, _, logits = random_table(5)
    logits = np.hstack([logits * 4, np.full((COUNT, 1), 1.5, np.float32)])
    rules = {"nms": "none", "activation": "softmax", "background": "last", "coordinates": "normalised"}
    outputs = {"pred_logits": logits[None], "pred_boxes": boxes[None] / 180}
    rules |= {"multi_label": False, "score_above": 0, "tensors": {"boxes": "pred_boxes"}}  # both have four columns
    rows = decode(outputs, IMAGE, **RULES | rules)
    expected = []
    for (x, y, w, h), values in zip(boxes.tolist(), logits.tolist(), strict=True):
        scores = plain.softmax(values)[:-1]
        best = int(np.argmax(scores))
        expected.append((scores[best], best, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    plain.same(rows, sorted(expected, key=lambda one: -one[0]), IMAGE, CATEGORIES)
    assert len(rows) == COUNT


def test_queries_by_the_best_of_all_pairs(decode) -> None:
    """RF-DETR, whose `dets` are boxes and whose `labels` are logits: sigmoid, the best over queries and classes."""
    boxes, _, logits = random_table(6)
    logits = logits * 6 - 3
    rules = {
        "nms": "none",
        "activation": "sigmoid",
        "coordinates": "normalised",
        "max_detections": 30,
        "score_above": 0,
    }
    rows = decode({"dets": boxes[None] / 180, "labels": logits[None]}, IMAGE, **RULES | rules)
    expected = [
        (plain.sigmoid(value), label, [x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        for (x, y, w, h), values in zip(boxes.tolist(), logits.tolist(), strict=True)
        for label, value in enumerate(values)
    ]
    plain.same(rows, sorted(expected, key=lambda one: -one[0])[:30], IMAGE, CATEGORIES)


def test_columns_that_nobody_reads(decode) -> None:
    """Key points behind the classes."""
    table = np.float32([[[90, 90, 30, 30, 0.5, 0, 0, 7, 7]]])
    assert len(decode({"o": table}, IMAGE, **RULES, columns=["boxes", "classes", 2])) == 1
    with pytest.raises(UsageError, match=r"decode\.columns"):
        decode({"o": table}, IMAGE, **RULES)
    with pytest.raises(UsageError, match=r"decode\.columns and decode\.objectness disagree"):
        decode({"o": table}, IMAGE, **RULES, columns=["boxes", "objectness", "classes", 1])


def test_two_heads_are_not_guessed(decode) -> None:
    """YOLOv9's training graph has two outputs of the same shape."""
    outputs = {name: np.zeros((1, 7, 50), np.float32) for name in ("aux", "main")}
    with pytest.raises(UsageError, match=r"more than one way .*tensors: \{rows: aux\}.*; or tensors: \{rows: main\}"):
        decode(outputs, IMAGE, **RULES)
    assert decode(outputs, IMAGE, **RULES, tensors={"rows": "main"}) == []


def test_a_square_table_needs_its_orientation(decode) -> None:
    table = np.zeros((7, 7), np.float32)
    table[0] = [90, 90, 30, 30, 0.5, 0, 0]
    with pytest.raises(UsageError, match=r"more than one way.*channels: last; or .*channels: first"):
        decode({"o": table[None]}, IMAGE, **RULES)
    assert len(decode({"o": table[None]}, IMAGE, **RULES, channels="last")) == 1
    assert len(decode({"o": table.T[None]}, IMAGE, **RULES, channels="first")) == 1


def test_four_classes_apart_from_four_sides_need_a_name(decode) -> None:
    outputs = {"cls_score2": np.float32([[[90, 90, 30, 30]]]), "x": np.float32([[[0.5, 0, 0, 0]]])}
    rules = RULES | {"categories": [1, 2, 3, 4]}
    with pytest.raises(UsageError, match=r"more than one way"):
        decode(outputs, IMAGE, **rules)
    (row,) = decode(outputs, IMAGE, **rules, tensors={"boxes": "cls_score2"})
    assert row["category_id"] == 1


def test_objectness_in_an_output_of_its_own(decode) -> None:
    """Whether it is a factor must be said; one that is none, as the sums of RKNN's exports, looks the same."""
    boxes, own, classes = random_table(7)
    outputs = {"b": boxes[None], "s": classes[None], "c": own[None, :, None]}
    plain.same(decode(outputs, IMAGE, **OWN), reference(boxes, own, classes), IMAGE, CATEGORIES)
    plain.same(decode(outputs, IMAGE, **RULES), reference(boxes, np.ones(COUNT), classes), IMAGE, CATEGORIES)


@pytest.mark.parametrize("categories", [[1, 2], [1, 2, 3, 4, 5]])
def test_another_number_of_classes_is_named(decode, categories: list) -> None:
    with pytest.raises(
        UsageError, match=rf"4 boxes \+ {len(categories)} classes .*declared are o \[1, 7, 50\]; correct"
    ):
        decode({"o": np.zeros((1, 7, 50), np.float32)}, IMAGE, **RULES | {"categories": categories})


def test_a_score_that_is_none_is_named(decode) -> None:
    table = np.zeros((1, 50, 7), np.float32)
    table[0, 9, 5] = 3.5
    with pytest.raises(
        Failure, match=r"'a\.jpg': row 9 of the outputs scores 3\.5, which is no score: set decode\.activ"
    ):
        decode({"o": table}, IMAGE, **RULES)
