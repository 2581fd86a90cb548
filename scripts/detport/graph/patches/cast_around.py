"""Casts around the nodes of an operator, for a compiler that joins no two types or lacks a kernel for one."""

import onnx
from onnx import TensorProto, helper

from detport.graph import finding


def edit(
    model: onnx.ModelProto,
    operator: str,
    fed_by: list[str],
    read_by: list[str],
    inputs: list[int] | None,
    to: str,
    back: str | None,
) -> int:
    """Cast inputs, all or those of these places, and what comes out back to another type. Counts nodes."""
    found = finding.select(model, operator, fed_by, read_by)
    for node in found:
        first = node.output[0]
        for i, name in enumerate(node.input):
            if name and (inputs is None or i in inputs):
                node.input[i] = f"{first}_input_{i}_{to}"
                insert(model.graph, node, name, node.input[i], to)
        for k, name in enumerate(node.output):
            if name and back:
                node.output[k] = f"{name}_{to}"
                insert(model.graph, node, node.output[k], name, back, behind=1)
    if found:
        del model.graph.value_info[:]  # what the file says of types is optional, and may be wrong now
    return len(found)


def insert(graph: onnx.GraphProto, beside: onnx.NodeProto, source: str, result: str, to: str, behind: int = 0) -> None:
    """Insert a Cast before a node, or behind it."""
    place = list(graph.node).index(beside) + behind
    kind = TensorProto.DataType.Value({"float32": "FLOAT", "float64": "DOUBLE"}.get(to, to.upper()))
    graph.node.insert(place, helper.make_node("Cast", [source], [result], name=result, to=kind))
