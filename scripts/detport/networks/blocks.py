"""Blocks that several detectors share: norms, the ResNet bottleneck, the FPN's top-down path."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport import boxes as boxlib


class FrozenNorm(nn.Module):
    """Batch normalisation with fixed statistics and, as in Detectron, no epsilon at all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * self.running_var.rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut.

    `stride_in_1x1` puts the stride into the first 1x1 (the original Caffe/MSRA models) instead of the 3x3
    (PyTorch's own models); weights of one kind do not work in the other.
    """

    expansion = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int,
        norm: type[nn.Module],
        stride_in_1x1: bool,
        dilation: int = 1,
        project: bool = False,
    ) -> None:
        super().__init__()
        outputs = planes * self.expansion
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        else:
            self.downsample = None
        self.conv1 = nn.Conv2d(inputs, planes, 1, first, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


def resnet_stage(
    inputs: int,
    planes: int,
    blocks: int,
    stride: int,
    norm: type[nn.Module],
    stride_in_1x1: bool,
    dilations: list[int] | None = None,
) -> nn.Sequential:
    """One stage of a ResNet: the first block has the stride and the projection shortcut."""
    dilations = dilations or [1] * blocks
    outputs = planes * Bottleneck.expansion
    first = Bottleneck(inputs, planes, stride, norm, stride_in_1x1, dilations[0], project=True)
    rest = [Bottleneck(outputs, planes, 1, norm, stride_in_1x1, d) for d in dilations[1:]]
    return nn.Sequential(first, *rest)


def resnet_stages(
    depths: list[int], width: int, norm: type[nn.Module], stride_in_1x1: bool
) -> dict[str, nn.Sequential]:
    """The stages behind a ResNet's stem by their names in every checkpoint, layer1 to layer4."""
    inputs = [width, *stage_widths(width)]
    return {
        f"layer{i + 1}": resnet_stage(inputs[i], width * 2**i, depth, 2 if i else 1, norm, stride_in_1x1)
        for i, depth in enumerate(depths)
    }


def stage_widths(width: int) -> list[int]:
    """Channels of C2 to C5, the maps behind the stages of a ResNet whose stem has `width`."""
    return [Bottleneck.expansion * width * 2**i for i in range(4)]


def stage_maps(network: nn.Module, x: Tensor) -> list[Tensor]:
    """C2 to C5 of a network with the stages of `resnet_stages`, from the stem's map."""
    maps = [x]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        maps.append(stage(maps[-1]))
    return maps[1:]


def conv_relu_tower(inputs: int, channels: int, depth: int) -> nn.Sequential:
    """`depth` times [3x3 convolution with bias, ReLU] as one flat Sequential: convolutions at 0, 2, 4, ..."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(inputs if i == 0 else channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def top_down(laterals: list[Tensor]) -> list[Tensor]:
    """The FPN's path from the coarsest lateral map to the finest: nearest upsampling, then addition."""
    merged = [laterals[-1]]
    for lateral in reversed(laterals[:-1]):
        merged.insert(0, lateral + F.interpolate(merged[0], size=lateral.shape[-2:], mode="nearest"))
    return merged


def greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Rows of the boxes (x1 y1 x2 y2) that greedy suppression keeps, best score first, at most `limit`.

    As ONNX defines it: IoU in float32 without +1 on the sides, suppressed above the threshold; of equal scores the
    lower row goes first.
    """
    corners, values = (x.detach().float().cpu().numpy() for x in (boxes, scores))
    one_class = np.zeros(len(values), np.int64)
    kept = boxlib.nms(corners, values, one_class, iou_threshold, limit, plus=0)
    return torch.from_numpy(kept).to(boxes.device)


class NonMaxSuppression(torch.autograd.Function):
    """Per-class NMS that becomes the standard NonMaxSuppression operator in ONNX.

    boxes [1, N, 4], scores [1, C, N]; result [K, 3] of (0, class, row), class by class. All five inputs of the
    operator are given: Ascend's compiler fails with fewer. It takes corners as y1 x1 y2 x2, but the IoU is the
    same with x and y exchanged.
    """

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, limit: int, iou_threshold: float, score_threshold: float):
        if torch.onnx.is_in_onnx_export():  # needs no more than the shape
            return torch.zeros(1, 3, dtype=torch.int64)
        chosen = [torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)]
        for label, row_scores in enumerate(scores[0]):
            rows = torch.nonzero(row_scores > score_threshold)[:, 0]
            rows = rows[greedy_nms(boxes[0, rows], row_scores[rows], iou_threshold, limit)]
            chosen.append(torch.stack([torch.zeros_like(rows), torch.full_like(rows, label), rows], dim=1))
        return torch.cat(chosen)

    @staticmethod
    def symbolic(g, boxes, scores, limit: int, iou_threshold: float, score_threshold: float):
        settings = [
            g.op("Constant", value_t=torch.tensor([limit], dtype=torch.int64)),
            g.op("Constant", value_t=torch.tensor([iou_threshold], dtype=torch.float32)),
            g.op("Constant", value_t=torch.tensor([score_threshold], dtype=torch.float32)),
        ]
        chosen = g.op("NonMaxSuppression", boxes, scores, *settings)
        # How many rows there are depends on the image, not on the one that was traced.
        chosen.setType(boxes.type().with_dtype(torch.int64).with_sizes([None, 3]))
        return chosen


def cell_corners(rows: int, columns: int, stride: int) -> Tensor:
    """(x, y) of the upper left corner of every cell of a map, row by row: [rows * columns, 2] in image pixels."""
    y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).float()


def grid_anchors(cell: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """Anchors [A, 4] of the first cell, at every cell of a map: [rows * columns * A, 4] in the order (y, x, anchor)."""
    shifts = cell_corners(rows, columns, stride).repeat(1, 2).to(cell)
    return (shifts.view(-1, 1, 4) + cell).reshape(-1, 4)


def per_anchor(x: Tensor, values: int) -> Tensor:
    """[1, A * values, H, W] to [H*W*A, values]: one row per anchor, in the order (y, x, anchor)."""
    return x.permute(0, 2, 3, 1).reshape(-1, values)


def nothing(maps: Sequence[Tensor]) -> Tensor:
    """Zero, or NaN where any value of the maps is NaN or infinite: to be added to scores that leave a network.

    NaN loses every comparison. TopK and NMS leave such a box out as if it had never been there, and nobody would see
    that the network is broken. The mean, not the sum: that of a large map overflows in half precision.
    """
    return torch.stack([each.mean() for each in maps]).sum() * 0


def best_rows(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest values of the last axis, descending; of equal values the earlier first, which
    ONNX's TopK promises and PyTorch's does not."""
    if torch.onnx.is_in_onnx_export():
        return values.topk(count).indices
    return values.argsort(dim=-1, descending=True, stable=True)[..., :count]
