"""Every Sigmoid is followed by more of them."""

import itertools

import onnx
from onnx import helper


def edit(model: onnx.ModelProto, more: int) -> int:
    """Insert `more` Sigmoids behind each."""
    found = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    for node in found:
        names = [f"{node.output[0]}_{i}" for i in range(more)] + [node.output[0]]
        node.output[0] = names[0]
        for source, target in itertools.pairwise(names):
            model.graph.node.append(helper.make_node("Sigmoid", [source], [target]))
    return len(found)
