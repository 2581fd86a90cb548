"""Canvases: which there are, which one an image goes to, and that every stage keeps to it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, save

import benchmark
import infer
import preprocess
from detport import canvases, config, placing, shards
from detport.errors import UsageError

INPUT = {"name": "image", "height": 20, "width": 30, "canvases": [{"height": 30, "width": 20}]}
NAMES = ["20x30", "30x20"]


@pytest.mark.parametrize(
    ("size", "canvas", "scale"),
    [
        ((640, 480), "800x1216", 800 / 480),
        ((480, 640), "1216x800", 800 / 480),  # 800x1216 would shrink it by 800 / 640
        ((640, 640), "800x1216", 1.25),  # equal: the first
        ((3000, 100), "800x1216", 1216 / 3000),
        ((100, 3000), "1216x800", 1216 / 3000),
    ],
)
def test_an_image_goes_where_its_scale_is_largest(size, canvas, scale):
    settings = {"height": 800, "width": 1216, "canvases": [{"height": 1216, "width": 800}]}
    name, found = placing.best_canvas(settings, *size)
    assert name == canvas
    assert placing.fit(*size, found["width"], found["height"])[2] == scale
    only, _ = placing.best_canvas(settings | {"canvases": []}, *size)
    assert only == "800x1216"


def test_one_canvas_of_a_model():
    model = {"input": INPUT, "outputs": []}
    assert list(canvases.by_name(INPUT)) == NAMES
    assert canvases.select(model, None) == canvases.select(model, "20x30")
    assert canvases.select(model, "30x20")["input"] == {"name": "image", "height": 30, "width": 20, "canvases": []}
    assert model["input"] is INPUT
    with pytest.raises(UsageError, match="canvas 30x30: the model has 20x30, 30x20"):
        canvases.select(model, "30x30")


def test_a_backend_opens_a_file_per_canvas_or_the_checkpoint():
    model, paths = {"input": INPUT}, [Path("a"), Path("b")]
    assert canvases.files(paths, model, {"runs": "compiled"}) == dict(zip(NAMES, paths, strict=True))
    assert canvases.files(paths[:1], model, {"runs": "checkpoint"}) == dict.fromkeys(NAMES, Path("a"))
    with pytest.raises(UsageError, match="1 files; give one for each canvas, in this order: 20x30, 30x20"):
        canvases.files(paths[:1], model, {"runs": "compiled"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("canvases: [{height: 9, width: 8}, {height: 9, width: 8}]", "input.canvases.1: 9x8 is there already"),
        ("canvases: [{height: 1344, width: 1344}]", "input.canvases.0: 1344x1344 is there already"),
        ("canvases: [{height: 9}]", "input.canvases.0: missing key 'width'"),
        ("canvases: [{height: 9, width: 0}]", "input.canvases.0.width: 0"),
    ],
)
def test_mistakes_are_named(tmp_path, text, expected):
    whole = (config.ROOT / "config" / "models" / "retinamask.yaml").read_text()
    (tmp_path / "whole.yaml").write_text(whole)
    (tmp_path / "model.yaml").write_text(f"base: whole\ninput:\n  {text}\n")
    with pytest.raises(UsageError) as refusal:
        config.load(tmp_path / "model.yaml", "model")
    assert str(refusal.value).startswith(f"{tmp_path / 'model.yaml'}:3: {expected}")


READY = """
title: Means
dataset: none
onnx: model.onnx
input: {name: image, height: 20, width: 30}
preprocess:
  decoder: opencv
  channels: RGB
  resize: {library: opencv, rule: fit}
  mean: [0, 0, 0]
  std: [1, 1, 1]
  arithmetic: float32
outputs:
  - {name: size, shape: [4], dtype: int64}
  - {name: largest, shape: [1, 3, 1, 1], dtype: float32}
decode: {kind: efficientdet, categories: [1], anchor_scale: 4, nms: hard, nms_iou: 0.5, max_detections: 9, min_score: 0}
metric: {kind: coco, iou_types: [bbox]}
benchmark: {warmup_runs: 0, min_runs: 2, min_seconds: 0}
"""


def test_a_ready_graph_has_one_canvas(tmp_path):
    (tmp_path / "model.yaml").write_text(READY.replace("width: 30}", "width: 30, canvases: [{height: 9, width: 8}]}"))
    with pytest.raises(UsageError, match=r"model\.yaml:5: input\.canvases: a model that is ONNX already has one size"):
        config.load(tmp_path / "model.yaml", "model")


def graph(path: Path, height: int, width: int) -> Path:
    """A model that tells the size of its input and the largest value of each channel."""
    nodes = [helper.make_node("Shape", ["image"], ["size"]), helper.make_node("GlobalMaxPool", ["image"], ["largest"])]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])
    results = [
        helper.make_tensor_value_info("size", TensorProto.INT64, [4]),
        helper.make_tensor_value_info("largest", TensorProto.FLOAT, [1, 3, 1, 1]),
    ]
    made = helper.make_graph(nodes, "g", [image], results)
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A model with two canvases, its compiled graphs, and three images."""
    monkeypatch.chdir(tmp_path)
    text = READY.replace("onnx: model.onnx", "checkpoint: {file: x}\nnetwork: {architecture: retinamask}")
    text = text.replace("width: 30}", "width: 30, canvases: [{height: 30, width: 20}]}")
    Path("model.yaml").write_text(text)
    # These stages do not read the network's section, which is not whole here.
    monkeypatch.setattr(config, "PLUGINS", {})
    for height, width in ((20, 30), (30, 20)):
        graph(Path(f"{height}x{width}.onnx"), height, width)
    Path("images").mkdir()
    sizes = {"landscape.png": (60, 40), "portrait.png": (40, 60), "square.png": (40, 40)}
    for i, (name, (width, height)) in enumerate(sizes.items()):
        cv2.imwrite(f"images/{name}", np.full((height, width, 3), 50 * (i + 1), np.uint8))
    rows = [
        {"image_id": i, "file": name, "width": width, "height": height, "bytes": Path(f"images/{name}").stat().st_size}
        for i, (name, (width, height)) in enumerate(sizes.items())
    ]
    shards.write_index(Path("index.tsv"), rows)
    return tmp_path


BACKEND = config.ROOT / "config" / "backends" / "onnxruntime.yaml"
RUN = ["--model", "model.yaml", "--backend", str(BACKEND), "--compiled"]


def test_every_image_runs_on_its_own_canvas(project):
    preprocess.main(
        ["--model", "model.yaml", "--index", "index.tsv", "--images", "images", "--shard", "0/1", "--output", "shard"]
    )
    found = {image["file"]: image for image in shards.read_shard(Path("shard"))["images"]}
    assert {name: image["canvas"] for name, image in found.items()} == {
        "landscape.png": "20x30",
        "portrait.png": "30x20",
        "square.png": "20x30",
    }
    assert {image["scale"] for image in found.values()} == {0.5}
    assert found["portrait.png"]["pad"] == [0, 0]
    assert found["square.png"]["pad"] == [10, 0]
    infer.main([*RUN, "20x30.onnx", "30x20.onnx", "--shard", "shard", "--output", "outputs"])
    for i, (stem, size) in enumerate({"landscape": [20, 30], "portrait": [30, 20], "square": [20, 30]}.items()):
        assert np.fromfile(f"outputs/{stem}_0.bin", np.int64).tolist() == [1, 3, *size]
        assert np.fromfile(f"outputs/{stem}_1.bin", np.float32).tolist() == [50 * (i + 1)] * 3


def test_a_shard_of_another_canvas_is_refused(project):
    preprocess.main(
        ["--model", "model.yaml", "--index", "index.tsv", "--images", "images", "--shard", "0/1", "--output", "shard"]
    )
    text = Path("model.yaml").read_text()
    Path("model.yaml").write_text(text.replace(", canvases: [{height: 30, width: 20}]", ""))
    with pytest.raises(UsageError, match="canvas 30x20: the model has 20x30"):
        infer.main([*RUN, "20x30.onnx", "--shard", "shard", "--output", "outputs"])


def test_every_canvas_is_timed_and_the_first_stands_for_the_model(project):
    benchmark.main([*RUN, "20x30.onnx", "30x20.onnx", "--output", "performance.json"])
    found = json.loads(Path("performance.json").read_text())
    assert found["canvas"] == "20x30"
    assert [other["canvas"] for other in found["other_canvases"]] == ["30x20"]
    assert found["fps"] > 0
    assert found["other_canvases"][0].keys() >= {"canvas", "fps", "latency_ms", "runs", "seconds"}
