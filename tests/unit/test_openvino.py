"""OpenVINO computes in what the yaml says and in nothing else, on a device that is there, and as ONNX Runtime does."""

import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, parser

import words
from detport import canvases, config, inputs
from detport.backends import local, onnxruntime, openvino
from detport.compilers import onnxruntime as onnxruntime_compiler
from detport.compilers import openvino as compiler
from detport.errors import Failure, UsageError
from detport.parity import precisions

YOLO = config.ROOT / "demo" / "weights" / "yolo.onnx"
YOLO_YAML = config.ROOT / "demo" / "config" / "models" / "yolo.yaml"
BACKENDS = config.ROOT / "config" / "backends"
ONNXRUNTIME = config.load_backend(BACKENDS / "onnxruntime.yaml")
CAN = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
with_bf16 = pytest.mark.skipif("BF16" not in CAN, reason="this processor has no bf16")


def backend(precision: str = "f32", **more: str) -> dict:
    value = {"title": "OpenVINO", "family": "openvino", "precision": precision, **more}
    return {"name": "mine"} | config.check(value, "backend", "mine.yaml")


def yolo() -> dict:
    return canvases.select({"name": "yolo"} | config.load(YOLO_YAML, "model"), None)


def image(seed: int = 0) -> dict[str, np.ndarray]:
    return inputs.random(yolo()["input"], seed)


def test_float32_is_float32_though_openvino_would_choose_otherwise():
    opened = openvino.open_compiled(YOLO, backend(), threads=1)
    assert openvino.nodes_in(opened).keys() == {"f32"}
    assert str(opened.get_property("INFERENCE_PRECISION_HINT").to_string()) == "f32"
    own = openvino.runner(YOLO, opened, yolo())(image())
    other = onnxruntime.open_model(YOLO, yolo(), ONNXRUNTIME, threads=1)(image())
    for a, b in zip(own, other, strict=True):
        assert a.dtype == b.dtype and abs(a - b).max() < 1e-5 * abs(b).max()


@with_bf16
def test_bfloat16_is_what_its_convolutions_compute_in():
    alone = ov.Core().compile_model(YOLO, "CPU")
    assert "bf16" in openvino.nodes_in(alone), "what OpenVINO chooses by itself on this processor"
    opened = openvino.open_compiled(YOLO, backend("bf16"), threads=1)
    assert openvino.nodes_in(opened)["bf16"] >= 63, "its convolutions"
    exact = openvino.runner(YOLO, openvino.open_compiled(YOLO, backend(), threads=1), yolo())(image())
    own = openvino.runner(YOLO, opened, yolo())(image())
    differences = [abs(a - b).max() / abs(b).max() for a, b in zip(own, exact, strict=True)]
    assert 1e-4 < max(differences) < 2e-2


@pytest.mark.parametrize(
    ("asked", "counts", "refused"),
    [
        ("f32", {"f32": 9, "bf16": 1}, True),
        ("f32", {"f32": 9}, False),
        ("bf16", {"f32": 9}, True),
        ("bf16", {"f32": 9, "bf16": 1}, False),
        ("bf16", {"bf16": 8, "f16": 1}, True),
        ("f16", {}, True),
    ],
)
def test_what_the_compiled_model_computes_in_is_read_back(asked, counts, refused):
    if not refused:
        openvino.require_precision(Path("m.onnx"), backend(asked), counts)
        return
    with pytest.raises(Failure, match=f"m.onnx: mine asks OpenVINO for {asked}, and it computes"):
        openvino.require_precision(Path("m.onnx"), backend(asked), counts)


def compiled_by_script(tmp_path: Path, name: str, **environment: str) -> subprocess.CompletedProcess:
    script = config.ROOT / "scripts" / "compile.py"
    flags = ("--model", YOLO_YAML, "--backend", BACKENDS / f"{name}.yaml", "--onnx", YOLO, "--output", tmp_path / "m")
    command = [sys.executable, script, *flags]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


@with_bf16
def test_a_processor_without_bf16_says_so(tmp_path):
    """OpenVINO itself is told to leave out what this processor has beyond AVX-512."""
    result = compiled_by_script(tmp_path, "openvino_bf16", OV_CPU_MAX_ISA="AVX512_CORE")
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1 and "openvino_bf16: " in result.stderr
    assert "has no bf16 (OPTIMIZATION_CAPABILITIES of CPU: " in result.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_precision_that_the_processor_lacks_is_refused(precision):
    if openvino.CAPABILITIES[precision] in CAN:
        assert precision in openvino.nodes_in(openvino.open_compiled(YOLO, backend(precision), threads=1))
        return
    with pytest.raises(UsageError, match=f"mine: .* has no {precision} "):
        openvino.open_compiled(YOLO, backend(precision), threads=1)


def test_a_device_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UsageError, match=r"lists no NPU.7; it lists CPU.*yaml of backend mine"):
        openvino.open_compiled(YOLO, backend(device="NPU.7"), threads=1)


@pytest.mark.parametrize("name", ["AUTO:GPU,CPU", "cpu", "GPU.x"])
def test_a_device_of_another_form_is_refused(name):
    with pytest.raises(UsageError, match=r"mine\.yaml: device: "):
        backend(device=name)


def test_threads_are_those_of_the_job_and_bound_to_no_core():
    opened = openvino.open_compiled(YOLO, backend(), threads=1)
    asked = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "ENABLE_CPU_PINNING", "PERFORMANCE_HINT")
    assert [opened.get_property(name) for name in asked] == [1, 1, False, "LATENCY"]
    opened = openvino.open_compiled(YOLO, backend(hint="throughput"), threads=1)
    assert opened.get_property("PERFORMANCE_HINT") == "THROUGHPUT"


OPEN = """
<ir_version: 8, opset_import: ["" : 13]>
g (uint8[1,h,w,3] image, int64[1,2] size) => (int64[n,3] places, float[n] values, float[1] width) {
  lit = Cast <to = 1> (image)
  flat = ReduceMean <axes = [0, 3], keepdims = 0> (lit)
  found = NonZero (flat)
  rows = Transpose <perm = [1, 0]> (found)
  values = GatherND (flat, rows)
  whole = Cast <to = 7> (values)
  axis = Constant <value = int64[1] {1}> ()
  column = Unsqueeze (whole, axis)
  places = Concat <axis = 1> (rows, column)
  sizes = Cast <to = 1> (size)
  width = ReduceMax <axes = [1], keepdims = 0> (sizes)
}
"""


def open_model(path: Path) -> dict:
    """A graph with an image of any size, a second input, and a row for every pixel that is not black."""
    onnx.save(parser.parse_model(OPEN), path)
    more = [{"name": "size", "dtype": "int64", "values": ["image_width", "input_width"]}]
    found = words.model((40, 32), {"rule": "fit"}, dtype="uint8", layout="NHWC", more=more, multiple=8)
    outputs = [("places", [900, 3], "int64"), ("values", [900], "float32"), ("width", [1], "float32")]
    declared = [{"name": name, "shape": shape, "dtype": dtype} for name, shape, dtype in outputs]
    return {"name": "open", "outputs": declared} | {key: found[key] for key in ("input", "preprocess")}


def test_open_sizes_several_inputs_and_rows_that_vary(tmp_path):
    model = open_model(tmp_path / "open.onnx")
    compiler.compile_model(tmp_path / "open.onnx", model, backend(), tmp_path / "m.onnx")
    own = openvino.runner(tmp_path, openvino.open_compiled(tmp_path / "m.onnx", backend(), 1), model)
    other = onnxruntime.open_model(tmp_path / "open.onnx", model, ONNXRUNTIME, 1)
    for height, width, lit in ((8, 16, 5), (32, 40, 9), (8, 8, 0)):
        pixels = np.zeros((1, height, width, 3), np.uint8)
        pixels.reshape(-1, 3)[:lit] = 200
        fed = {"image": pixels, "size": np.array([[width, 40]])}
        found = own(fed)
        assert [array.shape[0] for array in found] == [lit, lit, 1]
        for a, b in zip(found, other(fed), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_the_contract_is_held_to_what_openvino_has_opened(tmp_path):
    model = yolo()
    (only,) = model["outputs"]
    for change in ({"name": "output1"}, {"dtype": "float16"}):
        with pytest.raises(Failure, match=r"inputs and outputs are .*'images', 'float32', .* yaml declares"):
            compiler.compile_model(YOLO, model | {"outputs": [only | change]}, backend(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
    compiler.compile_model(YOLO, model, backend(), tmp_path / "m.onnx")


def test_pixels_are_normalised_in_the_graph(tmp_path):
    value = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    size = {"name": "images", "width": 256, "height": 256}
    made = words.model((256, 256), {"library": "pillow", "rule": "fit"}, value, **size, on_device=True)
    model = yolo() | {key: made[key] for key in ("input", "preprocess")}
    pixels = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    compiler.compile_model(YOLO, model, backend(), tmp_path / "own.onnx")
    (own,) = openvino.runner(YOLO, openvino.open_compiled(tmp_path / "own.onnx", backend(), 1), model)(
        {"images": pixels}
    )
    onnxruntime_compiler.compile_model(YOLO, model, ONNXRUNTIME, tmp_path / "other.onnx")
    (other,) = onnxruntime.open_model(tmp_path / "other.onnx", model, ONNXRUNTIME, 1)({"images": pixels})
    assert abs(own - other).max() < 1e-5 * abs(other).max()


def test_a_division_by_a_constant_is_not_a_multiplication(tmp_path):
    """They round differently, which moves bins of R-FCN's pooling by a cell."""
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[N] x) => (float[N] y) <float[1] c = {7}> {y = Div (x, c)}'
    onnx.save(parser.parse_model(text), tmp_path / "g.onnx")
    x = np.random.default_rng(0).random(10000, np.float32)
    (found,) = openvino.open_compiled(tmp_path / "g.onnx", backend(), 1)({"x": x}).values()
    np.testing.assert_array_equal(found, x / np.float32(7))
    assert (x * np.float32(1 / 7) != found).any()


def test_what_openvino_cannot_run_is_told_in_a_line(tmp_path):
    value = helper.make_tensor_value_info
    node = helper.make_node("BatchMultiClassNMS", ["images"], ["output0"], domain="")
    ends = value("images", TensorProto.FLOAT, [1, 3, 8, 8]), value("output0", TensorProto.FLOAT, [1, 11, 1344])
    body = helper.make_graph([node], "g", [ends[0]], [ends[1]])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "g.onnx")
    with pytest.raises(Failure) as raised:
        openvino.open_compiled(tmp_path / "g.onnx", backend(), 1)
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'g.onnx'}: OpenVINO does not load it: ") and "BatchMultiClassNMS" in text
    assert "\n" not in text and len(text) < 500


@pytest.mark.parametrize("content", [b"", b"\x08\x08no", YOLO.read_bytes()[:5000]], ids=["empty", "noise", "cut"])
def test_a_broken_file_is_told_in_a_line(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(Failure, match=r"m\.onnx: ") as raised:
        compiler.compile_model(path, yolo(), backend(), tmp_path / "out.onnx")
    assert "\n" not in str(raised.value)
    with pytest.raises(Failure, match=r"m\.onnx: OpenVINO does not load it: ") as raised:
        openvino.open_compiled(path, backend(), 1)
    assert "\n" not in str(raised.value)


def test_inputs_of_another_form_are_told_in_a_line():
    run = openvino.runner(YOLO, openvino.open_compiled(YOLO, backend(), 1), yolo())
    with pytest.raises(Failure, match="OpenVINO does not run it: ") as raised:
        run({"images": np.zeros((1, 3, 8, 8), np.float32)})
    assert "\n" not in str(raised.value)


def test_parity_has_a_tolerance_for_every_precision():
    tolerances = config.load(YOLO_YAML, "model")["parity"]["tolerances"]
    found = [precisions.of({}, backend(name)) for name in openvino.CAPABILITIES]
    assert found == ["float32", "bfloat16", "float16"]
    assert set(found) < tolerances.keys()


def test_an_image_and_its_outputs_are_gone_when_the_next_is_read(monkeypatch):
    alive: list[weakref.ref] = []

    def read(path: Path, entry: dict, size: dict) -> np.ndarray:
        assert not [each for each in alive if each() is not None]
        alive.append(weakref.ref(tensor := np.zeros((1, 3, 8, 8), np.float32)))
        return tensor

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        alive.append(weakref.ref(output := np.zeros(5)))
        return [output]

    monkeypatch.setattr(local, "read_tensor", read)
    entry = {"file": "a.jpg", "width": 8, "height": 8, "scale": 1.0}
    local.infer(run, yolo(), [(entry, Path("a.bin"))] * 3, lambda *_: None)
    assert len(alive) == 6
