"""What the two patches of padded max-pools share: fuse_pad_into_maxpool (exact) and pad_maxpool_with_zero (lossy).

PyTorch exports a pool with TensorFlow's 'same' padding as Pad(-inf) -> MaxPool. A float16 accelerator wants no
-inf, so there are two edits. Both find their pools by pattern, whether the graph still has the pairs (pads as
initializers, Constant nodes or arithmetic on constants and on static shapes, values shared or not), a simplifier has
already moved the padding into MaxPool, or an exporter has written auto_pad. Both return the number of pools that are
in the wanted form afterwards.
"""

import numpy as np
import onnx

from detport.errors import Failure
from detport.graph.view import View, attribute, static_shapes, used_names

FIRST_OPSET = 11  # Pad takes pads and value as inputs
BATCH_AND_CHANNEL = 2


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
