"""Another number in place of a constant: an attribute of an operator's nodes, or a constant input."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detport.graph import finding, view
from detport.graph.pools import prune


def edit(
    model: onnx.ModelProto,
    operator: str,
    fed_by: list[str],
    read_by: list[str],
    value: object,
    was: object = None,
    input: int | None = None,
    attribute: str | None = None,
) -> int:
    """Replace it in the nodes that have it, with the value that it `was` if that is given. Counts nodes.

    Type and, but for a list of another length, shape stay; a constant that other nodes read too stays theirs.
    """
    found = finding.select(model, operator, fed_by, read_by)
    if attribute is not None:
        return sum(replace_attribute(node, attribute, was, value) for node in found)
    seen, replaced = view.View(model), []
    for node in found:
        old = seen.constant(node.input[input]) if input < len(node.input) and node.input[input] else None
        if old is None or not same(old, was):
            continue
        new = np.array(value, old.dtype)
        new = new.reshape(old.shape) if new.size == old.size else new
        replaced.append(node.input[input])
        node.input[input] = f"{node.output[0]}_input_{input}_replaced"
        model.graph.initializer.append(numpy_helper.from_array(new, node.input[input]))
    prune(model.graph, replaced)
    return len(replaced)


def replace_attribute(node: onnx.NodeProto, name: str, was: object, value: object) -> bool:
    """Whether a node has the attribute, which has the new value then."""
    old = view.attribute(node, name)
    if old is None or not same(np.array(old), was):
        return False
    entry = next(entry for entry in node.attribute if entry.name == name)
    entry.CopyFrom(helper.make_attribute(name, float(value) if entry.type == onnx.AttributeProto.FLOAT else value))
    return True


def same(old: np.ndarray, was: object) -> bool:
    """Whether a constant has the value that is asked for: a number for all of its numbers, or a list of them."""
    if was is None:
        return True
    return np.size(was) in (1, old.size) and np.allclose(old.ravel(), np.ravel(was).astype(old.dtype))
