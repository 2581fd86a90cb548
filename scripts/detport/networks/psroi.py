"""Position-sensitive RoI pooling (R-FCN), composed of operators that every backend has.

Bin (i, j) of output k is the mean of channel (k*G + i)*G + j over the map cells that the bin covers. The sum over the
cells is a matrix product of the map with a 0/1 mask: exact to the rounding of the sum itself, which differences of a
summed-area table are not in float32, and one large multiplication per row of bins for all rois.
"""

import torch
from torch import Tensor


def round_half_away(x: Tensor) -> Tensor:
    """C's round(): halves go away from zero. (floor(x + 0.5) would turn 0.49999997 into 1 and -0.5 into 0.)"""
    magnitude = x.abs()
    whole = magnitude.floor()
    return x.sign() * (whole + (magnitude - whole >= 0.5).to(x.dtype))


def bin_edges(low: Tensor, high: Tensor, scale: float, group: int, size: int) -> tuple[Tensor, Tensor]:
    """First cell and end cell (exclusive) of every bin along one axis, both [R, group], clamped to 0..size.

    `low` and `high` [R] are the rois' corners in network pixels, `scale` is map cells per pixel. Multiplication and
    addition round separately; a fused operation would move some edges to the next cell.
    """
    start = round_half_away(low) * scale
    end = (round_half_away(high) + 1) * scale
    bin_size = ((end - start).clamp(min=0.1) / group).unsqueeze(1)
    start = start.unsqueeze(1)
    index = torch.arange(group, dtype=low.dtype, device=low.device)
    first = (index * bin_size + start).floor().clamp(0, size)
    last = ((index + 1) * bin_size + start).ceil().clamp(0, size)
    return first, last


def cell_mask(first: Tensor, last: Tensor, size: int) -> Tensor:
    """[R, group] edges -> [group, size, R]: 1 where the cell belongs to the bin."""
    cells = torch.arange(size, dtype=first.dtype, device=first.device).view(1, size, 1)
    first, last = first.t().contiguous().unsqueeze(1), last.t().contiguous().unsqueeze(1)
    return ((cells >= first) & (cells < last)).to(first.dtype)


def psroi_pool(score_map: Tensor, rois: Tensor, outputs: int, group: int, scale: float) -> Tensor:
    """Map [1, outputs*group*group, H, W], rois [5, R] (batch, x1, y1, x2, y2) -> [R, outputs, group, group].

    One image: the batch row is not read. A bin without cells (outside the map) gives 0.
    """
    height, width = score_map.shape[-2:]
    top, bottom = bin_edges(rois[2], rois[4], scale, group, height)
    left, right = bin_edges(rois[1], rois[3], scale, group, width)
    rows, columns = cell_mask(top, bottom, height), cell_mask(left, right, width)
    planes = score_map.view(outputs, group, group, height * width)
    sums = []
    for i in range(group):  # one row of bins at a time: the masks of all bins would be group times the memory
        mask = rows[i].view(1, height, 1, -1) * columns.unsqueeze(1)
        mask = mask.reshape(group, height * width, -1)
        sums.append(torch.matmul(planes[:, i].transpose(0, 1), mask))
    total = torch.stack(sums).permute(3, 2, 0, 1)
    cells = (bottom - top).unsqueeze(2) * (right - left).unsqueeze(1)
    return total / cells.clamp(min=1).unsqueeze(1)
