"""Padding of max-pools: exact (inside MaxPool, where padded cells never win) or the guide's zeros (lossy).

PyTorch exports a pool with TensorFlow's 'same' padding as Pad(-inf) -> MaxPool. A float16 accelerator wants no
-inf, so there are two edits. Both find their pools by pattern, whether the graph still has the pairs (pads as
initializers, Constant nodes or arithmetic on constants, values shared or not) or a simplifier has already moved
the padding into MaxPool, and both return the number of pools that are in the wanted form afterwards.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from detport.errors import Failure

FIRST_OPSET = 11  # Pad takes pads and value as inputs
BATCH_AND_CHANNEL = 2
ZERO = "pool_padding_zero"


def fuse_pad_into_maxpool(model: onnx.ModelProto) -> int:
    """Lossless: moves the pads of Pad(-inf) -> MaxPool into MaxPool, which may have different ones on each side.

    Counts these pools and those that have uneven pads already. A pair that MaxPool can't express (pads that
    depend on the input, on other axes, as wide as the kernel, ceil_mode, indices) stays, is exact and isn't counted.
    """
    require_opset(model)
    view = View(model)
    replaced = []
    count = 0
    for pool in view.nodes("MaxPool"):
        pad = view.pad_before(pool)
        if pad is not None and is_lowest(view.pad_value(pad)):
            pads = view.spatial_pads(pad, len(attribute(pool, "kernel_shape")))
            if pads is not None and can_hold(pool, pads):
                set_pads(pool, own_pads(pool) + pads)
                replaced.append(pool.input[0])
                pool.input[0] = pad.input[0]
                count += 1
        elif is_uneven(pool):
            count += 1
    prune(model.graph, replaced)
    return count


def pad_maxpool_with_zero(model: onnx.ModelProto) -> int:
    """The guide's edit: Pad(0) -> MaxPool with one shared initializer 0.0.

    Not neutral: wherever all real cells of a window at the border are negative, the zero wins. Uneven pads inside
    MaxPool become a Pad again. ONNX Runtime's optimiser folds such pairs back into MaxPool, which undoes the edit
    in silence: compare and run with its optimisations disabled. Counts these pools, pairs with a zero included.
    """
    require_opset(model)
    view = View(model)
    zeroed = {}  # output of a Pad: its value
    uneven = []
    count = 0
    for pool in view.nodes("MaxPool"):
        pad = view.pad_before(pool)
        if pad is None:
            if is_uneven(pool):
                uneven.append(pool.output[0])
                count += 1
        elif view.feeds_only_pools(pad):
            value = view.pad_value(pad)
            if is_lowest(value):
                zeroed[pad.output[0]] = value
            count += is_lowest(value) or value == 0
    replaced = []
    for name, value in zeroed.items():
        pad = view.producers[name]
        replaced.append(pad.input[2])
        pad.input[2] = shared(model.graph, ZERO, np.zeros((), value.dtype))
    split(model, uneven)
    prune(model.graph, replaced)
    return count


class View:
    """Producers, consumers and constants of a graph, as it was when the view was made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.opsets = list(model.opset_import)
        self.uses = Counter(used_names(self.graph))
        self.producers = {name: node for node in self.graph.node for name in node.output}
        inputs = {value.name for value in self.graph.input}  # such initializers are only defaults
        self.initializers = {x.name: x for x in self.graph.initializer if x.name not in inputs}

    def nodes(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if node.op_type == kind]

    def pad_before(self, pool: onnx.NodeProto) -> onnx.NodeProto | None:
        """The constant Pad that a pool reads from."""
        pad = self.producers.get(pool.input[0])
        if pad is None or pad.op_type != "Pad" or attribute(pad, "mode", b"constant") != b"constant":
            return None
        return pad

    def feeds_only_pools(self, pad: onnx.NodeProto) -> bool:
        name = pad.output[0]
        return self.uses[name] == sum(list(pool.input).count(name) for pool in self.nodes("MaxPool"))

    def pad_value(self, pad: onnx.NodeProto) -> np.ndarray | None:
        """What a Pad fills with, as a scalar of its type; None if the graph computes it from its input."""
        if len(pad.input) < 3 or not pad.input[2]:
            return np.zeros(())
        value = self.constant(pad.input[2])
        return None if value is None else value.reshape(())

    def spatial_pads(self, pad: onnx.NodeProto, spatial: int) -> np.ndarray | None:
        """Pads in MaxPool's order (all begins, then all ends); None if unknown or not only spatial."""
        rank = BATCH_AND_CHANNEL + spatial
        pads = self.constant(pad.input[1])
        axes = np.arange(rank)
        if len(pad.input) > 3 and pad.input[3]:  # from opset 18 on
            axes = self.constant(pad.input[3])
        if pads is None or axes is None:
            return None
        full = np.zeros((2, rank), np.int64)
        full[:, axes] = pads.reshape(2, -1)
        if full[:, :BATCH_AND_CHANNEL].any():
            return None
        return full[:, BATCH_AND_CHANNEL:].reshape(-1)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a tensor that depends on no input, computed if need be; else None."""
        nodes: dict[str, onnx.NodeProto] = {}  # in the order of evaluation
        leaves: dict[str, onnx.TensorProto] = {}
        if not self.collect(name, nodes, leaves):
            return None
        if not nodes:
            return numpy_helper.to_array(leaves[name])
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
        graph = onnx.helper.make_graph(list(nodes.values()), "constant", [], [output], list(leaves.values()))
        return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=self.opsets)).run(None, {})[0]

    def collect(self, name: str, nodes: dict, leaves: dict) -> bool:
        """Gathers what a tensor is computed from; False if that includes an input of the graph."""
        if name in self.initializers:
            leaves[name] = self.initializers[name]
            return True
        node = self.producers.get(name)
        if node is None:
            return False
        if not all(self.collect(x, nodes, leaves) for x in node.input if x):
            return False
        nodes[node.output[0]] = node
        return True


def require_opset(model: onnx.ModelProto) -> None:
    version = next(x.version for x in model.opset_import if x.domain in ("", "ai.onnx"))
    if version < FIRST_OPSET:
        raise Failure(f"graph {model.graph.name} has opset {version}; pool patches need {FIRST_OPSET} or later")


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def is_lowest(value: np.ndarray | None) -> bool:
    """-inf, or the lowest finite number of its type, which loses against every real cell as well."""
    return value is not None and value.dtype.kind == "f" and value <= np.finfo(value.dtype).min


def own_pads(pool: onnx.NodeProto) -> np.ndarray:
    """The explicit pads of a MaxPool."""
    return np.array(attribute(pool, "pads", [0, 0] * len(attribute(pool, "kernel_shape"))), np.int64)


def set_pads(pool: onnx.NodeProto, pads: np.ndarray) -> None:
    """Explicit pads, in place of the old ones and of auto_pad."""
    kept = [item for item in pool.attribute if item.name not in ("pads", "auto_pad")]
    del pool.attribute[:]
    pool.attribute.extend([*kept, onnx.helper.make_attribute("pads", [int(n) for n in pads])])


def has_explicit_pads(pool: onnx.NodeProto) -> bool:
    return attribute(pool, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")


def is_uneven(pool: onnx.NodeProto) -> bool:
    """Different pads at the two ends of an axis: no framework's own pool has them, so they were a Pad."""
    begins, ends = own_pads(pool).reshape(2, -1)
    return has_explicit_pads(pool) and bool((begins != ends).any())


def can_hold(pool: onnx.NodeProto, pads: np.ndarray) -> bool:
    """Whether MaxPool with these pads is exactly Pad -> MaxPool: every window keeps a real cell."""
    total = (own_pads(pool) + pads).reshape(2, -1)
    return (
        has_explicit_pads(pool)
        and len(pool.output) == 1  # its indices would count other cells
        and not attribute(pool, "ceil_mode", 0)
        and bool((pads >= 0).all() and (total < np.array(attribute(pool, "kernel_shape"))).all())
    )


def split(model: onnx.ModelProto, pools: list[str]) -> None:
    """Takes the pads out of MaxPool nodes, named by their outputs, into Pad(0) nodes before them."""
    if not pools:
        return
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    for i in reversed(range(len(graph.node))):
        pool = graph.node[i]
        if pool.output[0] not in pools:
            continue
        kind = types.get(pool.input[0], onnx.TensorProto.UNDEFINED)
        if kind == onnx.TensorProto.UNDEFINED:
            raise Failure(f"graph {graph.name}: the type of {pool.input[0]!r} can't be inferred")
        begins, ends = own_pads(pool).reshape(2, -1)
        outer = np.zeros(BATCH_AND_CHANNEL, np.int64)
        pads = np.concatenate([outer, begins, outer, ends])
        zero = np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(kind))
        name = f"{pool.output[0]}_padded"
        inputs = [
            pool.input[0],
            shared(graph, "pool_pads_" + "_".join(map(str, pads)), pads),
            shared(graph, ZERO, zero),
        ]
        set_pads(pool, np.zeros_like(own_pads(pool)))
        pool.input[0] = name
        graph.node.insert(i, onnx.helper.make_node("Pad", inputs, [name], name=name, mode="constant"))


def shared(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    """The name of the one initializer that has this purpose and type, made on first use."""
    name = f"{name}_{value.dtype}"
    if all(x.name != name for x in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def used_names(graph: onnx.GraphProto) -> list[str]:
    """Every tensor name that something reads, once per reader: nodes, inner graphs, the graph's outputs."""
    names = [value.name for value in graph.output]
    for node in graph.node:
        names += node.input
        for item in node.attribute:
            for inner in (item.g, *item.graphs):
                names += used_names(inner)
    return names


def prune(graph: onnx.GraphProto, names: list[str]) -> None:
    """Removes the tensors that nothing reads any more, with all that was there only for them."""
    names = list(names)
    while names:
        used = set(used_names(graph))
        dead = {name for name in names if name and name not in used}
        names = []
        for i in reversed(range(len(graph.node))):
            if set(graph.node[i].output) <= dead:
                names += graph.node[i].input
                del graph.node[i]
        for field in (graph.initializer, graph.value_info):
            for i in reversed(range(len(field))):
                if field[i].name in dead:
                    del field[i]
