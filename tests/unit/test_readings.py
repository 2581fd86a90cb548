"""What outputs are, by family: each as its exporter gives it, with names that say nothing unless they are the point."""

import numpy as np
import pytest

import layouts_of as made
from detport import readings

STRIDES = [8, 16, 32]
ROWS = len(made.cells(STRIDES))


def read(outputs: dict[str, np.ndarray], classes: int | None = None, **more) -> list[readings.Reading]:
    return readings.likely([outputs], made.CANVAS, classes, **more)


def only(outputs: dict[str, np.ndarray], classes: int | None = None, **more) -> readings.Reading:
    (found,) = read(outputs, classes, **more)
    return found


@pytest.mark.parametrize("turned", [True, False])
def test_yolov8(turned):
    table = np.hstack([made.boxes(STRIDES, "cxcywh"), made.scores(ROWS, 7)])
    found = only({"a": table.T[None] if turned else table[None]}, 7)
    assert found.decode == {"kind": "dense", "box": "cxcywh", "objectness": False}
    assert found.guesses == set()


def test_yolov5():
    rows = len(made.cells(STRIDES, 3))
    table = np.hstack([made.boxes(STRIDES, "cxcywh", 3), made.scores(rows, 8)])
    found = only({"a": table[None]}, 7)
    assert (found.decode, found.classes) == ({"kind": "dense", "box": "cxcywh", "objectness": True}, 7)


def test_without_names_of_classes_objectness_is_a_guess():
    rows = len(made.cells(STRIDES, 3))
    likeliest, other = read({"a": np.hstack([made.boxes(STRIDES, "cxcywh", 3), made.scores(rows, 81)])[None]})
    assert (likeliest.decode["objectness"], likeliest.classes, likeliest.guesses) == (True, 80, {"objectness"})
    assert (other.decode["objectness"], other.classes) == (False, 81)


def test_masks_of_yolo():
    table = np.hstack([made.boxes(STRIDES, "cxcywh"), made.scores(ROWS, 7), made.logits(ROWS, 32)])
    found = only({"a": table.T[None], "b": np.zeros((1, 32, 16, 24), np.float32)}, 7)
    assert found.decode["masks"] == {"form": "prototypes", "activation": "none", "threshold": 0}


def test_maps_from_before_the_last_layer_are_not_read():
    """YOLOv5 exports its raw maps beside the table."""
    rows = len(made.cells(STRIDES, 3))
    table = np.hstack([made.boxes(STRIDES, "cxcywh", 3), made.scores(rows, 8)])
    raw = {f"onnx::{stride}": np.zeros((1, 3, 64 // stride, 96 // stride, 12), np.float32) for stride in STRIDES}
    found = only({"output": table[None]} | raw, 7)
    assert (found.decode["kind"], found.decode["tensors"]) == ("dense", {"rows": "output"})


def test_of_two_heads_the_last_is_a_guess():
    """YOLOv9 has an auxiliary one."""
    table = np.hstack([made.boxes(STRIDES, "cxcywh"), made.scores(ROWS, 7)]).T[None]
    likeliest, other = read({"a": table, "b": table}, 7)
    assert (likeliest.decode["tensors"], other.decode["tensors"]) == ({"rows": "b"}, {"rows": "a"})
    assert likeliest.guesses == {"tensors"}


def test_yolox_as_exported_by_default():
    rng = np.random.default_rng(0)
    table = np.hstack([rng.normal(0, 1, (ROWS, 4)), made.scores(ROWS, 8)])
    found = only({"a": np.float32(table)[None]}, 7)
    assert {key: found.decode[key] for key in ("kind", "strides", "centre", "size", "objectness")} == {
        "kind": "cells",
        "strides": STRIDES,
        "centre": "none",
        "size": "exp",
        "objectness": True,
    }
    assert found.guesses == {"centre", "size"}


def test_nanodet():
    table = np.hstack([made.scores(ROWS, 7), made.logits(ROWS, 32)])
    found = only({"cls_score2": table[None]}, 7)
    assert (found.decode["kind"], found.decode["bins"], found.decode["columns"]) == (
        "distances",
        8,
        ["classes", "boxes"],
    )
    assert found.guesses == {"point"}


def levels(numbers: int, values) -> dict[str, np.ndarray]:
    """Maps of every level, which the exporter has called after numbers."""
    sizes = [(made.CANVAS[0] // stride, made.CANVAS[1] // stride) for stride in STRIDES]
    return {f"{numbers}_{h}": values(h * w, numbers).T.reshape(1, numbers, h, w).astype(np.float32) for h, w in sizes}


def test_picodet_by_level():
    found = only(levels(7, made.scores) | levels(32, made.logits), 7)
    assert (found.decode["kind"], found.decode["bins"], found.decode["strides"]) == ("distances", 8, STRIDES)
    assert found.decode["tensors"] == {"boxes": ["32_8", "32_4", "32_2"], "classes": ["7_8", "7_4", "7_2"]}


def test_yolov5_by_level_needs_anchors():
    found = only(levels(3 * 12, made.logits), 7)
    assert (found.decode["kind"], found.decode["activation"]) == ("cells", "sigmoid")
    assert {"anchors", "centre", "size"} <= found.guesses


def test_yolox_by_level():
    found = only(levels(4, made.logits) | levels(1, made.scores) | levels(7, made.scores), 7)
    assert (found.decode["kind"], found.decode["tensors"]["objectness"]) == ("cells", ["1_8", "1_4", "1_2"])


def test_retinanet_by_level():
    found = only(levels(9 * 4, made.logits) | levels(9 * 7, made.logits), 7)
    assert (found.decode["kind"], found.decode["activation"], found.classes) == ("anchors", "sigmoid", 7)


@pytest.mark.parametrize("turned", [True, False])
def test_boxes_and_scores_apart(turned):
    scores = made.scores(ROWS, 7)
    found = only({"s": scores.T[None] if turned else scores[None], "b": made.boxes(STRIDES, "xyxy")[None]}, 7)
    assert found.decode == {
        "kind": "dense",
        "tensors": {"boxes": "b", "classes": "s"},
        "objectness": False,
        "box": "xyxy",
    }


def test_ssd_with_its_background():
    scores = np.hstack([np.full((ROWS, 1), 6), made.logits(ROWS, 3)])
    scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    fractions = made.boxes(STRIDES, "xyxy") / np.float32([96, 64, 96, 64])
    found = only({"scores": np.float32(scores)[None], "boxes": fractions[None]}, 3)
    assert (found.decode["background"], found.decode["coordinates"]) == ("first", "normalised")


def test_deltas_of_anchors_are_no_boxes():
    rows = len(made.cells(STRIDES, 2))
    scores = np.hstack([np.full((rows, 1), 6), made.logits(rows, 1)])
    scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    outputs = {"loc": made.logits(rows, 4), "conf": np.float32(scores), "landms": made.logits(rows, 10)}
    found = only({name: array[None] for name, array in outputs.items()}, 1)
    assert (found.decode["kind"], found.decode["background"]) == ("anchors", "first")
    assert "anchors" in found.guesses


def test_detr_and_rfdetr():
    queries = np.random.default_rng(0).uniform(0.2, 0.4, (1, 20, 4)).astype(np.float32)
    detr = only({"pred_logits": made.logits(20, 8)[None], "pred_boxes": queries}, 7)
    assert [detr.decode[key] for key in ("activation", "background", "nms")] == ["softmax", "last", "none"]
    rfdetr = only({"dets": queries, "labels": made.logits(20, 7)[None]}, 7)
    assert [rfdetr.decode[key] for key in ("activation", "coordinates", "nms")] == ["sigmoid", "normalised", "none"]


def test_rows_behind_nms():
    boxes, scores, labels = made.kept()
    found = only({"output0": np.hstack([boxes, scores[:, None], np.float32(labels)[:, None]])[None]}, 3)
    assert (found.form, found.decode["columns"]) == ("rows_of_6", ["box", "score", "label"])
    paddle = np.hstack([np.float32(labels)[:, None], scores[:, None], boxes])
    found = only({"a": paddle, "b": np.int32([20])}, 3, told_size=True)
    assert (found.decode["columns"], found.decode["coordinates"]) == (["label", "score", "box"], "original")


@pytest.mark.parametrize(
    "order",
    [["batch", "box", "score", "label"], ["batch", "box", "label", "score"], ["batch", "label", "score", "box"]],
)
def test_seven_columns_in_three_orders(order):
    boxes, scores, labels = made.kept()
    parts = {"batch": np.zeros(20), "box": boxes, "score": scores, "label": labels}
    table = np.hstack([parts[name].reshape(20, -1) for name in order]).astype(np.float32)
    assert only({"a": table}, 3).decode["columns"] == order


def test_seven_columns_of_no_detection_are_a_guess():
    found = read({"a": np.zeros((1, 7), np.float32)}, 3)
    assert len(found) == 3 and all("columns" in each.guesses for each in found)


def test_mmdeploy_and_tensorrt():
    boxes, scores, labels = made.kept()
    dets = np.hstack([boxes, scores[:, None]])[None]
    found = only({"dets": dets, "labels": labels[None]}, 3)
    assert (found.form, found.decode["tensors"]) == ("scored_boxes", {"boxes": "dets", "labels": "labels"})
    outputs = {"n": np.int32([[20]]), "b": boxes[None], "s": scores[None], "c": np.int32(labels)[None]}
    assert only(outputs, 3).decode["tensors"] == {"boxes": "b", "labels": "c", "scores": "s", "count": "n"}


def test_as_many_rows_as_there_are_detections():
    boxes, scores, labels = made.kept()
    dets = np.hstack([boxes, scores[:, None]])
    found = readings.likely([{"d": dets[:count], "l": labels[:count]} for count in (20, 11)], made.CANVAS, 3)
    assert [reading.decode["tensors"] for reading in found] == [{"boxes": "d", "labels": "l"}]


def test_torchvision_counts_labels_from_1_which_shows_only_by_the_lack_of_0():
    boxes, scores, labels = made.kept()
    outputs = {"boxes": boxes, "labels": labels + 1, "scores": scores}
    assert "labels_from" in only(outputs, 3).guesses
    assert "labels_from" not in only(outputs | {"labels": labels}, 3).decode


def test_tensorflow_by_its_names():
    boxes, scores, labels = made.kept()
    outputs = {"detection_boxes:0": boxes[None], "detection_scores:0": scores[None]}
    outputs |= {"detection_classes:0": np.float32(labels)[None], "num_detections:0": np.float32([20])}
    found = only(outputs)
    assert [found.decode[key] for key in ("box", "coordinates", "labels_from")] == ["yxyx", "normalised", 1]


def test_triples_of_non_max_suppression():
    outputs = {"a": made.boxes(STRIDES, "xyxy")[None], "b": made.scores(ROWS, 7).T[None]}
    found = only(outputs | {"c": np.int32([[0, 1, 5], [0, 2, 9]])}, 7, told_size=True)
    assert found.decode["tensors"] == {"boxes": "a", "scores": "b", "indices": "c"}


def test_what_is_no_detector_has_no_reading():
    assert read({"text": np.zeros((1, 1, 64, 96), np.float32)}) == []
    heat = {"hm": (1, 7, 16, 24), "wh": (1, 2, 16, 24), "reg": (1, 2, 16, 24)}
    outputs = {name: np.zeros(shape, np.float32) for name, shape in heat.items()}
    assert read(outputs, 7) == [] and readings.are_heat_maps([outputs])
