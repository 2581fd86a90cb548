"""What inside a graph caps its accuracy."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detport.graph import describe, limits


def nms(score: float, iou: float, per_class: int, keep: int) -> onnx.ModelProto:
    """A graph that ends in an NMS whose first rows are kept."""
    numbers = {"per_class": np.int64([per_class]), "iou": np.float32([iou]), "score": np.float32([score])}
    numbers |= {"start": np.int64([0]), "end": np.int64([keep]), "axis": np.int64([0])}
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "per_class", "iou", "score"], ["all"]),
        helper.make_node("Slice", ["all", "start", "end", "axis"], ["kept"]),
    ]
    inputs = [("boxes", [1, 50, 4]), ("scores", [1, 3, 50])]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "nms",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
            [helper.make_tensor_value_info("kept", TensorProto.INT64, None)],
            [numpy_helper.from_array(value, name) for name, value in numbers.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
    )


def test_thresholds_and_counts_of_an_nms_are_read():
    assert limits.found(nms(0.25, 0.65, 200, 100)) == [
        {"operator": "NonMaxSuppression", "what": "per_class", "value": 200.0},
        {"operator": "NonMaxSuppression", "what": "iou", "value": 0.65},
        {"operator": "NonMaxSuppression", "what": "score", "value": 0.25},
        {"operator": "Slice", "what": "keep", "value": 100.0},
    ]


def test_only_what_costs_accuracy_is_warned_of():
    assert limits.capping(nms(0.25, 0.65, 200, 100)) == [
        "NonMaxSuppression keeps scores above 0.25 only",
        "Slice keeps at most 100 boxes of an image",
    ]
    assert limits.capping(nms(0.001, 0.65, 100, 300)) == []


def test_plugins_say_it_in_attributes():
    node = helper.make_node("EfficientNMS_TRT", ["x"], ["n"], domain="TRT", score_threshold=0.25, max_output_boxes=100)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("n", TensorProto.INT32, [1, 1])],
    )
    found = describe.facts(helper.make_model(graph))
    assert found.caps == [
        "EfficientNMS_TRT keeps scores above 0.25 only",
        "EfficientNMS_TRT keeps at most 100 boxes of an image",
    ]
    assert found.foreign == ["TRT:EfficientNMS_TRT"]
    assert any("TRT:EfficientNMS_TRT" in line for line in describe.warnings(found))


@pytest.mark.parametrize(
    ("k", "found"), [(30, [{"operator": "TopK", "what": "keep", "value": 30.0}]), (4, [])], ids=["boxes", "bins"]
)
def test_a_topk_of_something_else_than_boxes_limits_nothing(k, found):
    """GFocalV2 takes the best 4 of a distribution."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["best", "which"])]
    nodes.append(helper.make_node("ReduceMax", ["best"], ["seen"], axes=[2]) if k == 4 else None)
    shape = [1, 30, 1] if k == 4 else [1, 30]
    graph = helper.make_graph(
        [node for node in nodes if node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 30, 17] if k == 4 else [1, 900])],
        [helper.make_tensor_value_info("seen" if k == 4 else "best", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.int64([k]), "k")],
    )
    assert limits.found(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])) == found


def quantised(step: float, shape: list[int]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node("Identity", ["d"], ["out"]),
    ]
    values = {"step": np.float32(step), "zero": np.uint8(0)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def test_boxes_and_scores_in_one_quantised_tensor():
    assert limits.shared(quantised(2.5, [1, 84, 100])) == [{"output": "out", "step": 2.5}]
    assert "scores below 1.25 are 0" in limits.capping(quantised(2.5, [1, 84, 100]))[0]
    assert limits.shared(quantised(2.5, [1, 4, 100])) == [], "boxes alone"
    assert limits.shared(quantised(1 / 255, [1, 80, 100])) == [], "scores alone"


def test_metadata_are_values_whoever_wrote_them():
    model = quantised(1.0, [1, 3, 8, 8])
    written = {"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[320, 640]", "stride": "32", "end2end": "False"}
    helper.set_model_props(model, written | {"author": "A: b"})
    found = describe.facts(model).metadata
    assert found == {
        "names": {0: "cat", 1: "dog"},
        "imgsz": [320, 640],
        "stride": 32,
        "end2end": False,
        "author": "A: b",
    }
    assert describe.class_names(found) == ("names", ["cat", "dog"])
    assert describe.image_size(found) == (320, 640)
    assert describe.class_names({"character": "text\ntitle\n"}) == ("character", ["text", "title"])
    assert describe.class_names({"names": {0: "cat", 2: "dog"}}) is None, "numbers with a gap"
