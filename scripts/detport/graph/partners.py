"""Which tensor of a second graph is which of the first: by name, seen as the nodes behind it read it."""

import onnx

from detport.graph.stepping import reads
from detport.graph.view import View

ACTIVATIONS = ("Relu", "Clip")  # quantisers leave them out where the range of what they give does the same
NARROW = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


def partners(first: onnx.ModelProto, second: onnx.ModelProto) -> dict[str, str]:
    """For tensors that nodes of the first graph make: the name in the second, if it has one.

    A tensor that the second quantises is what comes out of its DequantizeLinear. Where a quantiser has left an
    activation out, what it gave is what the tensor before becomes by being quantised, and that tensor's partner is the
    one that is not quantised yet.
    """
    made = {name for node in second.graph.node for name in node.output}
    quantised = {before: after for before, after in quantisations(second).items() if before in made}
    readers = readers_of(first)
    found = {}
    for node in first.graph.node:
        for name in node.output:
            if name in made:
                found[name] = quantised.get(name, name)
    for node in first.graph.node:
        if node.op_type in ACTIVATIONS and node.output[0] not in made:
            before = node.input[0]
            if before in quantised and readers[before] == 1:
                found |= {node.output[0]: quantised[before], before: before}
    return found


def quantisations(model: onnx.ModelProto) -> dict[str, str]:
    """Name of a tensor before its QuantizeLinear, and behind the DequantizeLinear that follows."""
    behind = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.input[0]: behind[node.output[0]]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in behind
    }


def limits(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """What a quantised tensor can hold, half a step beyond its ends, by its name behind the DequantizeLinear."""
    view, found = View(model), {}
    for node in view.nodes("DequantizeLinear"):
        scale, zero = (view.constant(name) for name in (*node.input[1:], "")[:2])
        if scale is not None and scale.size == 1:
            low, high = NARROW["uint8" if zero is None else zero.dtype.name]
            offset = 0 if zero is None else int(zero.item())
            step = float(scale.item())
            found[node.output[0]] = (step * (low - offset - 0.5), step * (high - offset + 0.5))
    return found


def readers_of(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes, and outputs of the graph, read a tensor."""
    found = dict.fromkeys((value.name for value in model.graph.output), 1)
    for node in model.graph.node:
        for name in reads(node):
            found[name] = found.get(name, 0) + 1
    return found
