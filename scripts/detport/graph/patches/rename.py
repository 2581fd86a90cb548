"""Other names for inputs and outputs."""

import onnx

from detport.errors import Failure


def edit(model: onnx.ModelProto, inputs: dict[str, str], outputs: dict[str, str]) -> int:
    """Rename inputs and outputs wherever the graph names them. Counts those that there are."""
    graph = model.graph
    found = {value.name: inputs[value.name] for value in graph.input if value.name in inputs}
    found |= {value.name: outputs[value.name] for value in graph.output if value.name in outputs}
    taken = names(graph) - found.keys()
    for old, new in found.items():
        if new in taken:
            raise Failure(f"patch rename: {old}: the graph has a tensor {new} already; choose another name")
        taken.add(new)
    apply(graph, found)
    return len(found)


def names(graph: onnx.GraphProto) -> set[str]:
    """Every tensor of a graph."""
    found = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    return found | {name for node in graph.node for name in (*node.input, *node.output)}


def apply(graph: onnx.GraphProto, new: dict[str, str]) -> None:
    """Rename tensors, also where the bodies of If, Loop and Scan read them."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [new.get(name, name) for name in field]
        for entry in node.attribute:
            for body in ([entry.g] if entry.HasField("g") else []) + list(entry.graphs):
                apply(body, new)
