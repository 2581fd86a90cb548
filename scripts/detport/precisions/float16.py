"""float16: what an accelerator makes of a graph that computes in float16.

ONNX Runtime's CPU has next to no float16 kernels. Given a float16 graph it computes in float32 and drops the rounding
between two nodes, so that nothing overflows and nothing is lost. On the CPU, therefore, the graph stays float32, and
what a node gives is rounded by a pair of Casts that no optimisation may remove: float32 inside a kernel, as in the
accumulators of accelerators, and float16 between kernels. Other providers get a real float16 graph.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers import float16 as converter

from detport import cli
from detport.backends.onnxruntime import CPU
from detport.graph.view import INNER_GRAPHS, without_weights

# What they give are values that they are given, or these with another sign: of rounded ones there is nothing to round.
HAND_ON = {
    *("Abs", "Identity", "Max", "MaxPool", "Min", "Neg", "ReduceMax", "ReduceMin", "Relu", "TopK", "Where"),
    *("Compress", "Concat", "Expand", "Gather", "GatherElements", "GatherND", "Pad", "Slice", "Split", "Tile"),
    *("DepthToSpace", "Flatten", "Reshape", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze"),
    *("ScatterElements", "ScatterND"),
}
# Inputs that are float32 in every precision: scales and sizes, limits. The same for ONNX Runtime's converter.
ALWAYS_FLOAT = {"Resize": (1, 2), "Upsample": (1,), "NonMaxSuppression": (3, 4)}
LARGEST = float(np.finfo(np.float16).max)  # 65504
SHOWN = 5  # names in a line of the log

Types = dict[str, int]


def prepared(model: onnx.ModelProto, source: object) -> onnx.ModelProto:
    """Any graph will do."""
    return model


def lowered(model: onnx.ModelProto, kept: set[str], backend: dict, ranges: None = None) -> onnx.ModelProto:
    """The graph in float16, but for the nodes that are kept."""
    if backend["providers"] != [CPU]:
        return converter.convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(kept))
    types = element_types(onnx.shape_inference.infer_shapes(without_weights(model)).graph)
    types |= element_types(model.graph)
    if unknown := [node.name for node in model.graph.node if any(name and name not in types for name in node.output)]:
        cli.log.warning("float16: of unknown type and not rounded is what these nodes give: %s", listed(unknown))
    round_graph(model.graph, kept, types, set())
    return model


def element_types(graph: onnx.GraphProto) -> Types:
    """The type of every tensor of which a graph, or one inside it, states it."""
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            found[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        for body in bodies(node):
            found |= element_types(body)
    return found


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node."""
    entries = [entry for entry in node.attribute if entry.type in INNER_GRAPHS]
    return [body for entry in entries for body in (entry.graphs or [entry.g])]


def round_graph(graph: onnx.GraphProto, kept: set[str], types: Types, outside: set[str]) -> None:
    """Round weights and what every node gives that is not kept, also in the graphs inside.

    A tensor keeps its name and is rounded then. Inputs, and what a kept node gives, are wide: they may hold what
    float16 does not, and are rounded for the nodes that are not kept. `outside` are wide tensors of the graphs around.
    """
    round_weights(graph, kept)
    weights = {tensor.name for tensor in graph.initializer}
    wide = outside | {value.name for value in graph.input if types.get(value.name) == TensorProto.FLOAT} - weights
    nodes: list[onnx.NodeProto] = []
    narrowed: set[str] = set()
    for node in graph.node:
        floats = {name for name in node.output if types.get(name) == TensorProto.FLOAT}
        if node.name in kept:
            wide |= floats
            nodes.append(node)
            continue
        for body in bodies(node):
            round_graph(body, kept, types, wide)
        for i, name in enumerate(node.input):
            if name in wide and i not in ALWAYS_FLOAT.get(node.op_type, ()):
                node.input[i] = f"{name}_as_float16"
                if name not in narrowed:
                    nodes += pair(name, node.input[i])
                    narrowed.add(name)
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in floats and node.op_type not in HAND_ON:
                node.output[i] = f"{name}_before_float16"
                nodes += pair(node.output[i], name)
    del graph.node[:]
    graph.node.extend(nodes)


def pair(source: str, result: str) -> list[onnx.NodeProto]:
    """The Casts that round a tensor."""
    half = f"{result}_in_float16"
    return [
        helper.make_node("Cast", [source], [half], name=half, to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [result], name=f"{result}_rounded", to=TensorProto.FLOAT),
    ]


def round_weights(graph: onnx.GraphProto, kept: set[str]) -> None:
    """Round weights for the nodes that are not kept; where others read them as they are, these nodes get a copy."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for i, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, i))
    copies, beyond = [], []
    for tensor in graph.initializer:
        own = readers.get(tensor.name, [])
        exact = [(node, i) for node, i in own if node.name in kept or i in ALWAYS_FLOAT.get(node.op_type, ())]
        if tensor.data_type != TensorProto.FLOAT or (exact and len(exact) == len(own)):
            continue
        value = numpy_helper.to_array(tensor)
        if (np.isfinite(value) & (abs(value) > LARGEST)).any():
            beyond.append(tensor.name)
        half = converter.convert_np_to_float16(value.reshape(-1)).astype(np.float32).reshape(value.shape)
        if exact:
            copies.append(numpy_helper.from_array(half, f"{tensor.name}_as_float16"))
            for node, i in own:
                if (node, i) not in exact:
                    node.input[i] = copies[-1].name
        else:
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    graph.initializer.extend(copies)
    if beyond:
        cli.log.warning("float16: constants beyond %g are saturated: %s", LARGEST, listed(beyond))


def listed(names: list[str]) -> str:
    """The first of some names."""
    return f"{', '.join(names[:SHOWN])}{', …' * (len(names) > SHOWN)}"
