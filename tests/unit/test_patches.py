"""The Cast patch of RetinaMask: found by pattern, held to its contract."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detport.errors import Failure
from detport.graph import patches
from detport.graph.view import attribute

CONTRACT = {"options": {}, "changed": {}, "matches": 1, "before": {}, "after": {}}
CAST = CONTRACT | {"name": "cast_roi_concat_to_float16", "after": {"Cast": 2}}


def roi_graph(rows: int = 5, zeros_as_node: bool = False, axis: int = 1, value: float = 0.0, squeeze: bool = True):
    """boxes -> Clip -> Concat with the batch index -> Gather, Squeeze, Cast / Gather -> RoiAlign, as in RetinaMask."""
    index = numpy_helper.from_array(np.full((rows, 1), value, np.float32), "arbitrary_17")
    bounds = [numpy_helper.from_array(np.array(x, np.float32), name) for name, x in (("low", 0), ("high", 1344))]
    columns = [
        numpy_helper.from_array(np.array(x, np.int64), name) for name, x in (("first", [0]), ("rest", [1, 2, 3, 4]))
    ]
    nodes = [helper.make_node("Constant", [], ["arbitrary_17"], value=index)] if zeros_as_node else []
    nodes += [
        helper.make_node("Clip", ["boxes", "low", "high"], ["bboxs"]),
        helper.make_node("Concat", ["arbitrary_17", "bboxs"], ["rois"], name="Concat_9", axis=axis),
        helper.make_node("Gather", ["rois", "first"], ["batch"], axis=1),
        helper.make_node("Squeeze", ["batch"], ["flat"], axes=[1]),
        helper.make_node("Cast", ["flat"], ["batch_index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["rois", "rest"], ["corners"], axis=1),
        helper.make_node(
            "RoiAlign", ["features", "corners", "batch_index"], ["pooled"], output_height=14, output_width=14
        ),
    ]
    if not squeeze:
        del nodes[-4:-2]
    graph = helper.make_graph(
        nodes,
        "rois",
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [rows, 4]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 3, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("bboxs", TensorProto.FLOAT, [rows, 4]),
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [rows, 3, 14, 14]),
        ],
        [*bounds, *columns, *([] if zeros_as_node else [index])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])


@pytest.mark.parametrize("zeros_as_node", [False, True])
def test_both_inputs_of_the_concat_become_float16(zeros_as_node):
    model = roi_graph(zeros_as_node=zeros_as_node)
    patches.apply(model, CAST)
    concat = next(node for node in model.graph.node if node.op_type == "Concat")
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    assert [casts[name].input[0] for name in concat.input] == ["arbitrary_17", "bboxs"]
    assert {attribute(casts[name], "to") for name in concat.input} == {TensorProto.FLOAT16}
    order = [output for node in model.graph.node for output in node.output]
    assert all(order.index(name) < order.index("rois") for name in concat.input), "nodes stay sorted"


def test_the_graph_output_stays_float32():
    model = roi_graph()
    patches.apply(model, CAST)
    outputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    assert outputs["bboxs"] == TensorProto.FLOAT
    assert next(node for node in model.graph.node if "bboxs" in node.output).op_type == "Clip"


@pytest.mark.parametrize("options", [{"value": 1.0}, {"squeeze": False}])
def test_a_graph_without_the_pattern_is_refused(options):
    with pytest.raises(Failure, match="0 times in the graph, 1 expected"):
        patches.apply(roi_graph(**options), CAST)


def test_a_patched_graph_is_not_patched_again():
    model = roi_graph()
    patches.apply(model, CAST)
    with pytest.raises(Failure, match="0 times"):
        patches.apply(model, CAST)


def test_two_matches_break_the_contract():
    model = roi_graph()
    double = onnx.ModelProto()
    double.CopyFrom(model)
    other = roi_graph()
    for node in other.graph.node:
        node.output[:] = [f"{name}_b" for name in node.output]
        node.input[:] = [
            f"{name}_b" if name in ("bboxs", "rois", "batch", "flat", "batch_index", "corners") else name
            for name in node.input
        ]
        double.graph.node.append(node)
    with pytest.raises(Failure, match="2 times in the graph, 1 expected"):
        patches.apply(double, CAST)


def test_a_wrong_declaration_of_node_types_is_refused():
    with pytest.raises(Failure, match="after declares"):
        patches.apply(roi_graph(), CAST | {"after": {"Cast": 3}})


INT32 = CONTRACT | {
    **{"name": "int64_to_int32", "options": {"keep_required": True}},
    **{"matches": 2, "changed": {"initializer": 2}},
}


def test_a_patch_that_counts_kinds_is_held_to_them():
    """The indices of the Gathers may have either type."""
    assert patches.apply(roi_graph(), INT32).changed == {"initializer": 2}
    with pytest.raises(Failure, match=r"changed declares \{'initializer': 1\}, the patch changed \{'initializer': 2\}"):
        patches.apply(roi_graph(), INT32 | {"changed": {"initializer": 1}})


def test_what_a_constant_lost_is_remarked():
    model = roi_graph()
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([2**40]), "first"))
    changes = patches.apply(model, INT32 | {"changed": {"initializer": 2, "beyond_int32": 1}})
    assert changes.remarks == ["constant first has values beyond int32; they are saturated"]
