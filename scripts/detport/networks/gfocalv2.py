"""GFocalV2 (Li et al. 2020, arXiv 2011.12885): one box per location, its sides as distributions, and a quality
that is read off their shape.

Image R, G, B, normalised. NMS is inside the network: `dets` and `labels` are its two outputs.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport.errors import UsageError
from detport.networks.ascend_ops import BatchMultiClassNMS
from detport.networks.blocks import (
    NonMaxSuppression,
    best_rows,
    cell_corners,
    nothing,
    per_anchor,
    resnet_stages,
    stage_maps,
    stage_widths,
    top_down,
)

FIRST_STRIDE = 8  # of P3; every further level doubles it
SIDES = 4  # left, top, right, bottom
TOP_BINS = 4  # most probable bins of a side that the quality branch looks at


def build(options: dict, canvas: tuple[int, int], flavour: str = "standard") -> nn.Module:
    """The network for one canvas (H, W); flavour "ascend" ends in Ascend's BatchMultiClassNMS, whose candidates are
    always rounded to float16."""
    return GFocalV2(canvas=canvas, flavour=flavour, **options)


class GFocalV2(nn.Module):
    def __init__(
        self,
        canvas: tuple[int, int],
        flavour: str,
        classes: int,
        depths: list[int],
        width: int,
        channels: int,
        tower: int,
        groups: int,
        bins: int,
        quality_width: int,
        levels: int,
        nms_pre: int,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
        round_candidates: str,
    ) -> None:
        super().__init__()
        if channels % groups:
            raise UsageError(f"network.groups: {groups} does not divide network.channels ({channels})")
        # A class more than there are: its target was always 0 in training, its score is close to 0.
        self.score_columns = classes + 1
        self.strides = [FIRST_STRIDE * 2**i for i in range(levels)]
        self.locations = [math.prod(level_size(canvas, stride)) for stride in self.strides]
        self.canvas = canvas
        self.flavour = flavour
        self.nms_pre = nms_pre
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections
        self.round_candidates = round_candidates

        self.backbone = ResNet(depths, width)
        self.neck = FPN(stage_widths(width)[1:], channels, levels)
        self.bbox_head = Head(self.score_columns, channels, tower, groups, bins, quality_width, levels)
        # Buffers 0, 1, ...: the points of every level, which are the corners of its cells, not the centres. Not in the
        # checkpoint.
        self.grid = nn.Module()
        for i, stride in enumerate(self.strides):
            self.grid.register_buffer(str(i), cell_corners(*level_size(canvas, stride), stride), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """dets [K, 5] (x1 y1 x2 y2 score, best first, zeros after the last) and labels [K] (int64)."""
        features = self.neck(*self.backbone(image)[1:])
        scores, distributions = self.bbox_head(features)
        boxes, best, _ = self.candidates(scores, distributions)
        suppress = self.ascend_nms if self.flavour == "ascend" else self.standard_nms
        dets, labels = suppress(boxes, best)
        return dets + nothing([*scores, *distributions]), labels

    def candidates(self, scores: list[Tensor], distributions: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The best `nms_pre` locations of every level: boxes [N, 4], scores [N, classes + 1] and the index of
        each location in the concatenation of all levels."""
        columns = self.bbox_head.gfl_reg.out_channels
        rows = []
        for i, (stride, points) in enumerate(zip(self.strides, self.grid.buffers(), strict=True)):
            score = per_anchor(scores[i], self.score_columns)
            distribution = per_anchor(distributions[i], columns)
            index = torch.arange(self.locations[i], device=score.device)
            if self.locations[i] > self.nms_pre:
                index = best_rows(score.amax(1), self.nms_pre)
                score, distribution, points = score[index], distribution[index], points[index]
            distances = self.bbox_head.integral(distribution) * stride
            rows.append((boxes_around(points, distances, self.canvas), score, index + sum(self.locations[:i])))
        boxes, scores, index = zip(*rows, strict=True)
        return torch.cat(boxes), torch.cat(scores), torch.cat(index)

    def candidate_count(self) -> int:
        """Rows that `candidates` returns."""
        return sum(min(locations, self.nms_pre) for locations in self.locations)

    def standard_nms(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """NMS per class, then the best of all classes, with the standard operator."""
        if self.round_candidates == "float16":
            boxes, scores = boxes.half().float(), scores.half().float()
        count = self.max_detections
        limits = (count, self.iou_threshold, self.score_threshold)
        chosen = NonMaxSuppression.apply(boxes[None], scores.t()[None], *limits)
        labels, rows = chosen[:, 1], chosen[:, 2]
        kept_scores = scores.reshape(-1)[rows * self.score_columns + labels]
        # Appended zero rows make the number of rows constant, whatever NMS kept.
        dets = torch.cat([boxes[rows], kept_scores[:, None]], dim=1)
        dets = torch.cat([dets, torch.zeros(count, 5, device=dets.device)])
        labels = torch.cat([labels, torch.zeros(count, dtype=torch.int64, device=dets.device)])
        order = best_rows(dets[:, 4], count)
        return dets[order].reshape(count, 5), labels[order].reshape(count)

    def ascend_nms(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The same with Ascend's operator, in half precision; one column of zeros stands for the background."""
        count = self.candidate_count()
        scores = torch.cat([scores, torch.zeros(count, 1, device=scores.device)], dim=1)
        boxes, scores, labels, _ = BatchMultiClassNMS.apply(
            boxes.reshape(1, count, 1, 4).half(),
            scores.reshape(1, count, self.score_columns + 1).half(),
            self.score_threshold,
            self.iou_threshold,
            self.max_detections,
            self.max_detections,
        )
        rows = self.max_detections
        dets = torch.cat([boxes.float().reshape(rows, 4), scores.float().reshape(rows, 1)], dim=1)
        return dets.reshape(rows, 5), labels.long().reshape(rows)


class ResNet(nn.Module):
    """ResNet with the stride in the 3x3 of a block (PyTorch style)."""

    def __init__(self, depths: list[int], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        for name, stage in resnet_stages(depths, width, nn.BatchNorm2d, stride_in_1x1=False).items():
            self.add_module(name, stage)

    def stem(self, image: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return stage_maps(self, self.stem(image))


class Conv(nn.Module):
    """A convolution under the name `conv`, followed by group normalisation and ReLU where `groups` are given."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int = 1, groups: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, padding=kernel // 2, bias=not groups)
        self.gn = nn.GroupNorm(groups, channels) if groups else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.gn is None else F.relu(self.gn(x))


class FPN(nn.Module):
    """P3, P4, P5 from C3, C4, C5; each further level from the one before (P6 from P5), without ReLU."""

    def __init__(self, inputs: list[int], channels: int, levels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(Conv(width, channels, 1) for width in inputs)
        strides = [1] * len(inputs) + [2] * (levels - len(inputs))
        self.fpn_convs = nn.ModuleList(Conv(channels, channels, 3, stride) for stride in strides)

    def forward(self, *maps: Tensor) -> list[Tensor]:
        merged = top_down([lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=True)])
        outputs = []
        for i, conv in enumerate(self.fpn_convs):
            outputs.append(conv(merged[i] if i < len(merged) else outputs[-1]))
        return outputs


class Scale(nn.Module):
    """One learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Integral(nn.Module):
    """Expected distance, in strides, of the four sides: sum of softmax(logits)_k x project_k."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("project", torch.arange(bins, dtype=torch.float32))

    def forward(self, distribution: Tensor) -> Tensor:
        """[N, 4] from the logits [N, 4 * bins]."""
        bins = self.project.numel()
        probabilities = distribution.reshape(-1, bins).softmax(1)
        return (probabilities @ self.project.reshape(bins, 1)).reshape(-1, SIDES)


class Head(nn.Module):
    """Two towers shared by all levels: classes, and the four sides as distributions over `bins` distances."""

    def __init__(
        self,
        score_columns: int,
        channels: int,
        tower: int,
        groups: int,
        bins: int,
        quality_width: int,
        levels: int,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.cls_convs = nn.Sequential(*[Conv(channels, channels, 3, groups=groups) for _ in range(tower)])
        self.reg_convs = nn.Sequential(*[Conv(channels, channels, 3, groups=groups) for _ in range(tower)])
        self.gfl_cls = nn.Conv2d(channels, score_columns, 3, padding=1)
        self.gfl_reg = nn.Conv2d(channels, SIDES * bins, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(levels))
        self.reg_conf = nn.Sequential(
            nn.Conv2d(SIDES * (TOP_BINS + 1), quality_width, 1),
            nn.ReLU(),
            nn.Conv2d(quality_width, 1, 1),
            nn.Sigmoid(),
        )
        self.integral = Integral(bins)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level: scores (probabilities, quality included) and the logits of the distributions."""
        distributions = [scale(self.gfl_reg(self.reg_convs(x))) for x, scale in zip(features, self.scales, strict=True)]
        scores = [
            self.class_logits(x).sigmoid() * self.quality(distribution)
            for x, distribution in zip(features, distributions, strict=True)
        ]
        return scores, distributions

    def class_logits(self, feature: Tensor) -> Tensor:
        return self.gfl_cls(self.cls_convs(feature))

    def quality(self, distribution: Tensor) -> Tensor:
        """Expected IoU [B, 1, H, W] of the box, judged by the shape of its distributions."""
        return self.reg_conf(self.statistics(distribution))

    def statistics(self, distribution: Tensor) -> Tensor:
        """Per side the largest probabilities, descending, and their mean: [B, 20, H, W]."""
        height, width = distribution.shape[-2:]
        # The bins go last because the device's TopK wants the last axis.
        logits = distribution.reshape(-1, SIDES, self.bins, height, width).permute(0, 1, 4, 3, 2)
        top = logits.softmax(-1).topk(TOP_BINS, dim=-1).values
        top = torch.cat([top, top.mean(-1, keepdim=True)], dim=-1)
        return top.permute(0, 1, 4, 3, 2).reshape(-1, SIDES * (TOP_BINS + 1), height, width)


def level_size(canvas: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of a level: every halving rounds up."""
    return math.ceil(canvas[0] / stride), math.ceil(canvas[1] / stride)


def boxes_around(points: Tensor, distances: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Boxes x1 y1 x2 y2 from the distances left, top, right, bottom, cut to the canvas."""
    height, width = canvas
    x1 = (points[:, 0] - distances[:, 0]).clamp(0, width)
    y1 = (points[:, 1] - distances[:, 1]).clamp(0, height)
    x2 = (points[:, 0] + distances[:, 2]).clamp(0, width)
    y2 = (points[:, 1] + distances[:, 3]).clamp(0, height)
    return torch.stack([x1, y1, x2, y2], dim=1)
