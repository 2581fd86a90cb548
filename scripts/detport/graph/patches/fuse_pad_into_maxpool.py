"""Exact padding of max-pools: inside MaxPool, where padded cells never win."""

import numpy as np
import onnx

from detport.graph.pools import (
    has_explicit_pads,
    is_lowest,
    is_uneven,
    own_pads,
    pad_before,
    pad_value,
    prune,
    require_opset,
    seen,
    set_pads,
    spatial_pads,
)
from detport.graph.view import View, attribute


def edit(model: onnx.ModelProto) -> int:
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


def can_hold(view: View, pool: onnx.NodeProto, pads: np.ndarray) -> bool:
    """Whether MaxPool with these pads is exactly Pad -> MaxPool: every window keeps a real cell."""
    total = (own_pads(view, pool) + pads).reshape(2, -1)
    return (
        has_explicit_pads(pool)
        and len(pool.output) == 1  # its indices would count other cells
        and not attribute(pool, "ceil_mode", 0)
        and bool((pads >= 0).all() and (total < np.array(attribute(pool, "kernel_shape"))).all())
    )
