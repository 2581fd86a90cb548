"""int8: ranges from images, what is left in float32 by pattern, and what ONNX Runtime computes then."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import calibrate
import compile as compile_stage
from detport import config, precisions, shards
from detport.errors import Failure, UsageError
from detport.graph.view import View
from detport.precisions import int8
from detport.report import text, warnings

SIDE, BINS = 8, 16
SETTINGS = {"images": 4, "seed": 0, "method": "minmax", "percentile": 99.0, "exclude": "auto"}
RNG = np.random.default_rng(0)


def detector(opset: int = 13) -> onnx.ModelProto:
    """Features, a head of classes and one of distances as distributions; boxes and scores joined in one tensor."""
    body = """
        f = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (image, w, b)
        r = Relu (f)
        c = Conv <kernel_shape = [1, 1]> (r, wc)
        d = Conv <kernel_shape = [1, 1]> (r, wd)
        cs = Reshape (c, to_classes)
        scores = Sigmoid (cs)
        ds = Reshape (d, to_bins)
        dt = Transpose <perm = [0, 3, 1, 2]> (ds)
        bins = Softmax <axis = 1> (dt)
        sides = Conv <kernel_shape = [1, 1]> (bins, ramp)
        flat = Reshape (sides, to_sides)
        boxes = Mul (flat, stride)
        output = Concat <axis = 1> (boxes, scores)
    """
    head = f'<ir_version: 7, opset_import: ["" : {opset}]> g (float[1,3,{SIDE},{SIDE}] image) => (float[1,6,16] output)'
    model = parser.parse_model(f"{head} {{ {body} }}")
    weights = {
        "w": RNG.standard_normal((8, 3, 3, 3), np.float32),
        "b": np.zeros(8, np.float32),
        "wc": RNG.standard_normal((2, 8, 1, 1), np.float32) / 8,
        "wd": RNG.standard_normal((4 * BINS, 8, 1, 1), np.float32) / 8,
        "ramp": np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1),
        "stride": np.float32(20),
        "to_classes": np.array([1, 2, 16]),
        "to_bins": np.array([1, 4, BINS, 16])[[0, 1, 3, 2]],
        "to_sides": np.array([1, 4, 16]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return precisions.plain(int8.prepared(model, "m.onnx"))


IMAGES = [{"image": RNG.uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(4)]


def run(model: onnx.ModelProto, feeds: dict, level: str = "ORT_DISABLE_ALL") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)[0]


def quantised(model: onnx.ModelProto, kept: set[str] = frozenset(), **settings) -> onnx.ModelProto:
    ranges = int8.measure(model, IMAGES, SETTINGS | settings, threads=1)
    copy = precisions.plain(model)
    return int8.lowered(copy, set(kept), {"calibration": SETTINGS | settings}, ranges)


def test_what_no_256_steps_would_do_for_is_found_by_pattern():
    found = int8.excluded(detector(), SETTINGS)
    assert found.pop("output") == "boxes and scores in one tensor"
    assert {found.pop(name) for name in ("bins", "sides")} == {"distances as distributions at bins"}
    assert set(found) == {"cs", "scores", "ds", "dt", "flat", "boxes"}
    assert int8.excluded(detector(), SETTINGS | {"exclude": "none"}) == {}
    said = int8.told(int8.excluded(detector(), SETTINGS))
    assert "kept in float32, boxes and scores in one tensor: 1 node, output" in said


def test_boxes_that_say_where_to_look_are_no_values():
    """What makes the rois of a second stage is kept, although layers with weights come behind it."""
    body = """
        f = Conv <kernel_shape = [1, 1]> (image, w)
        p = Conv <kernel_shape = [1, 1]> (f, wp)
        rows = Reshape (p, to_rows)
        rois = Mul (rows, ten)
        crops = RoiAlign <output_height = 2, output_width = 2> (f, rois, first)
        output = Conv <kernel_shape = [1, 1]> (crops, w2)
    """
    head = '<ir_version: 7, opset_import: ["" : 13]> g (float[1,3,2,2] image) => (float[4,2,2,2] output)'
    model = parser.parse_model(f"{head} {{ {body} }}")
    values = {
        **{name: np.ones((4, 3, 1, 1), np.float32) for name in ("w",)},
        **{"wp": np.ones((4, 4, 1, 1), np.float32), "w2": np.ones((2, 4, 1, 1), np.float32)},
        **{"to_rows": np.array([4, 4]), "ten": np.float32(10), "first": np.zeros(4, np.int64)},
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    found = int8.behind_weights(View(precisions.plain(model)))
    assert [node.name for node in found] == ["rows", "rois"]


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_outputs_stay_near_and_weights_have_a_scale_per_channel(method):
    model = detector()
    lowered = quantised(model, method=method)
    kinds = {tensor.name: tensor for tensor in lowered.graph.initializer}
    assert kinds["w_quantized"].data_type == TensorProto.INT8
    assert list(kinds["w_scale"].dims) == [8]
    exact, found = run(model, IMAGES[0]), run(lowered, IMAGES[0])
    assert 0 < abs(exact - found).max() < 0.1 * abs(exact).max()


def test_scores_beside_boxes_are_lost_when_all_is_quantised():
    """The output's 256 steps are over pixels: what `exclude: auto` is for."""
    model = detector()
    exact = run(model, IMAGES[0])[:, 4:]
    auto, none = (abs(run(quantised(model, exclude=each), IMAGES[0])[:, 4:] - exact).max() for each in ("auto", "none"))
    assert auto < 0.05 < 0.3 < none


def test_a_node_kept_by_name_is_not_quantised():
    kept = quantised(detector(), {"f"})
    assert not any(tensor.name == "w_quantized" for tensor in kept.graph.initializer)
    assert any(tensor.name == "wc_quantized" for tensor in kept.graph.initializer)


def test_infinite_values_have_no_range_and_stay(caplog):
    body = """
        p = Pad (image, pads, lowest)
        m = MaxPool <kernel_shape = [2, 2]> (p)
        output = Conv <kernel_shape = [1, 1]> (m, w)
    """
    head = f'<ir_version: 7, opset_import: ["" : 13]> g (float[1,3,{SIDE},{SIDE}] image) => (float[1,2,8,8] output)'
    model = parser.parse_model(f"{head} {{ {body} }}")
    values = {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "lowest": np.float32(-np.inf)}
    values["w"] = np.ones((2, 3, 1, 1), np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in values.items())
    model = precisions.plain(int8.prepared(model, "m.onnx"))
    with caplog.at_level("INFO"):
        lowered = quantised(model)
    assert "because they meet infinite values: p, m" in caplog.text
    assert abs(run(lowered, IMAGES[0]) - run(model, IMAGES[0])).max() < 0.1


def test_without_an_image_there_is_no_calibration():
    with pytest.raises(Failure, match="there is no image to calibrate on"):
        int8.measure(detector(), [], SETTINGS, threads=1)


def test_an_opset_without_scales_per_channel_is_raised():
    assert int8.prepared(detector(), "m.onnx").opset_import[0].version == 13
    old = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 11)],
    )
    assert int8.prepared(old, "m.onnx").opset_import[0].version == int8.LEAST_OPSET
    old.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(Failure, match=r"old\.onnx: opset 11 cannot be made 13, which int8 needs; export with"):
        int8.prepared(old, "old.onnx")


# The stages, on images of the demo


MODEL = f"""
title: tiny
dataset: shapes
onnx: tiny.onnx
input: {{name: image, height: {SIDE}, width: {SIDE}}}
preprocess:
  {{decoder: pillow, channels: RGB, resize: {{library: pillow, rule: stretch}}, mean: [0, 0, 0], std: [128, 128, 128],
  arithmetic: float32}}
outputs: [{{name: output, shape: [1, 6, 16], dtype: float32}}]
decode:
  {{kind: dense, categories: [1, 2], box: cxcywh, objectness: false, score_above: 0, nms: hard, nms_iou: 0.7,
  max_detections: 9, multi_label: true, candidates: 99}}
metric: {{kind: coco, iou_types: [bbox]}}
"""
DEMO = config.ROOT / "demo" / "data" / "images"


@pytest.fixture
def place(tmp_path) -> Path:
    """A model, a backend and an index of eight images."""
    (tmp_path / "tiny.yaml").write_text(MODEL)
    (tmp_path / "mine.yaml").write_text("title: x\nfamily: onnxruntime\nprecision: int8\ncalibration: {images: 4}\n")
    onnx.save(detector(), tmp_path / "patched.onnx")
    from PIL import Image

    rows = []
    for path in sorted(DEMO.glob("*.jpg"))[:8]:
        width, height = Image.open(path).size
        rows.append({"image_id": int(path.stem), "file": path.name, "width": width, "height": height, "bytes": 1})
    shards.write_index(tmp_path / "index.tsv", rows)
    return tmp_path


def run_stage(stage: object, place: Path, **more: object) -> None:
    flags = {"model": place / "tiny.yaml", "backend": place / "mine.yaml", "onnx": place / "patched.onnx"} | more
    stage.main([str(part) for key, value in flags.items() for part in (f"--{key}", value)])


def calibrated(place: Path) -> dict:
    run_stage(calibrate, place, index=place / "index.tsv", images=DEMO, output=place / "calibration.json")
    return json.loads((place / "calibration.json").read_text())


def test_calibration_lists_the_images_of_its_seed(place):
    first = calibrated(place)
    assert (len(first["images"]), first["of"]) == (4, 8)
    assert calibrated(place) == first
    with (place / "mine.yaml").open("a") as file:
        file.write("keep_fp32: []\n")
    assert calibrated(place)["images"] == first["images"]
    (place / "mine.yaml").write_text((place / "mine.yaml").read_text().replace("images: 4", "images: 4, seed: 1"))
    assert calibrated(place)["images"] != first["images"]


def test_compile_quantises_by_the_calibration(place):
    calibrated(place)
    with pytest.raises(UsageError, match="precision int8 needs --calibration"):
        run_stage(compile_stage, place, output=place / "model.onnx")
    run_stage(compile_stage, place, output=place / "model.onnx", calibration=place / "calibration.json")
    kinds = [node.op_type for node in onnx.load(place / "model.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    (place / "tiny.yaml").write_text(MODEL + "compile: {onnxruntime: {keep_fp32: {int8: [no_such_node]}}}\n")
    with pytest.raises(UsageError, match=r"keep_fp32: .*patched.onnx has no node or tensor 'no_such_node'"):
        run_stage(compile_stage, place, output=place / "model.onnx", calibration=place / "calibration.json")


def test_a_report_says_what_was_calibrated_on(place):
    (place / "mine.yaml").write_text((place / "mine.yaml").read_text().replace("images: 4", "images: 99"))
    graph = calibrated(place)
    (_, how, listed) = text.calibration_lines("mine", [graph], 8)
    assert "minmax of 8 of 8 images by seed 0" in how
    assert repr(graph["images"][0]["file"]) in listed
    found = {
        **{"doubts": {"objects": 1, "silent": [], "tiny": 0, "turned": [], "readings": []}, "detections": 1},
        **{"figures": {}, "accuracy": {"bbox": {}}, "patches": [], "calibration": [graph], "images": {"scored": 8}},
    }
    model = {"name": "m", "metric": {"kind": "coco"}, "decode": {}}
    (line,) = warnings.lines(model, "mine", found)
    assert line.startswith("mine: calibrated on all 8 images that are scored")
    assert not warnings.lines(model, "mine", found | {"images": {"scored": 9}})
