"""Reading a graph: who makes a tensor, who reads it, its value where no input decides it, its static shape."""

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Shapes = dict[str, tuple[int, ...]]

INNER_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
SMALL = 64  # numbers; larger constants are weights, of which shape inference needs the shape alone
# Their further inputs decide the shape of the result.
SIZED = ("Expand", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile", "TopK", "Unsqueeze", "Upsample")


class View:
    """Producers, readers and constants of a graph, as it was when the view was made.

    `shapes` are the static shapes that are known; with them the arithmetic on the shape of a tensor is a constant.
    """

    def __init__(self, model: onnx.ModelProto, shapes: Shapes | None = None) -> None:
        self.graph = model.graph
        self.opsets = list(model.opset_import)
        self.shapes = shapes or {}
        self.uses = Counter(used_names(self.graph))
        self.producers = {name: node for node in self.graph.node for name in node.output}
        inputs = {value.name for value in self.graph.input}  # such initializers are only defaults
        self.initializers = {x.name: x for x in self.graph.initializer if x.name not in inputs}
        self.constants = self.constant_names()

    def constant_names(self) -> set[str]:
        """Tensors that depend on no input; nodes stand in the order of evaluation."""
        names = {"", *self.initializers}
        for node in self.graph.node:
            known = node.op_type == "Shape" and node.input[0] in self.shapes
            plain = all(item.type not in INNER_GRAPHS for item in node.attribute)
            if known or (plain and names.issuperset(node.input)):
                names.update(node.output)
        return names

    def nodes(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if node.op_type == kind]

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a tensor that depends on no input, computed if need be; else None."""
        if name not in self.constants:
            return None
        nodes: dict[str, onnx.NodeProto] = {}  # in the order of evaluation
        leaves: dict[str, onnx.TensorProto] = {}
        self.collect(name, nodes, leaves)
        if not nodes:
            return numpy_helper.to_array(leaves[name])
        output = helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
        graph = helper.make_graph(list(nodes.values()), "constant", [], [output], list(leaves.values()))
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=self.opsets)).run(None, {})[0]

    def collect(self, name: str, nodes: dict[str, onnx.NodeProto], leaves: dict[str, onnx.TensorProto]) -> None:
        """Gathers what a constant is computed from."""
        if not name or name in leaves or name in nodes:
            return
        if name in self.initializers:
            leaves[name] = self.initializers[name]
            return
        node = self.producers[name]
        if node.op_type == "Shape" and node.input[0] in self.shapes:
            shape = self.shapes[node.input[0]][attribute(node, "start", 0) : attribute(node, "end")]
            leaves[name] = numpy_helper.from_array(np.array(shape, np.int64), name)
            return
        for source in node.input:
            self.collect(source, nodes, leaves)
        nodes[node.output[0]] = node


def static_shapes(model: onnx.ModelProto) -> Shapes:
    """The shape of every tensor for which it follows from the graph.

    ONNX's inference does not see through sizes that are themselves computed from a shape. They are computed here, and
    written down as constants in a sketch of the graph, from one such node to the next.
    """
    sketch = without_weights(model)
    while True:
        inferred = onnx.shape_inference.infer_shapes(sketch).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        shapes = {value.name: sizes for value in values if (sizes := static_shape(value)) is not None}
        view = View(sketch, shapes | {x.name: tuple(x.dims) for x in sketch.graph.initializer})
        written = [write_down(view, node) for kind in SIZED for node in view.nodes(kind)]
        if not any(written):
            return view.shapes


def static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """The shape of a tensor, None if any of its sides is unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(side.HasField("dim_value") for side in kind.shape.dim):
        return None
    return tuple(side.dim_value for side in kind.shape.dim)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its weights as inputs: the same shapes, small enough to be inferred again and again."""
    graph = model.graph
    given = {value.name for value in graph.input}
    weights = [x for x in graph.initializer if np.prod(x.dims) > SMALL and x.name not in given]
    inputs = [helper.make_tensor_value_info(x.name, x.data_type, x.dims) for x in weights]
    names = {x.name for x in weights}
    small = [x for x in graph.initializer if x.name not in names]
    sketch = helper.make_graph(graph.node, graph.name, [*graph.input, *inputs], graph.output, small)
    sketch.value_info.extend(graph.value_info)
    return helper.make_model(sketch, opset_imports=model.opset_import, ir_version=model.ir_version)


def write_down(view: View, node: onnx.NodeProto) -> bool:
    """Replace those further inputs of a node by constants that have become computable; whether there were any."""
    found = False
    for i, name in enumerate(node.input):
        if i == 0 or not name or name in view.initializers:
            continue
        value = view.constant(name)
        if value is not None:
            node.input[i] = f"{node.output[0]}_input_{i}"
            view.graph.initializer.append(numpy_helper.from_array(value, node.input[i]))
            found = True
    return found


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Value of a node's attribute, or the default if it has none of that name."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def given(graph: onnx.GraphProto, name: str) -> np.ndarray | None:
    """Value of an initializer or of a Constant node; None for a tensor that has to be computed."""
    tensors = [x for x in graph.initializer if x.name == name]
    tensors += [attribute(x, "value") for x in graph.node if x.op_type == "Constant" and name in x.output]
    return None if not tensors or tensors[0] is None else numpy_helper.to_array(tensors[0])


def used_names(graph: onnx.GraphProto) -> list[str]:
    """Every tensor name that something reads, once per reader: nodes, inner graphs, the graph's outputs."""
    names = [value.name for value in graph.output]
    for node in graph.node:
        names += node.input
        for item in node.attribute:
            for inner in (item.g, *item.graphs):
                names += used_names(inner)
    return names
