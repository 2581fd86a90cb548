"""The patch stage measures what a lossy patch does, with ONNX Runtime's optimisations off."""

import importlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import patch
from detport import config
from detport.graph import running

SIDE = 8
MODEL = {
    "input": {"name": "image", "height": SIDE, "width": SIDE},
    "outputs": [{"name": "pooled"}],
    "simplify": {"seed": 0},
}


def pool_graph(shift: float) -> onnx.ModelProto:
    """image + shift -> Pad(-inf) right and bottom -> MaxPool 3x3/2; below zero everywhere with a negative shift."""
    values = {
        "shift": np.full((1, 1, 1, 1), shift, np.float32),
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        "lowest": np.array(-np.inf, np.float32),
    }
    nodes = [
        helper.make_node("Add", ["image", "shift"], ["shifted"]),
        helper.make_node("Pad", ["shifted", "pads", "lowest"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "pool",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, 3, SIDE // 2, SIDE // 2])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def patched(graph: onnx.ModelProto, name: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    assert importlib.import_module(f"detport.graph.patches.{name}").edit(copy) == 1
    return copy


@pytest.mark.parametrize(("shift", "changed"), [(-10.0, True), (10.0, False)])
def test_zero_padding_changes_the_border_where_values_are_negative(shift, changed):
    graph = pool_graph(shift)
    found = patch.effect(graph, patched(graph, "pad_maxpool_with_zero"), MODEL, threads=1)["pooled"]
    assert (found["largest"] > 5) is changed, "0 wins over about -9 in the last row and column"
    assert (found["mean"] > 0) is changed


def test_the_lossless_form_changes_nothing():
    graph = pool_graph(-10.0)
    assert patch.effect(graph, patched(graph, "fuse_pad_into_maxpool"), MODEL, threads=1)["pooled"]["largest"] == 0


def test_the_optimisations_of_onnxruntime_stay_off():
    assert running.UNOPTIMISED == {"graph_optimization": "disabled"}


@pytest.mark.parametrize(
    ("name", "after", "lossy"), [("pad_maxpool_with_zero", {}, True), ("fuse_pad_into_maxpool", {}, False)]
)
def test_the_stage_writes_what_its_patches_did(tmp_path: Path, name, after, lossy):
    before = {} if lossy else {"Pad": 1}
    model = f"""
title: one pool
dataset: none
onnx: pool.onnx
input: {{name: image, height: {SIDE}, width: {SIDE}}}
preprocess:
  {{decoder: pillow, channels: RGB, resize: {{library: pillow, rule: fit}}, mean: [0, 0, 0], std: [1, 1, 1],
  arithmetic: float32}}
outputs: [{{name: pooled, shape: [1, 3, 4, 4], dtype: float32}}]
patches: {{ascend: [{{name: {name}, matches: 1, before: {json.dumps(before)}, after: {json.dumps(after)}}}]}}
decode: {{kind: efficientdet, categories: [1], anchor_scale: 4, nms: hard, nms_iou: 0.5, max_detections: 9,
  min_score: 0}}
metric: {{kind: coco, iou_types: [bbox]}}
"""
    (tmp_path / "pool.yaml").write_text(model)
    onnx.save(pool_graph(-10.0), tmp_path / "pool.onnx")
    options = {
        "--model": tmp_path / "pool.yaml",
        "--backend": config.ROOT / "config" / "backends" / "ascend310.yaml",
        "--onnx": tmp_path / "pool.onnx",
        "--output": tmp_path / "out.onnx",
        "--output-json": tmp_path / "out.json",
    }
    patch.main([str(part) for option in options.items() for part in option])
    (done,) = json.loads((tmp_path / "out.json").read_text())["patches"]
    assert (done["name"], done["matches"]) == (name, 1)
    assert (done["effect"] is not None) is lossy
    if lossy:
        assert done["effect"]["pooled"]["largest"] > 5
