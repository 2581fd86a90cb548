"""The guide's padding of max-pools: with zeros, which is lossy."""

import numpy as np
import onnx
from onnx import numpy_helper

from detport.errors import Failure
from detport.graph.pools import (
    BATCH_AND_CHANNEL,
    is_lowest,
    is_uneven,
    own_pads,
    pad_before,
    pad_value,
    prune,
    require_opset,
    seen,
    set_pads,
)
from detport.graph.view import View

ZERO = "pool_padding_zero"


def edit(model: onnx.ModelProto) -> int:
    """Pad(0) -> MaxPool with one shared initializer 0.0.

    Not neutral: wherever all real cells of a window at the border are negative, the zero wins. Uneven pads inside
    MaxPool become a Pad again. ONNX Runtime's optimiser folds such pairs back into MaxPool, which undoes the edit
    in silence: compare and run with its optimisations disabled. Counts these pools, pairs with a zero included.
    """
    require_opset(model)
    view = seen(model)
    zeroed = {}  # output of a Pad: its value
    uneven = {}  # output of a pool: its pads
    count = 0
    for pool in view.nodes("MaxPool"):
        pad = pad_before(view, pool)
        if pad is None:
            if is_uneven(view, pool):
                uneven[pool.output[0]] = own_pads(view, pool)
                count += 1
        elif feeds_only_pools(view, pad):
            value = pad_value(view, pad)
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


def feeds_only_pools(view: View, pad: onnx.NodeProto) -> bool:
    name = pad.output[0]
    return view.uses[name] == sum(list(pool.input).count(name) for pool in view.nodes("MaxPool"))


def split(model: onnx.ModelProto, pools: dict[str, np.ndarray]) -> None:
    """Takes the pads out of MaxPool nodes, given by their outputs, into Pad(0) nodes before them."""
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
        begins, ends = pools[pool.output[0]].reshape(2, -1)
        outer = np.zeros(BATCH_AND_CHANNEL, np.int64)
        pads = np.concatenate([outer, begins, outer, ends])
        zero = np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(kind))
        name = f"{pool.output[0]}_padded"
        inputs = [
            pool.input[0],
            shared(graph, "pool_pads_" + "_".join(map(str, pads)), pads),
            shared(graph, ZERO, zero),
        ]
        set_pads(pool, np.zeros(begins.size + ends.size, np.int64))
        pool.input[0] = name
        graph.node.insert(i, onnx.helper.make_node("Pad", inputs, [name], name=name, mode="constant"))


def shared(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    """The name of the one initializer that has this purpose and type, made on first use."""
    name = f"{name}_{value.dtype}"
    if all(x.name != name for x in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name
