"""Other outputs, and only what they need: a graph that ends before its own NMS, or without an output too many."""

import onnx

from detport.graph.view import used_names


def edit(model: onnx.ModelProto, outputs: list[str]) -> int:
    """Make these tensors the outputs, in this order, and drop what they do not need. Counts those that there are."""
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = {value.name: value for value in (*inferred.value_info, *inferred.output, *inferred.input)}
    made = {name for node in graph.node for name in node.output}
    found = [name for name in outputs if name in made]
    if len(found) < len(outputs):
        return len(found)
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            for entry in node.attribute:
                for body in (entry.g, *entry.graphs):
                    needed.update(used_names(body))
    keep(graph.node, kept[::-1])
    keep(graph.output, [values.get(name, onnx.ValueInfoProto(name=name)) for name in outputs])
    keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    keep(graph.input, [value for value in graph.input if value.name in needed])
    keep(graph.value_info, [value for value in graph.value_info if value.name in needed - set(outputs)])
    return len(found)


def keep(field: object, entries: list) -> None:
    """Let a repeated field have these entries alone."""
    del field[:]
    field.extend(entries)
