"""Casts before the Concat that makes rois, which atc else refuses."""

import onnx
from onnx import helper

from detport.graph.view import attribute, given


def edit(model: onnx.ModelProto) -> int:
    """Cast both inputs of the Concat that joins a constant batch index and the boxes to the rois of RoiAlign.

    atc makes the constant float16 and the boxes float32 and then refuses to join them. The guide inserts its Casts by
    position and by the name Concat_742, which fit one exporter only. Not valid ONNX afterwards (the rois are float16
    and the features float32), so only for atc.
    """
    graph = model.graph
    found = [node for node in graph.node if is_roi_concat(graph, node)]
    for concat in found:
        position = list(graph.node).index(concat)
        for i, source in enumerate(concat.input):
            cast_name = f"{concat.output[0]}_input_{i}_float16"
            cast = helper.make_node("Cast", [source], [cast_name], name=cast_name, to=onnx.TensorProto.FLOAT16)
            graph.node.insert(position + i, cast)
            concat.input[i] = cast_name
    return len(found)


def is_roi_concat(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Concat([zeros [K, 1], boxes [K, 4]], axis 1) whose columns become the rois and batch indices of RoiAlign."""
    if node.op_type != "Concat" or attribute(node, "axis") != 1 or len(node.input) != 2:
        return False
    index = given(graph, node.input[0])
    if index is None or index.ndim != 2 or index.shape[1] != 1 or index.any():
        return False
    slots = {slot for gather in consumers(graph, node.output[0]) for slot in roi_align_inputs(graph, gather)}
    return slots == {1, 2}


def roi_align_inputs(graph: onnx.GraphProto, gather: onnx.NodeProto) -> set[int]:
    """Inputs of RoiAlign that a Gather along axis 1 feeds, through nothing but Squeeze and Cast."""
    if gather.op_type != "Gather" or attribute(gather, "axis") != 1:
        return set()
    slots, frontier = set(), [gather]
    while frontier:
        output = frontier.pop().output[0]
        for consumer in consumers(graph, output):
            if consumer.op_type == "RoiAlign":
                slots.add(list(consumer.input).index(output))
            elif consumer.op_type in ("Squeeze", "Cast"):
                frontier.append(consumer)
    return slots


def consumers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    """Nodes that read a tensor."""
    return [node for node in graph.node if tensor in node.input]
