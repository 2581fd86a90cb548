"""RoIAlign as ONNX Runtime computes it: not aligned, average, a fixed number of samples per bin.

Bilinear interpolation and the average over a bin's samples are both separable, so one bin is
row weights x feature map x column weights. That is exact, differentiable and has no loop over rois.
"""

import torch
from torch import Tensor


def axis_weights(start: Tensor, end: Tensor, bins: int, samples: int, size: int) -> Tensor:
    """Weights [R, bins, size] of the `size` cells of one axis for every bin of every roi.

    `start` and `end` are in cells of the map. The rules at the border are those of the original C++ code:
    a sample below -1 or above `size` counts as zero; one below 0 is moved to 0; one beyond the last cell
    takes the last cell.
    """
    length = (end - start).clamp(min=1.0) / bins
    steps = (torch.arange(bins * samples, dtype=start.dtype, device=start.device) + 0.5) / samples
    position = start[:, None] + steps * length[:, None]
    inside = (position >= -1.0) & (position <= size)
    position = position.clamp(min=0.0)
    low = position.floor().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    fraction = torch.where(low >= size - 1, torch.zeros_like(position), position - low)
    weights = torch.zeros(*position.shape, size, dtype=start.dtype, device=start.device)
    weights.scatter_add_(2, low.long()[..., None], ((1 - fraction) * inside)[..., None])
    weights.scatter_add_(2, high.long()[..., None], (fraction * inside)[..., None])
    return weights.view(len(start), bins, samples, size).mean(2)


def roi_align(features: Tensor, boxes: Tensor, scale: float, bins: int, samples: int) -> Tensor:
    """[R, C, bins, bins] from one image's map [1, C, H, W] and boxes [R, 4] (x1 y1 x2 y2 in image pixels)."""
    height, width = features.shape[-2:]
    x1, y1, x2, y2 = (boxes * scale).unbind(1)
    rows = axis_weights(y1, y2, bins, samples, height)
    columns = axis_weights(x1, x2, bins, samples, width)
    pooled = torch.einsum("rph,chw->rpcw", rows, features[0])
    return torch.einsum("rpcw,rqw->rcpq", pooled, columns)


class RoIAlign(torch.autograd.Function):
    """`roi_align` that becomes the standard RoiAlign operator in ONNX; rois are [R, 5] with the batch index first."""

    @staticmethod
    def forward(ctx, features: Tensor, rois: Tensor, scale: float, bins: int, samples: int) -> Tensor:
        # Only the exporter calls this, and it needs no more than the shape.
        return features.new_zeros(len(rois), features.shape[1], bins, bins)

    @staticmethod
    def symbolic(g, features, rois, scale: float, bins: int, samples: int):
        from torch.onnx import symbolic_helper

        def column(indices: list[int]):
            index = g.op("Constant", value_t=torch.tensor(indices, dtype=torch.int64))
            return g.op("Gather", rois, index, axis_i=1)

        batch = symbolic_helper._squeeze_helper(g, column([0]), [1])
        batch = g.op("Cast", batch, to_i=7)  # 7 = int64 in ONNX
        # From opset 16 on the default would be aligned sampling, which is another operator in effect.
        opset = symbolic_helper.GLOBALS.export_onnx_opset_version
        mode = {"coordinate_transformation_mode_s": "output_half_pixel"} if opset >= 16 else {}
        return g.op(
            "RoiAlign",
            features,
            column([1, 2, 3, 4]),
            batch,
            output_height_i=bins,
            output_width_i=bins,
            sampling_ratio_i=samples,
            spatial_scale_f=scale,
            mode_s="avg",
            **mode,
        )


def pool_levels(
    features: list[Tensor], boxes: Tensor, level: Tensor, scales: list[float], bins: int, samples: int
) -> Tensor:
    """Each roi pooled from its own level of the pyramid; `level` holds indices into `features`.

    The exported graph has static shapes only, so there every roi is pooled on every level and the wrong ones
    are multiplied by zero, as the original does. The values are the same.
    """
    if not torch.onnx.is_in_onnx_export():
        pooled = features[0].new_zeros(len(boxes), features[0].shape[1], bins, bins)
        for i, (feature, scale) in enumerate(zip(features, scales, strict=True)):
            rows = torch.nonzero(level == i)[:, 0]
            pooled = pooled.index_copy(0, rows, roi_align(feature, boxes[rows], scale, bins, samples))
        return pooled
    rois = torch.cat([boxes.new_zeros(boxes.shape[0], 1), boxes], dim=1)
    total = None
    for i, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        own = (level == i).to(boxes.dtype).view(-1, 1, 1, 1)
        pooled = RoIAlign.apply(feature, rois, scale, bins, samples) * own
        total = pooled if total is None else total + pooled
    return total
