"""Every preset, read against the schema of a model, with outputs of its family."""

import numpy as np
import pytest

from detport import config, presets
from detport.graph.describe import Facts, Tensor

STRIDES = {"retinanet": (8, 16, 32, 64, 128), "nanodet_plus": (8, 16, 32, 64), "picodet": (8, 16, 32, 64)}


def outputs_of(name: str, kind: str, options: dict, canvas: tuple[int, int]) -> tuple[dict, dict]:
    """Outputs that a family gives for 3 classes, and what the yaml says of them besides the preset."""
    classes = 3 + (options.get("background", "none") != "none")
    if kind == "after_nms":
        columns = options.get("columns")
        width = sum(4 if each == "box" else 1 for each in columns or ["box"])
        found = {"boxes": [20, width]}
        return found | ({} if columns else {"scores": [20], "labels": [20]}), {}
    if kind == "dense":
        if name in ("detr", "rfdetr", "rtdetr", "ssd", "ultraface"):
            return {"b": [1, 50, 4], "c": [1, 50, classes]}, {"tensors": {"boxes": "b", "classes": "c"}}
        return {"output0": [1, 50, 4 + options["objectness"] + classes]}, {}
    anchors, bins = options.get("anchors"), 8 if kind == "distances" and name != "rtdetr" else 1
    per_cell = (
        [len(level) for level in anchors * (len(options["strides"]) if len(anchors) == 1 else 1)] if anchors else []
    )
    per_cell = per_cell or [1] * len(options["strides"])
    rows = sum(
        count * -(-canvas[0] // stride) * -(-canvas[1] // stride)
        for count, stride in zip(per_cell, options["strides"], strict=True)
    )
    if kind == "cells":
        return {"output": [1, rows, 5 + classes]}, {}
    more = {"bins": bins} if bins > 1 else {}
    return {"b": [1, rows, 4 * bins], "c": [1, rows, classes]}, more | {"tensors": {"boxes": "b", "classes": "c"}}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in presets.known() for kind in presets.load(name)["layouts"]]
)
def test_a_preset_makes_a_model_of_each_of_its_layouts(name, kind):
    preset = presets.load(name)
    options = {"kind": kind, "categories": [1, 2, 3], "nms": "none"} | preset["layouts"][kind]
    if kind != "after_nms":
        options = {"score_above": 0.001} | options | preset["select"]
    multiple = preset["input"].get("multiple", 1)
    height, width = (-(-side // multiple) * multiple for side in preset["size"])
    shapes, more = outputs_of(name, kind, options, (height, width))
    outputs = [
        {"name": key, "shape": shape, "dtype": "int64" if key == "labels" else "float32"}
        for key, shape in shapes.items()
    ]
    model = config.check(
        {
            "title": name,
            "dataset": "d",
            "onnx": "m.onnx",
            "input": {"name": "image", "height": height, "width": width} | preset["input"],
            "preprocess": preset["preprocess"],
            "outputs": outputs,
            "decode": options | more,
            "metric": {"kind": "coco", "iou_types": ["bbox"]},
        },
        "model",
        f"{name}.yaml",
    )
    assert model["preprocess"].items() >= {key: preset["preprocess"][key] for key in ("channels", "mean")}.items()


@pytest.mark.parametrize("name", presets.known())
def test_a_preset_says_where_it_was_read(name):
    assert "/" in presets.load(name)["source"]


def facts(inputs: list[str], outputs: list[str], producer: str = "", **metadata: object) -> Facts:
    tensors = ([Tensor(name, "float32", None) for name in names] for names in (inputs, outputs))
    return Facts(*tensors, 13, producer, {}, [], metadata, [], [])


@pytest.mark.parametrize(
    ("found", "form", "name"),
    [
        (facts(["images"], ["output0"], stride=32, names={}, task="detect"), "dense", "yolov8"),
        (facts(["images"], ["output0"], stride=32, names={}, task="detect", end2end=True), "rows_of_6", "yolov10"),
        (facts(["images"], ["output0"], stride=32, names={}, task="detect", end2end=False), "rows_of_6", "yolov8"),
        (facts(["images"], ["output0"], stride=32, names={}), "dense_objectness", "yolov5"),
        (facts(["images"], ["output"]), "offsets", "yolox"),
        (facts(["data"], ["cls_score2"]), "distributions", "nanodet_plus"),
        (facts(["images", "orig_target_sizes"], ["labels", "boxes", "scores"]), "vectors", "rtdetr"),
        (facts(["image", "scale_factor"], ["a", "b"]), "counted_rows", "ppyoloe"),
        (facts(["input"], ["dets", "labels"]), "scored_boxes", "mmdet"),
        (facts(["input"], ["dets", "labels"]), "queries", "rfdetr"),
        (facts(["inputs"], ["pred_logits", "pred_boxes"]), "queries", "detr"),
        (facts(["x"], ["y"]), "dense", None),
    ],
)
def test_which_family_a_file_is_of(found, form, name):
    recognised = presets.recognised(found, form)
    assert (recognised[0] if recognised else None) == name


def test_numbers_of_presets_are_as_published():
    """A few of them, by the pages that they were read from."""
    assert presets.load("rtmdet")["preprocess"]["std"] == [57.375, 57.12, 58.395]
    assert presets.load("yolov8")["select"]["nms_iou"] == 0.7
    anchors = np.array(presets.load("retinanet")["layouts"]["anchors"]["anchors"][0])
    areas = np.sort(np.unique(anchors.prod(axis=1).round(3)))
    np.testing.assert_allclose(np.sqrt(areas), 4 * 2 ** (np.arange(3) / 3), rtol=1e-3)
