"""Lower precisions of a graph for ONNX Runtime, one module each.

A module has lowered(graph, kept, backend), which gives the graph in its precision, the nodes `kept` left in float32;
its inputs and outputs stay what they are.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

import onnx

from detport.errors import UsageError

NEAR = 3  # names in a complaint


def load(precision: str) -> ModuleType:
    """The module of a precision."""
    return importlib.import_module(f"detport.precisions.{precision}")


def name_all(graph: onnx.GraphProto) -> None:
    """Give every node without a name that of its first output, and let no two have one name."""
    taken: set[str] = set()
    for node in graph.node:
        name = node.name if node.name and node.name not in taken else next(filter(None, node.output))
        node.name = name if name not in taken else f"{name}_{node.op_type}"
        taken.add(node.name)


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
