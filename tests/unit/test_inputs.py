"""What a graph is fed beside and with the image, through all stages, and outputs of every type and length."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

import benchmark
import compile as compile_stage
import export
import infer
import preprocess
import simplify
import words
from detport import canvases, config, inputs, outputs, shards
from detport.errors import Failure

VALUE = helper.make_tensor_value_info
IMAGE = {"width": 80, "height": 30, "resized": [40, 15], "scale": 0.5}


@pytest.mark.parametrize(
    ("values", "image", "expected"),
    [
        (["image_width", "image_height"], IMAGE, [[80, 30]]),
        (["resized_height", "resized_width", "scale_x"], IMAGE, [[15, 40, 0.5]]),
        (["input_width", "input_height"], IMAGE, [[40, 30]]),
        (["input_width", "input_height"], IMAGE | {"size": [32, 16]}, [[32, 16]]),
        (["scale_y", "scale_x"], IMAGE | {"scale": [0.5, 1.5]}, [[1.5, 0.5]]),
        ([0.25, 7], IMAGE, [[0.25, 7]]),
    ],
)
def test_inputs_that_follow_from_the_image(values, image, expected):
    size = words.model((40, 30), {}, more=[{"name": "x", "dtype": "float32", "values": values}])["input"]
    found = inputs.derived(size, image)["x"]
    assert found.dtype == np.float32
    assert found.tolist() == expected


def test_random_inputs_are_those_of_an_image_that_fills_the_canvas():
    more = [{"name": "sizes", "dtype": "int64", "values": ["image_width", "image_height"], "shape": [2]}]
    more += [{"name": "scale", "dtype": "float32", "values": ["scale_y", "scale_x"]}]
    size = words.model((40, 30), {}, dtype="uint8", more=more, layout="HWC")["input"]
    found = inputs.random(size, 0)
    assert (found["image"].dtype, found["image"].shape) == (np.uint8, (30, 40, 3))
    assert found["image"].max() > 200
    assert (found["sizes"].tolist(), found["scale"].tolist()) == ([40, 30], [[1.0, 1.0]])
    half = inputs.random(words.model((40, 30), {}, dtype="float16")["input"], 0)["image"]
    assert half.dtype == np.float16 and 0.9 < half.astype(float).std() < 1.1


def test_the_size_of_an_images_tensor():
    assert canvases.size_of({"canvas": "30x40"}) == (30, 40)
    assert canvases.size_of({"canvas": "30x40", "size": [32, 16]}) == (16, 32)
    with pytest.raises(Failure, match=r"'a\.jpg': shard\.json does not say its canvas"):
        canvases.size_of({"file": "a.jpg"})


READY = {
    "title": "Loud channels",
    "dataset": "none",
    "onnx": "model.onnx",
    "outputs": [
        {"name": "loud", "shape": [3, 2], "dtype": "int64", "varies": 0},
        {"name": "largest", "shape": [1, 3], "dtype": "float16"},
        {"name": "is_loud", "shape": [1, 3], "dtype": "bool"},
        {"name": "twice", "shape": [1, 2], "dtype": "int64"},
    ],
    "decode": {"kind": "efficientdet", "categories": [1], "anchor_scale": 4, "nms": "hard", "nms_iou": 0.5}
    | {"max_detections": 9, "min_score": 0},
    "metric": {"kind": "coco", "iou_types": ["bbox"]},
    "benchmark": {"warmup_runs": 0, "min_runs": 2, "min_seconds": 0},
}


def loud_channels(path: Path) -> None:
    """Of pixels [N, H, W, 3] the channels with a value above 100, and twice another input."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["numbers", "axes"], ["largest32"], keepdims=0),
        helper.make_node("Cast", ["largest32"], ["largest"], to=TensorProto.FLOAT16),
        helper.make_node("Greater", ["largest32", "limit"], ["is_loud"]),
        helper.make_node("NonZero", ["is_loud"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["loud"]),
        helper.make_node("Add", ["size", "size"], ["twice"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([1, 2]), "axes"),
        onnx.numpy_helper.from_array(np.float32(100), "limit"),
    ]
    image = VALUE("image", TensorProto.UINT8, ["N", "h", "w", 3])
    results = [
        VALUE("loud", TensorProto.INT64, ["k", 2]),
        VALUE("largest", TensorProto.FLOAT16, ["N", 3]),
        VALUE("is_loud", TensorProto.BOOL, ["N", 3]),
        VALUE("twice", TensorProto.INT64, ["N", 2]),
    ]
    made = helper.make_graph(nodes, "g", [VALUE("size", TensorProto.INT64, ["N", 2]), image], results, constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.fixture(params=[None, 1, 8])
def project(request, tmp_path, monkeypatch) -> Path:
    """Three images with 0, 1 and 3 loud channels, and the model for tensors of one size or of their own."""
    monkeypatch.chdir(tmp_path)
    more = [{"name": "size", "dtype": "int64", "values": ["image_width", "input_width"]}]
    size = {"name": "image", "height": 32, "width": 40, "dtype": "uint8", "layout": "NHWC", "more": more}
    size |= {"multiple": request.param}
    sections = {"input": size, "preprocess": words.PLAIN | {"resize": {"library": "opencv", "rule": "keep"}}}
    Path("model.yaml").write_text(yaml.safe_dump(READY | sections))
    loud_channels(Path("model.onnx"))
    Path("images").mkdir()
    rows = []
    for i, colour in enumerate(([0, 9, 100], [0, 200, 9], [101, 200, 255])):
        cv2.imwrite(f"images/{i}.png", np.full((20 + i, 30 + i, 3), colour[::-1], np.uint8))
        rows.append({"image_id": i, "file": f"{i}.png", "width": 30 + i, "height": 20 + i, "bytes": 1})
    shards.write_index(Path("index.tsv"), rows)
    return tmp_path


def stage(module, **options: str) -> None:
    module.main([part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)])


def test_all_of_it_through_the_stages(project):
    """uint8 [1, H, W, 3], an input beside it, outputs of four types, one of them with fewer rows than declared."""
    own = config.load(Path("model.yaml"), "model")
    backend = str(config.ROOT / "config" / "backends" / "onnxruntime.yaml")
    run = {"model": "model.yaml", "backend": backend}
    stage(preprocess, model="model.yaml", index="index.tsv", images="images", shard="0/1", output="shard")
    stage(export, model="model.yaml", weights="model.onnx", output="exported.onnx")
    stage(simplify, model="model.yaml", onnx="exported.onnx", output="simplified.onnx")
    stage(compile_stage, **run, onnx="simplified.onnx", output="compiled.onnx")
    stage(infer, **run, compiled="compiled.onnx", shard="shard", output="outputs")
    images = shards.read_shard(Path("outputs"))["images"]
    multiple = own["input"]["multiple"]
    for i, (image, loud) in enumerate(zip(images, ([], [1], [0, 1, 2]), strict=True)):
        found = outputs.read(Path("outputs"), str(i), outputs.NAMINGS[0], own["outputs"], image["file"])
        assert found["loud"].tolist() == [[0, channel] for channel in loud]
        assert found["largest"].dtype == np.float16 and found["largest"][0, 1] in (9, 200)
        assert found["is_loud"].tolist() == [[channel in loud for channel in range(3)]]
        width = {None: 40, 1: 30 + i, 8: 32}[multiple]
        assert found["twice"].tolist() == [[2 * (30 + i), 2 * width]]
    stage(benchmark, **run, compiled="compiled.onnx", output="performance.json")
    assert json.loads(Path("performance.json").read_text())["runs"] == 2


def test_a_shard_of_another_size_is_refused(project):
    stage(preprocess, model="model.yaml", index="index.tsv", images="images", shard="0/1", output="shard")
    text = json.loads(Path("shard/shard.json").read_text())
    text["images"][1].pop("scale")
    Path("shard/shard.json").write_text(json.dumps(text))
    backend = str(config.ROOT / "config" / "backends" / "onnxruntime.yaml")
    with pytest.raises(Failure, match=r"'1\.png' has no scale; make the shard again"):
        stage(infer, model="model.yaml", backend=backend, compiled="model.onnx", shard="shard", output="outputs")


CONTRACT = [
    {"name": "boxes", "shape": [1, 5, 4], "dtype": "float32", "varies": 1},
    {"name": "labels", "shape": [1, 5], "dtype": "int64", "varies": 1},
    {"name": "count", "shape": [1], "dtype": "int32", "varies": None},
]


@pytest.mark.parametrize("count", [0, 2, 5])
def test_outputs_that_vary_are_read_by_their_numbers(tmp_path, count):
    arrays = [np.ones((1, count, 4), np.float32), np.arange(count)[None], np.array([count], np.int32)]
    outputs.write(tmp_path, "a", arrays, CONTRACT, "a.jpg")
    found = outputs.read(tmp_path, "a", outputs.NAMINGS[0], CONTRACT, "a.jpg")
    for array, other in zip(arrays, found.values(), strict=True):
        np.testing.assert_array_equal(array, other, strict=True)


def test_outputs_that_vary_too_much(tmp_path):
    arrays = [np.ones((1, 6, 4), np.float32), np.arange(6)[None], np.array([6], np.int32)]
    with pytest.raises(Failure, match=r"'a\.jpg': output boxes is float32 \[1, 6, 4\]"):
        outputs.write(tmp_path, "a", arrays, CONTRACT, "a.jpg")
    for array, i in zip(arrays, range(3), strict=True):
        array.tofile(tmp_path / f"a_{i}.bin")
    with pytest.raises(Failure, match=r"a_0\.bin has 96 bytes, which are no float32 \[1, 5, 4\] of boxes"):
        outputs.read(tmp_path, "a", outputs.NAMINGS[0], CONTRACT, "a.jpg")
    (tmp_path / "a_0.bin").write_bytes(bytes(17))
    with pytest.raises(Failure, match=r"a_0\.bin has 17 bytes"):
        outputs.read(tmp_path, "a", outputs.NAMINGS[0], CONTRACT, "a.jpg")


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int16", "bool"])
def test_outputs_of_every_type(tmp_path, dtype):
    declared = [{"name": "x", "shape": [2, 3], "dtype": dtype, "varies": None}]
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    outputs.write(tmp_path, "a", [array], declared, "a.jpg")
    found = outputs.read(tmp_path, "a", outputs.NAMINGS[0], declared, "a.jpg")["x"]
    np.testing.assert_array_equal(found, array, strict=True)
    (tmp_path / "a_0.txt").write_text("0 1 1 1 0 1")
    found = outputs.read(tmp_path, "a", outputs.NAMINGS[1], declared, "a.jpg")["x"]
    np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.parametrize(("dtype", "value"), [("uint8", "-1"), ("uint8", "256"), ("int8", "128"), ("bool", "2")])
def test_text_that_a_type_cannot_hold(tmp_path, dtype, value):
    declared = [{"name": "x", "shape": [2], "dtype": dtype, "varies": None}]
    (tmp_path / "a_0.txt").write_text(f"0 {value}")
    with pytest.raises(Failure, match=f"x holds {value}.0, no {dtype} number"):
        outputs.read(tmp_path, "a", outputs.NAMINGS[1], declared, "a.jpg")


def test_decoders_get_wide_numbers():
    half = np.array([300.0], np.float16)
    assert outputs.widened(half).dtype == np.float32
    assert outputs.widened(half)[0] ** 2 == 90_000
    whole = np.array([1], np.int64)
    assert outputs.widened(whole) is whole
