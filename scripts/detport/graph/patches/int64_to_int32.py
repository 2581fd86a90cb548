"""int64 -> int32: the guide's adaptation of R-FCN's graph, for toolchains without int64 kernels (Ascend 310, 2021).

Five kinds of places are converted: Casts to int64, results of Shape, ConstantOfShape, Constants, initializers. Values
beyond int32 are saturated, so that a Slice that ends at 2^63 - 1 still goes to the end.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detport.graph.patches import Changes

INT32 = np.iinfo(np.int32)

# Groups of inputs and outputs that share one type, as (inputs, outputs); None: every input.
Groups = tuple[tuple[tuple[int, ...] | None, tuple[int, ...]], ...]
ALL: Groups = ((None, (0,)),)
FIRST: Groups = (((0,), (0,)),)
COMPARED: Groups = ((None, ()),)
RESULT: Groups = (((), (0,)),)

# Operators that take and give int32 as well as int64, with the groups for which that holds. All their other inputs and
# outputs, and all of any operator that is not listed, stay what they are.
EITHER_TYPE: dict[str, Groups] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Sum", "Concat", "Range", "Clip"), ALL),
    **dict.fromkeys(("Abs", "Neg", "Identity", "Transpose", "Flatten", "Reshape", "Expand", "Tile"), FIRST),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceMax", "ReduceMin", "ReduceSum"), FIRST),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"), COMPARED),
    **dict.fromkeys(("Shape", "ConstantOfShape", "Constant"), RESULT),
    "Cast": (((0,), ()), ((), (0,))),
    "Where": (((1, 2), (0,)),),
    "Gather": (((0,), (0,)), ((1,), ())),
    "GatherElements": (((0,), (0,)), ((1,), ())),
    "Slice": (((0,), (0,)), ((1, 2, 3, 4), ())),
    "ScatterElements": (((0, 2), (0,)), ((1,), ())),
    "ScatterND": (((0, 2), (0,)),),
    "Pad": (((0, 2), (0,)),),
    "OneHot": (((0,), ()), ((1,), ()), ((2,), (0,))),
}

# A tensor by its name; a constant, which can be had in both types, by name, reader (position in the graph) and input.
Use = str | tuple[str, int, int]
REQUIRED: Use = ""  # stands for everything that must be int64


def edit(model: onnx.ModelProto, keep_required: bool) -> Changes:
    """Everything int64 that may be int32, or with keep_required false simply everything."""
    counts = int64_to_int32(model, keep_required)
    beyond = counts.pop("beyond_int32")
    changed = {kind: count for kind, count in (counts | {"beyond_int32": len(beyond)}).items() if count}
    remarks = [f"constant {name} has values beyond int32; they are saturated" for name in beyond]
    return Changes(sum(counts.values()), changed, remarks)


def int64_to_int32(model: onnx.ModelProto, keep_required: bool) -> dict:
    """Convert `model` in place; returns how many of each kind, and the names of constants with values beyond int32.

    With `keep_required` whatever meets an input that ONNX requires to be int64 (the shape of a Reshape, the k of a
    TopK, ...) is left alone; the result is valid and computes the same. Without it everything is converted, as the
    guide does. The graph's own inputs and outputs keep their types in any case.
    """
    graph = model.graph
    constants = int64_constants(graph)
    stays: set[Use] = {value.name for value in (*graph.input, *graph.output)}
    if keep_required:
        stays |= tied_to_required(graph, set(constants))
    beyond: list[str] = []
    counts = convert_constants(graph, constants, stays, beyond) | convert_nodes(graph, stays, beyond)
    # What the file says about the types of intermediate tensors is optional, and wrong now.
    described = [value for value in graph.value_info if value.type.tensor_type.elem_type != TensorProto.INT64]
    del graph.value_info[:]
    graph.value_info.extend(described)
    return counts | {"beyond_int32": beyond}


def int64_constants(graph: onnx.GraphProto) -> dict[str, tuple[str, np.ndarray]]:
    """Kind ("initializer" or "Constant") and value of every int64 constant, by name."""
    tensors = [("initializer", each.name, each) for each in graph.initializer]
    tensors += [("Constant", node.output[0], value_of(node)) for node in graph.node if node.op_type == "Constant"]
    return {
        name: (kind, numpy_helper.to_array(tensor))
        for kind, name, tensor in tensors
        if tensor is not None and tensor.data_type == TensorProto.INT64
    }


def value_of(node: onnx.NodeProto) -> TensorProto | None:
    """The tensor of a Constant or ConstantOfShape, None if it is given in another form than integers."""
    for entry in node.attribute:
        if entry.name == "value":
            return entry.t
        if entry.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.array(helper.get_attribute_value(entry), np.int64))
    return None


def tied_to_required(graph: onnx.GraphProto, constants: set[str]) -> set[Use]:
    """Every use of a tensor whose type is tied, through operators that want one type, to something that must be int64.

    Uses that share a type are merged into classes (union-find); REQUIRED is merged with all that cannot change.
    """
    parents: dict[Use, Use] = {}

    def root(use: Use) -> Use:
        while parents.setdefault(use, use) != use:
            use = parents[use]
        return use

    for name in {value.name for value in (*graph.input, *graph.output)} | captured(graph):
        parents[root(name)] = root(REQUIRED)
    for position, node in enumerate(graph.node):
        inputs = {i: (name, position, i) if name in constants else name for i, name in enumerate(node.input) if name}
        outputs = dict(enumerate(node.output))
        loose: list[Use] = [*inputs.values(), *outputs.values()]
        for chosen_inputs, chosen_outputs in EITHER_TYPE.get(node.op_type, ()):
            group = [use for i, use in inputs.items() if chosen_inputs is None or i in chosen_inputs]
            group += [use for i, use in outputs.items() if i in chosen_outputs]
            for use in group:
                parents[root(use)] = root(group[0])
            loose = [use for use in loose if use not in group]
        for use in loose:
            parents[root(use)] = root(REQUIRED)
    return {use for use in list(parents) if root(use) == root(REQUIRED)}


def captured(graph: onnx.GraphProto) -> set[str]:
    """Names that the bodies of If, Loop and Scan read; they may be tensors of the graph around them."""
    names: set[str] = set()
    for node in graph.node:
        for body in bodies(node):
            names |= captured(body) | {name for inner in body.node for name in inner.input}
            names |= {value.name for value in body.output}
    return names


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g


def convert_constants(
    graph: onnx.GraphProto, constants: dict[str, tuple[str, np.ndarray]], stays: set[Use], beyond: list[str]
) -> dict[str, int]:
    """Convert each constant, or give the readers that take int32 a converted copy if others do not."""
    readers: dict[str, list[tuple[int, int]]] = {name: [] for name in constants}
    for position, node in enumerate(graph.node):
        for i, name in enumerate(node.input):
            if name in readers:
                readers[name].append((position, i))
    counts = {"Constant": 0, "initializer": 0}
    for name, (kind, value) in constants.items():
        free = [use for use in readers[name] if (name, *use) not in stays]
        if name not in stays and len(free) == len(readers[name]):
            replace_constant(graph, name, saturate(value, name, beyond))
        elif free:
            graph.initializer.append(numpy_helper.from_array(saturate(value, name, beyond), f"{name}_int32"))
            for position, i in free:
                graph.node[position].input[i] = f"{name}_int32"
        else:
            continue
        counts[kind] += 1
    return counts


def replace_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    """New value and type of an initializer or Constant."""
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value, name)))


def convert_nodes(graph: onnx.GraphProto, stays: set[Use], beyond: list[str]) -> dict[str, int]:
    """Convert Casts, ConstantOfShapes and, by a Cast that all readers of the result now read, Shapes."""
    counts = {"Cast": 0, "Shape": 0, "ConstantOfShape": 0}
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if node.op_type not in counts or node.output[0] in stays:
            continue
        if node.op_type == "Shape":
            result = node.output[0]
            node.output[0] = f"{result}_int64"
            cast = helper.make_node("Cast", [node.output[0]], [result], name=f"{result}_int32", to=TensorProto.INT32)
            graph.node.insert(position + 1, cast)
        elif node.op_type == "Cast":
            target = next(entry for entry in node.attribute if entry.name == "to")
            if target.i != TensorProto.INT64:
                continue
            target.i = TensorProto.INT32
        else:
            value = value_of(node)
            if value is None or value.data_type != TensorProto.INT64:
                continue
            # The value itself, not only its type tag as in the guide, whose 8 bytes per number no strict reader takes.
            number = saturate(numpy_helper.to_array(value), node.output[0], beyond)
            value.CopyFrom(numpy_helper.from_array(number, value.name))
        counts[node.op_type] += 1
    return counts


def saturate(value: np.ndarray, name: str, beyond: list[str]) -> np.ndarray:
    """The nearest int32 values; `name` goes to `beyond` if they are not the same."""
    nearest = value.clip(INT32.min, INT32.max).astype(np.int32)
    if (nearest != value).any():
        beyond.append(name)
    return nearest
