"""Graphs with operators that ONNX Runtime lacks: what can be run of them, and that simplifying it is proven."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

import simplify
from detport import inputs
from detport.backends import onnxruntime
from detport.errors import Failure
from detport.graph import foreign, running

SHAPE = [1, 3, 4, 4]
MODEL = {
    "input": {"name": "image", "height": 4, "width": 4},
    "outputs": [{"name": "found"}, {"name": "doubled"}],
    "simplify": {"tolerance": 1e-4, "seed": 0},
}


def graph(factor: float = 2.0, steps: int = 1) -> onnx.ModelProto:
    """image -> Mul -> Relu -> DeviceOp(., constant) -> Neg -> DeviceOp(., Mul's) -> found."""
    factors = numpy_helper.from_array(np.full(1, factor, np.float32), "factor")
    nodes = [
        helper.make_node("Mul", ["image", "factor"], ["doubled"]),
        helper.make_node("Relu", ["doubled"], ["positive"]),
        helper.make_node("DeviceOp", ["positive", "factor", ""], ["first", "unused"], steps=steps),
        helper.make_node("Neg", ["first"], ["negative"]),
        helper.make_node("DeviceOp", ["negative", "doubled"], ["found"], steps=steps),
    ]
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("image", "found", "doubled")]
    made = helper.make_graph(nodes, "g", declared[:1], declared[1:], [factors])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def test_cut_keeps_what_can_be_computed():
    short, found = foreign.cut_before(graph())
    assert [node.op_type for node in short.graph.node] == ["Mul", "Relu"]
    assert found == {
        "input 0 of DeviceOp (first)": "positive",
        "input 1 of DeviceOp (first)": "factor",
        "input 1 of DeviceOp (found)": "doubled",
        "doubled": "doubled",
    }
    assert [output.name for output in short.graph.output] == ["positive", "factor", "doubled"]


def test_a_standard_graph_is_kept_whole():
    model = graph()
    del model.graph.node[2:], model.graph.output[:1]
    assert foreign.nodes(model) == []
    short, found = foreign.cut_before(model)
    assert (list(short.graph.node), found) == (list(model.graph.node), {"doubled": "doubled"})


def test_a_node_of_another_domain_is_foreign():
    model = graph()
    model.graph.node[1].domain = "com.example"
    assert [node.op_type for node in foreign.nodes(model)] == ["Relu", "DeviceOp", "DeviceOp"]
    assert set(foreign.cut_before(model)[1].values()) == {"doubled", "factor"}


def test_the_standard_domain_has_two_names():
    model = graph()
    model.graph.node[1].domain = "ai.onnx"
    assert [node.op_type for node in foreign.nodes(model)] == ["DeviceOp", "DeviceOp"]


def test_a_function_that_the_model_brings_is_not_foreign():
    model = graph()
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 11)]
    model.functions.append(helper.make_function("own", "DeviceOp", ["x"], ["y"], body, opsets))
    for node in model.graph.node[2], model.graph.node[4]:
        node.domain = "own"
    assert foreign.nodes(model) == []


def test_equal_parts_pass():
    simplify.require_same(graph(), graph(), MODEL, threads=1, source="g.onnx")


def test_another_number_before_the_operator_is_a_failure():
    with pytest.raises(Failure, match=r"g.onnx: simplifying changes input 1 of DeviceOp \(first\) by"):
        simplify.require_same(graph(), graph(factor=2.01), MODEL, threads=1, source="g.onnx")


def test_a_lost_operator_is_a_failure():
    after = graph()
    after.graph.node[4].op_type = "Add"
    with pytest.raises(Failure, match=r"changes what can be compared: input 1 of DeviceOp \(found\)"):
        simplify.require_same(graph(), after, MODEL, threads=1, source="g.onnx")


def suppressing(weight: float) -> onnx.ModelProto:
    """Scores times a weight enter a NonMaxSuppression that lets nothing pass: its output tells nothing."""
    constants = [
        numpy_helper.from_array(np.random.default_rng(0).random((1, 6, 4), np.float32), "boxes"),
        numpy_helper.from_array(np.float32(weight).reshape(1), "weight"),
        numpy_helper.from_array(np.array([10]), "most"),
        numpy_helper.from_array(np.array([0.5], np.float32), "iou"),
        numpy_helper.from_array(np.array([99.0], np.float32), "score"),
        numpy_helper.from_array(np.array([1, 8, 6]), "shape"),
    ]
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "weight"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "score"], ["found"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)
    found = helper.make_tensor_value_info("found", TensorProto.INT64, [None, 3])
    made = helper.make_graph(nodes, "g", [image], [found], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def test_what_enters_nms_is_compared_although_nothing_leaves_it():
    model = MODEL | {"outputs": [{"name": "found"}]}
    simplify.require_same(suppressing(1.0), suppressing(1.0), model, threads=1, source="g.onnx")
    with pytest.raises(Failure, match=r"g.onnx: simplifying changes input 1 of NonMaxSuppression \(found\) by"):
        simplify.require_same(suppressing(1.0), suppressing(1.1), model, threads=1, source="g.onnx")


class Images(CalibrationDataReader):
    """Two random images, from which the quantiser takes the ranges of the activations."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.left = [{"image": rng.standard_normal(SHAPE, dtype=np.float32)} for _ in range(2)]

    def get_next(self) -> dict | None:
        return self.left.pop() if self.left else None


QUANTISED = {
    "input": {"name": "image", "height": 4, "width": 4},
    "outputs": [{"name": "found"}],
    "simplify": {"tolerance": 1e-4, "seed": 0},
}


@pytest.fixture
def quantised(tmp_path: Path) -> onnx.ModelProto:
    """Conv, Relu, Add, Sigmoid and a pool in integers; for all but the first ONNX Runtime has operators of its own."""
    weight = numpy_helper.from_array(np.random.default_rng(1).normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["map", "image"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["likely"]),
        helper.make_node("GlobalAveragePool", ["likely"], ["found"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 3, 1, 1])
    made = helper.make_graph(nodes, "g", [image], [found], [weight])
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "float.onnx"
    )
    quantize_static(tmp_path / "float.onnx", tmp_path / "m.onnx", Images(), quant_format=QuantFormat.QOperator)
    return onnx.load(tmp_path / "m.onnx")


def test_a_quantised_graph_is_compared_whole(quantised, caplog):
    """Operators of com.microsoft are no standard ones, but ONNX Runtime has kernels for them."""
    own = [node.op_type for node in foreign.nodes(quantised)]
    assert own == ["QLinearAdd", "QLinearSigmoid", "QLinearGlobalAveragePool"]
    short, found = foreign.cut_before(quantised, onnxruntime.kernels())
    assert (list(short.graph.node), found) == (list(quantised.graph.node), {"found": "found"})
    with caplog.at_level(logging.INFO):
        after = simplify.simplified(quantised, Path("m.onnx"))
        simplify.require_same(quantised, after, QUANTISED, threads=1, source="m.onnx")
    assert not [line for line in caplog.messages if "kernel" in line]


def test_a_change_behind_operators_of_com_microsoft_is_found(quantised):
    after = onnx.ModelProto()
    after.CopyFrom(quantised)
    pool = next(node for node in after.graph.node if node.op_type == "QLinearGlobalAveragePool")
    scale = next(x for x in after.graph.initializer if x.name == pool.input[3])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.5), scale.name))
    with pytest.raises(Failure, match=r"m\.onnx: simplifying changes found by"):
        simplify.require_same(quantised, after, QUANTISED, threads=1, source="m.onnx")


def test_what_no_kernel_is_for_is_cut_off_and_said(quantised, caplog):
    next(node for node in quantised.graph.node if node.op_type == "QLinearSigmoid").op_type = "QLinearNothing"
    with caplog.at_level(logging.INFO):
        arrays = running.runnable_part(quantised, inputs.random(QUANTISED["input"], 0), QUANTISED, threads=1)
    assert (
        "without ONNX Runtime's kernel: QLinearNothing; compared up to there, 3 of 6 nodes are not" in caplog.messages
    )
    assert "input 0 of QLinearNothing (likely_quantized)" in arrays
