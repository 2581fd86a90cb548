"""What a graph is fed: its contract with the yaml, inputs beside the image, sizes, types, and outputs that vary."""

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
from detport import canvases, config, inputs, outputs, shards, tensors
from detport.errors import Failure, UsageError
from detport.graph import contract
from detport.graph.export import import_onnx

VALUE = helper.make_tensor_value_info
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def passing(path: Path, shape: list | None, kind: str = "float32", more: list | None = None) -> Path:
    """A graph whose output is its input."""
    image = VALUE("image", KINDS[kind], shape)
    made = helper.make_graph([helper.make_node("Identity", ["image"], ["out"])], "g", [image, *(more or [])], [])
    made.output.append(VALUE("out", KINDS[kind], shape or [1, 3, 30, 40]))
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def model(shape: list[int], kind: str = "float32", **more: object) -> dict:
    """Input of 40 x 30 pixels, the one output of passing()."""
    own = words.model((40, 30), {}, **({"dtype": kind} | more))
    return own | {"outputs": [{"name": "out", "shape": shape, "dtype": kind, "varies": None}]}


@pytest.mark.parametrize("batch", ["N", "batch", 1, None, 0, -1])
@pytest.mark.parametrize("size", [("h", "w"), (30, 40), ("?", "?"), (-1, "w")])
def test_open_axes_get_the_lengths_of_the_yaml(tmp_path, batch, size):
    path = passing(tmp_path / "m.onnx", [batch, 3, *size])
    graph = import_onnx(path, model([1, 3, 30, 40]), tmp_path / "bound.onnx")
    assert contract.lengths_of(graph.graph.input[0]) == [1, 3, 30, 40]
    shared = batch if isinstance(batch, str) else None
    expected = [1 if shared or batch == 1 else None, 3]
    assert contract.lengths_of(graph.graph.output[0])[:2] == expected, "the outputs' axes of the same names too"


def test_a_name_for_several_lengths_binds_nothing_else(tmp_path):
    graph = import_onnx(passing(tmp_path / "m.onnx", ["x", 3, "x", "x"]), model([1, 3, 30, 40]), tmp_path / "b.onnx")
    assert contract.lengths_of(graph.graph.input[0]) == [1, 3, 30, 40]
    assert contract.lengths_of(graph.graph.output[0]) == [None, 3, None, None]


def test_an_input_without_any_shape_gets_the_whole_one(tmp_path):
    graph = import_onnx(passing(tmp_path / "m.onnx", None), model([1, 3, 30, 40]), tmp_path / "b.onnx")
    assert contract.lengths_of(graph.graph.input[0]) == [1, 3, 30, 40]


@pytest.mark.parametrize(
    ("shape", "kind", "more", "expected"),
    [
        ([1, 3, 64, 48], "float32", {}, "set input height: 64, width: 48"),
        ([1, 30, 40, 3], "float32", {}, "set input layout: NHWC"),
        ([1, 64, 48, 3], "uint8", {}, "set input dtype: uint8, layout: NHWC, height: 64, width: 48"),
        (["N", "h", "w", 3], "uint8", {}, "set input dtype: uint8, layout: NHWC"),
        ([3, 30, 40], "float32", {}, "set input layout: CHW"),
        ([30, 40, 1], "float32", {}, "set input layout: HWC, channels: 1"),
        ([1, 1, 30, 40], "float32", {}, "set input channels: 1"),
        ([1, 3, 30, 40], "float16", {}, "set input dtype: float16"),
        ([4, 3, 30, 40], "float32", {}, "it takes 4 images at once, detport runs one: export it with a batch of 1"),
        ([1, 3, 30, 40], "float32", {"multiple": 10}, "its height and width are fixed: remove input.multiple"),
        ([1, 300], "float32", {}, "an image has three or four axes, with 1 or 3 channels: is this its input?"),
        ([1, 8, 30, 40], "float32", {}, "an image has three or four axes"),
    ],
)
def test_a_graph_of_another_form_says_what_to_write(tmp_path, shape, kind, more, expected):
    path = passing(tmp_path / "m.onnx", shape, kind)
    own = model([1, 3, 30, 40], **more)
    with pytest.raises(Failure) as refusal:
        import_onnx(path, own, tmp_path / "bound.onnx")
    found = [size if isinstance(size, int) else "open" for size in shape]
    message = str(refusal.value)
    if "N" not in shape:
        assert f"{path}: image is {kind} [{', '.join(map(str, found))}]; the yaml says float32 [1, 3, " in message
    assert expected in message and "\n" not in message


def test_inputs_that_the_yaml_lacks_are_listed_with_their_shapes(tmp_path):
    sizes = VALUE("orig_target_sizes", TensorProto.INT64, ["N", 2])
    path = passing(tmp_path / "m.onnx", [1, 3, 30, 40], more=[sizes])
    with pytest.raises(Failure, match=r"has image \(float32 \[1, 3, 30, 40\]\), orig_target_sizes \(int64 \[open, 2\]"):
        import_onnx(path, model([1, 3, 30, 40]), tmp_path / "bound.onnx")
    wrong = [{"name": "orig_target_sizes", "dtype": "float32", "values": ["image_width", "image_height"]}]
    with pytest.raises(Failure, match=r"is int64 \[1, 2\]; the yaml says float32 \[1, 2\]; correct input\.more\.0"):
        import_onnx(path, model([1, 3, 30, 40], more=wrong), tmp_path / "bound.onnx")


def test_inputs_may_stand_in_any_order(tmp_path):
    graph = onnx.load(passing(tmp_path / "m.onnx", [1, 3, 30, 40]))
    graph.graph.input.insert(0, VALUE("size", TensorProto.FLOAT, [2]))
    more = [{"name": "size", "dtype": "float32", "values": ["input_height", 0.5], "shape": [2]}]
    contract.check(graph, model([1, 3, 30, 40], more=more), "m.onnx")


@pytest.mark.parametrize("opset", [6, 9, 13, 18, 22, 26])
def test_any_opset_that_onnx_runtime_takes(tmp_path, opset):
    graph = onnx.load(passing(tmp_path / "m.onnx", ["N", 3, 30, 40]))
    graph.opset_import[0].version = opset
    onnx.save(graph, tmp_path / "m.onnx")
    own = model([1, 3, 30, 40])
    bound = import_onnx(tmp_path / "m.onnx", own, tmp_path / "bound.onnx")
    after = simplify.simplified(bound, tmp_path / "m.onnx")
    simplify.require_same(bound, after, own, 1, "m.onnx")


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
    size = model([1, 3, 30, 40], more=[{"name": "x", "dtype": "float32", "values": values}])["input"]
    found = inputs.derived(size, image)["x"]
    assert found.dtype == np.float32
    assert found.tolist() == expected


def test_random_inputs_are_those_of_an_image_that_fills_the_canvas():
    more = [{"name": "sizes", "dtype": "int64", "values": ["image_width", "image_height"], "shape": [2]}]
    more += [{"name": "scale", "dtype": "float32", "values": ["scale_y", "scale_x"]}]
    size = model([1, 3, 30, 40], "uint8", more=more, layout="HWC")["input"]
    found = inputs.random(size, 0)
    assert (found["image"].dtype, found["image"].shape) == (np.uint8, (30, 40, 3))
    assert found["image"].max() > 200
    assert (found["sizes"].tolist(), found["scale"].tolist()) == ([40, 30], [[1.0, 1.0]])
    half = inputs.random(model([1, 3, 30, 40], "float16")["input"], 0)["image"]
    assert half.dtype == np.float16 and 0.9 < half.astype(float).std() < 1.1


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHW", "HWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_layouts_and_types(layout, dtype):
    pixels = words.picture(40, 20)
    own = words.model((40, 30), {}, {"fill": [1, 2, 3]}, dtype=dtype, layout=layout)
    found, _ = tensors.to_tensor(pixels, own)
    expected = np.full((30, 40, 3), [1, 2, 3], dtype)
    expected[:20] = pixels
    expected = expected.transpose(2, 0, 1) if "CHW" in layout else expected
    assert found.flags["C_CONTIGUOUS"] and found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    assert inputs.image_bytes(own["input"]) == found.nbytes


@pytest.mark.parametrize("decoder", ["opencv", "pillow"])
def test_grey(decoder):
    pixels = words.picture(40, 30)
    preprocess = {"channels": "grey", "decoder": decoder, "mean": [100], "std": [2]}
    found, _ = tensors.to_tensor(pixels, words.model((40, 30), {}, preprocess, channels=1))
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert found.shape == (1, 30, 40)
    assert np.abs(found[0] * 2 + 100 - luma).max() < 1


def test_normalising_grey_before_the_resize():
    preprocess = {"channels": "grey", "mean": [100], "std": [2], "normalise": "before_resize"}
    found, _ = tensors.to_tensor(np.full((15, 20, 3), 104, np.uint8), words.model((40, 30), {}, preprocess, channels=1))
    np.testing.assert_array_equal(found, np.full((1, 30, 40), 2, np.float32))


def test_one_pixel_wide_images_keep_their_channels():
    own = words.model((40, 30), {"rule": "keep"}, {"normalise": "before_resize", "mean": [1, 2, 3]})
    found, _ = tensors.to_tensor(np.full((1, 1, 3), 9, np.uint8), own)
    assert found[:, 0, 0].tolist() == [8, 7, 6]


@pytest.mark.parametrize(("how", "resized", "scale"), [("fit", [40, 20], 0.5), ("crop", [80, 40], 1.0)])
def test_keep_and_an_image_that_is_too_large(how, resized, scale):
    pixels = words.picture(80, 40)
    found, placement = tensors.to_tensor(pixels, words.model((40, 30), {"rule": "keep", "too_large": how}))
    assert (placement["resized"], placement["scale"], placement["too_large"]) == (resized, scale, how)
    if how == "crop":
        np.testing.assert_array_equal(found, pixels[:30, :40].transpose(2, 0, 1))


def test_a_warp_blends_the_border_with_the_fill():
    """A white image that ends between pixels: the pixel at its edge is part white, part fill."""
    own = words.model((40, 30), {"by": "warp_affine", "rule": "keep"}, {"place": "centre", "fill": [0, 100, 255]})
    found, placement = tensors.to_tensor(np.full((30, 9, 3), 255, np.uint8), own)
    assert placement["left"] == 15.5
    assert found[:, 15, 14].tolist() == [0, 100, 255]
    assert found[2].min() == 255
    assert 120 < found[0, 15, 15] < 135 and 170 < found[1, 15, 15] < 185


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"preprocess": {"channels": "grey"}}, "input.channels: preprocess.channels grey makes 1; correct one of them"),
        ({"preprocess": {"mean": [1, 2]}}, "preprocess.mean: has 2 numbers for 3 channels"),
        ({"preprocess": {"fill": [114]}}, "preprocess.fill: has 1 numbers for 3 channels"),
        ({"input": {"dtype": "uint8"}, "preprocess": {"divide_by": 255}}, "input.dtype: uint8 takes the pixels as"),
        ({"input": {"dtype": "uint8"}, "preprocess": {"normalise": "before_resize"}}, "input.dtype: uint8 cannot hold"),
        ({"resize": {"library": "pillow", "by": "factor"}}, "preprocess.resize.by: Pillow has no factor"),
        ({"resize": {"library": "pillow", "by": "warp_affine"}}, "preprocess.resize.by: Pillow has no warp_affine"),
        ({"resize": {"by": "warp_affine"}}, "preprocess.resize.by: a warp blends the border with a colour"),
        ({"resize": {"by": "factor", "rounding": "up"}}, "preprocess.resize.rounding: with by: factor OpenCV rounds"),
        ({"resize": {"rule": "stretch", "long_side": 9}}, "preprocess.resize.long_side: rule stretch has no use for"),
        ({"resize": {"rule": "keep", "enlarge": False}}, "preprocess.resize.enlarge: rule keep has no use for it"),
        ({"resize": {"rule": "keep", "size": 9}}, "preprocess.resize: not allowed (size belongs to rule short_side)"),
        ({"resize": {"rule": "fit", "too_large": "crop"}}, "preprocess.resize.too_large: rule fit has no use for it"),
        ({"input": {"margin": 16}}, "input.margin: belongs to input.multiple"),
        ({"input": {"multiple": 32}}, "input.height: is no multiple of 32; set it to 32 and limit resize.long_side"),
        ({"input": {"multiple": 10}, "resize": {"rule": "stretch"}}, "input.multiple: this resize always fills"),
        ({"input": {"on_device": True, "layout": "NHWC"}}, "input.layout: with on_device it must be NCHW"),
        ({"input": {"on_device": True}, "preprocess": {"divide_by": 255}}, "preprocess.divide_by: a device takes mean"),
        (
            {"input": {"more": [{"name": "image", "dtype": "int64", "values": [1]}]}},
            "input.more.0.name: image is there already",
        ),
        (
            {"input": {"more": [{"name": "x", "dtype": "int64", "values": ["scale_x"]}]}},
            "input.more.0.dtype: int64 cannot hold scale_x; set float32",
        ),
        (
            {"input": {"more": [{"name": "x", "dtype": "int64", "values": [1], "shape": [2]}]}},
            "input.more.0.shape: [2] does not hold 1 values",
        ),
        ({"input": {"more": [{"name": "x", "dtype": "int64", "values": ["image_size"]}]}}, "input.more.0.values.0"),
    ],
)
def test_words_that_do_not_go_together(change, expected):
    fill = {"fill": 0} if "fill" not in change.get("preprocess", {}) and "warp" not in expected else {}
    with pytest.raises(UsageError) as refusal:
        words.model((40, 30), change.get("resize", {}), fill | change.get("preprocess", {}), **change.get("input", {}))
    assert expected in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "  channels: RGB",
            "  place: centre\n  channels: RGB",
            "preprocess.place: decoder efficientdet knows only",
        ),
        (
            "rule: fit",
            "rule: stretch",
            "preprocess.resize.rule: decoder efficientdet knows only images",
        ),
        ("rule: fit", "rule: fit, scale: sides", "preprocess.resize.scale: decoder efficientdet knows only images"),
        (
            "name: x.1",
            "name: x.1\n  layout: NHWC",
            "input.layout: a network takes NCHW; other inputs are for models",
        ),
    ],
)
def test_words_that_a_decoder_or_a_network_does_not_know(tmp_path, old, new, expected):
    text = (config.ROOT / "config" / "models" / "efficientdet_d7.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "model.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as refusal:
        config.load(tmp_path / "model.yaml", "model")
    assert expected in str(refusal.value)


def test_a_checked_model_passes_again():
    own = words.model((40, 30), {"rule": "stretch", "by": "warp_affine"}, {"fill": 0, "place": "centre"})
    assert config.check(own, "model", "model.yaml") == own


def test_an_axis_that_the_shape_lacks():
    own = words.model((40, 30), {})
    own["outputs"][1]["varies"] = 1
    with pytest.raises(UsageError, match=r"outputs\.1\.varies: shape \[9\] has no axis 1"):
        config.check(own, "model", "model.yaml")


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
