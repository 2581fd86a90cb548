"""Lower precisions of a graph for ONNX Runtime, one module each.

A module has prepared(model, source), which gives the graph in a form that it can work on, and lowered(model, kept,
backend, ranges), which gives it in its precision and may work on it in place, the nodes `kept` left in float32;
`ranges` are those of a calibration, where there was one. Inputs and outputs stay what they are.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from detport.errors import UsageError
from detport.graph.view import attribute

NEAR = 3  # names in a complaint


def load(precision: str) -> ModuleType:
    """The module of a precision."""
    return importlib.import_module(f"detport.precisions.{precision}")


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with a name of its own for every node and all constants of floats among the weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants_to_initializers(copy.graph)
    taken: set[str] = set()
    for node in copy.graph.node:
        output = next(filter(None, node.output))
        free = [name for name in (node.name, output) if name and name not in taken]
        node.name = free[0] if free else f"{output}_{node.op_type}"
        taken.add(node.name)
    return copy


def constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Constants of floats as weights."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = attribute(node, "value")
        value = attribute(node, "value_float", attribute(node, "value_floats"))
        if tensor is not None and tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor)
        if value is not None:
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), node.output[0]))
            graph.node.remove(node)


def to_keep(graph: onnx.GraphProto, names: Iterable[str], source: object) -> set[str]:
    """The names of the nodes that `names` stand for: a node's own, or that of one of its outputs."""
    by_output = {output: node.name for node in graph.node for output in node.output if output}
    known = by_output | {node.name: node.name for node in graph.node}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, NEAR, cutoff=0.3)
            raise UsageError(
                f"keep_fp32: {source} has no node or tensor {name!r}; the nearest of its {len(graph.node)} nodes:"
                f" {', '.join(near) or 'none'}"
            )
    return {known[name] for name in names}
