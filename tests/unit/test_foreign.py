"""Graphs with operators that ONNX Runtime lacks: what can be run of them, and that simplifying it is proven."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import simplify
from detport.errors import Failure
from detport.graph import foreign

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
