"""Finding nodes by their operator and their neighbours, and showing what these are."""

import onnx

from detport.graph.view import View

# Options that patches share; a patch's yaml has them with a description.
Criteria = dict[str, object]


def select(model: onnx.ModelProto, operator: str, fed_by: list[str], read_by: list[str]) -> list[onnx.NodeProto]:
    """Nodes of an operator whose inputs come from, and whose outputs go to, nodes of all these operators."""
    view = View(model)
    return [
        node
        for node in view.nodes(operator)
        if set(fed_by) <= set(feeders(view, node)) and set(read_by) <= set(readers(view, node))
    ]


def feeders(view: View, node: onnx.NodeProto) -> list[str]:
    """The operator behind every input, or what else it is."""
    inputs = {value.name for value in view.graph.input}
    kinds = {"": "none"} | dict.fromkeys(inputs, "input") | dict.fromkeys(view.initializers, "constant")
    return [
        view.producers[name].op_type if name in view.producers else kinds.get(name, "outside") for name in node.input
    ]


def readers(view: View, node: onnx.NodeProto) -> list[str]:
    """The operators that read its outputs, and `output` where the graph gives one."""
    own = set(node.output) - {""}
    found = [each.op_type for each in view.graph.node if own.intersection(each.input)]
    return found + ["output"] * bool(own.intersection(value.name for value in view.graph.output))


def shown(view: View, node: onnx.NodeProto) -> str:
    """A node with its neighbours, in a line."""
    fed, read = ", ".join(feeders(view, node)) or "nothing", ", ".join(dict.fromkeys(readers(view, node))) or "nothing"
    return f"{node.op_type} {node.name or node.output[0]!r}: fed by {fed}; read by {read}"
