"""A graph and the yaml: open axes, and what a graph of another form says."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import simplify
import words
from detport.errors import Failure
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
