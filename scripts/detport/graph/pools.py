"""Padding of max-pools: exact (inside MaxPool, where padded cells never win) or the guide's zeros (lossy).

PyTorch exports a pool with TensorFlow's 'same' padding as Pad(-inf) -> MaxPool. A float16 accelerator wants no
-inf, so there are two edits. Both find their pools by pattern, whether the graph still has the pairs (pads as
initializers, Constant nodes or arithmetic on constants and on static shapes, values shared or not), a simplifier has
already moved the padding into MaxPool, or an exporter has written auto_pad. Both return the number of pools that are
in the wanted form afterwards.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from detport.errors import Failure
from detport.graph.view import View, attribute, static_shapes, used_names

FIRST_OPSET = 11  # Pad takes pads and value as inputs
BATCH_AND_CHANNEL = 2
ZERO = "pool_padding_zero"


def fuse_pad_into_maxpool(model: onnx.ModelProto) -> int:
    """Lossless: moves the pads of Pad(-inf) -> MaxPool into MaxPool, which may have different ones on each side.

    Counts these pools and those that have uneven pads already, explicit or by auto_pad. A pair that MaxPool can't
    express (pads that depend on the input, on other axes, as wide as the kernel, ceil_mode, indices) stays, is exact
    and isn't counted.
    """
    require_opset(model)
    view = seen(model)
    replaced = []
    count = 0
    for pool in view.nodes("MaxPool"):
        pad = pad_before(view, pool)
        if pad is not None and is_lowest(pad_value(view, pad)):
            pads = spatial_pads(view, pad, len(attribute(pool, "kernel_shape")))
            if pads is not None and can_hold(view, pool, pads):
                set_pads(pool, own_pads(view, pool) + pads)
                replaced.append(pool.input[0])
                pool.input[0] = pad.input[0]
                count += 1
        elif is_uneven(view, pool):
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


def seen(model: onnx.ModelProto) -> View:
    """The graph with its static shapes, where its pads may depend on them."""
    view = View(model)
    needed = view.nodes("Shape") or any(not has_explicit_pads(pool) for pool in view.nodes("MaxPool"))
    return View(model, static_shapes(model)) if needed else view


def pad_before(view: View, pool: onnx.NodeProto) -> onnx.NodeProto | None:
    """The constant Pad that a pool reads from."""
    pad = view.producers.get(pool.input[0])
    if pad is None or pad.op_type != "Pad" or attribute(pad, "mode", b"constant") != b"constant":
        return None
    return pad


def feeds_only_pools(view: View, pad: onnx.NodeProto) -> bool:
    name = pad.output[0]
    return view.uses[name] == sum(list(pool.input).count(name) for pool in view.nodes("MaxPool"))


def pad_value(view: View, pad: onnx.NodeProto) -> np.ndarray | None:
    """What a Pad fills with, as a scalar of its type; None if the graph computes it from its input."""
    if len(pad.input) < 3 or not pad.input[2]:
        return np.zeros(())
    value = view.constant(pad.input[2])
    return None if value is None else value.reshape(())


def spatial_pads(view: View, pad: onnx.NodeProto, spatial: int) -> np.ndarray | None:
    """Pads in MaxPool's order (all begins, then all ends); None if unknown or not only spatial."""
    rank = BATCH_AND_CHANNEL + spatial
    pads = view.constant(pad.input[1])
    axes = np.arange(rank)
    if len(pad.input) > 3 and pad.input[3]:  # from opset 18 on
        axes = view.constant(pad.input[3])
    if pads is None or axes is None:
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, axes] = pads.reshape(2, -1)
    if full[:, :BATCH_AND_CHANNEL].any():
        return None
    return full[:, BATCH_AND_CHANNEL:].reshape(-1)


def require_opset(model: onnx.ModelProto) -> None:
    version = next((x.version for x in model.opset_import if x.domain in ("", "ai.onnx")), None)
    if version is None:
        raise Failure(f"graph {model.graph.name} names no opset of ONNX's own operators; export it again")
    if version < FIRST_OPSET:
        raise Failure(f"graph {model.graph.name} has opset {version}; pool patches need {FIRST_OPSET} or later")


def is_lowest(value: np.ndarray | None) -> bool:
    """-inf, or the lowest finite number of its type, which loses against every real cell as well."""
    return value is not None and value.dtype.kind == "f" and value <= np.finfo(value.dtype).min


def own_pads(view: View, pool: onnx.NodeProto) -> np.ndarray:
    """The pads of a MaxPool: all begins, then all ends."""
    kernel = np.array(attribute(pool, "kernel_shape"), np.int64)
    automatic = attribute(pool, "auto_pad", b"NOTSET")
    if automatic == b"VALID":
        return np.zeros(2 * len(kernel), np.int64)
    if automatic == b"NOTSET":
        return np.array(attribute(pool, "pads", [0, 0] * len(kernel)), np.int64)
    shape = view.shapes.get(pool.input[0])
    if shape is None:
        raise Failure(
            f"graph {view.graph.name}: MaxPool of {pool.input[0]!r} has auto_pad {automatic.decode()}, and the size of"
            " that tensor can't be inferred; export the graph with a fixed input size"
        )
    ones = [1] * len(kernel)
    strides, dilations = (np.array(attribute(pool, name, ones)) for name in ("strides", "dilations"))
    sides = np.array(shape[BATCH_AND_CHANNEL:])
    total = np.maximum((-(-sides // strides) - 1) * strides + (kernel - 1) * dilations + 1 - sides, 0)
    halves = [total // 2, total - total // 2]
    return np.concatenate(halves if automatic == b"SAME_UPPER" else halves[::-1])


def set_pads(pool: onnx.NodeProto, pads: np.ndarray) -> None:
    """Explicit pads, in place of the old ones and of auto_pad."""
    kept = [item for item in pool.attribute if item.name not in ("pads", "auto_pad")]
    del pool.attribute[:]
    pool.attribute.extend([*kept, onnx.helper.make_attribute("pads", [int(n) for n in pads])])


def has_explicit_pads(pool: onnx.NodeProto) -> bool:
    return attribute(pool, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")


def is_uneven(view: View, pool: onnx.NodeProto) -> bool:
    """Different pads at the two ends of an axis: they are those of TensorFlow's 'same', or were a Pad."""
    begins, ends = own_pads(view, pool).reshape(2, -1)
    return bool((begins != ends).any())


def can_hold(view: View, pool: onnx.NodeProto, pads: np.ndarray) -> bool:
    """Whether MaxPool with these pads is exactly Pad -> MaxPool: every window keeps a real cell."""
    total = (own_pads(view, pool) + pads).reshape(2, -1)
    return (
        has_explicit_pads(pool)
        and len(pool.output) == 1  # its indices would count other cells
        and not attribute(pool, "ceil_mode", 0)
        and bool((pads >= 0).all() and (total < np.array(attribute(pool, "kernel_shape"))).all())
    )


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
