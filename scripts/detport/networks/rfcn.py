"""R-FCN (Dai, Li, He, Sun 2016): a region proposal network and position-sensitive score maps on an atrous ResNet.

Image B, G, R minus one grey mean. The proposal layer is inside the network; class-wise boxes and NMS are the
decoder's. Boxes are x1 y1 x2 y2 in network pixels and a box from 0 to 9 is 10 pixels wide.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport.boxes import below
from detport.errors import UsageError
from detport.networks.ascend_ops import BatchMultiClassNMS, PSROIPooling
from detport.networks.blocks import (
    NonMaxSuppression,
    best_rows,
    grid_anchors,
    nothing,
    per_anchor,
    resnet_stage,
    stage_widths,
)
from detport.networks.psroi import psroi_pool

STRIDE = 16  # of the feature map that proposals and score maps live on
RATIOS = (0.5, 1.0, 2.0)  # height / width of anchors
DILATIONS = (1, 2)  # of the last stage: its first block, all others. The stage keeps stride 16 ("atrous")
ANY_SCORE = -1.0  # below every probability: the proposal layer has no score threshold


def build(options: dict, canvas: tuple[int, int], flavour: str = "standard") -> nn.Module:
    """The network for one canvas (H, W). "ascend" has Ascend's operators for proposal NMS and RoI pooling."""
    return RFCN(canvas=canvas, flavour=flavour, **options)


class RFCN(nn.Module):
    def __init__(
        self,
        canvas: tuple[int, int],
        flavour: str,
        classes: int,
        depths: list[int],
        width: int,
        rpn_channels: int,
        head_channels: int,
        group: int,
        anchor_scales: list[float],
        pre_nms: int,
        proposals: int,
        proposal_nms_iou: float,
        clip_proposals: str,
    ) -> None:
        super().__init__()
        if canvas[0] % STRIDE or canvas[1] % STRIDE:
            raise UsageError(f"input: {canvas[0]}x{canvas[1]}: R-FCN needs height and width divisible by {STRIDE}")
        cell = base_anchors(anchor_scales)
        stem = [
            nn.Conv2d(3, width, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),  # without padding
        ]
        c2, c3, c4, c5 = stage_widths(width)
        stages = [
            stage(width, width, depths[0], 1),
            stage(c2, width * 2, depths[1], 2),
            stage(c3, width * 4, depths[2], 2),
        ]
        self.RCNN_rpn = RPN(c4, rpn_channels, len(cell))
        self.RCNN_base = nn.Sequential(*stem, *stages)
        # One convolution under two names, as in the checkpoints. On loading the second name wins.
        self.RCNN_conv_1x1 = nn.Conv2d(c5, head_channels, 1, bias=False)
        self.RCNN_conv_new = nn.Sequential(stage(c4, width * 8, depths[3], 1, DILATIONS), self.RCNN_conv_1x1, nn.ReLU())
        outputs = classes + 1  # 0 is the background
        self.RCNN_bbox_base = nn.Conv2d(head_channels, 4 * outputs * group**2, 1, bias=False)
        self.RCNN_cls_base = nn.Conv2d(head_channels, outputs * group**2, 1, bias=False)
        anchors = grid_anchors(cell, canvas[0] // STRIDE, canvas[1] // STRIDE, STRIDE)
        self.register_buffer("anchors", anchors, persistent=False)
        self.outputs = outputs
        self.group = group
        self.pre_nms = pre_nms
        self.limits = canvas if clip_proposals == "canvas" else None
        self.proposals = proposals
        self.proposal_nms_iou = proposal_nms_iou
        self.suppress, self.pool = (nms_ascend, pool_ascend) if flavour == "ascend" else (nms_standard, pool_standard)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rois [1, R, 5] (0 x1 y1 x2 y2), cls_prob [1, R, classes + 1], bbox_pred [1, R, 4 * (classes + 1)]."""
        base = self.RCNN_base(image)
        logits, deltas = self.RCNN_rpn(base)
        rois = self.propose(pair_softmax(logits), deltas, self.limits)
        columns = rois.permute(0, 2, 1)  # the layout that Ascend's pooling takes
        head = self.RCNN_conv_new(base)
        scores = self.vote(self.RCNN_cls_base(head), columns, self.outputs).softmax(2) + nothing([logits, deltas])
        return rois, scores, self.vote(self.RCNN_bbox_base(head), columns, 4 * self.outputs)

    def propose(self, probability: Tensor, deltas: Tensor, limits: tuple[int, int] | None) -> Tensor:
        """Rois [1, R, 5]; rows after the last proposal are zero. `limits` (H, W) clips proposals before the NMS."""
        boxes, scores = candidates(probability, deltas, self.anchors, self.pre_nms, limits)
        kept = self.suppress(boxes, scores, self.proposals, self.proposal_nms_iou)
        return torch.cat([kept.new_zeros(1, self.proposals, 1), kept], dim=2)

    def vote(self, score_map: Tensor, rois: Tensor, outputs: int) -> Tensor:
        """[1, R, outputs] from rois [1, 5, R]: the mean of a roi's bins; empty bins count as 0."""
        pooled = self.pool(score_map, rois, outputs, self.group)
        return F.avg_pool2d(pooled, self.group).view(1, self.proposals, outputs)


class RPN(nn.Module):
    """Two logits (background, object) and four box deltas per anchor."""

    def __init__(self, inputs: int, channels: int, anchors: int) -> None:
        super().__init__()
        self.RPN_Conv = nn.Conv2d(inputs, channels, 3, padding=1)
        self.RPN_cls_score = nn.Conv2d(channels, 2 * anchors, 1)
        self.RPN_bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)

    def forward(self, base: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.RPN_Conv(base))
        return self.RPN_cls_score(x), self.RPN_bbox_pred(x)


def stage(inputs: int, planes: int, blocks: int, stride: int, dilations: tuple[int, int] = (1, 1)) -> nn.Sequential:
    first, others = dilations
    each = [first] + [others] * (blocks - 1)
    return resnet_stage(inputs, planes, blocks, stride, nn.BatchNorm2d, stride_in_1x1=True, dilations=each)


def base_anchors(scales: list[float]) -> Tensor:
    """Anchors (x1 y1 x2 y2) of the cell at the origin, ratio outer, scale inner.

    The 16 x 16 window of a ratio is rounded (half to even) to whole pixels before it is scaled.
    """
    centre = (STRIDE - 1) / 2
    anchors = []
    for ratio in RATIOS:
        width = round(math.sqrt(STRIDE**2 / ratio))
        height = round(width * ratio)
        for scale in scales:
            half_w, half_h = (width * scale - 1) / 2, (height * scale - 1) / 2
            anchors.append([centre - half_w, centre - half_h, centre + half_w, centre + half_h])
    return torch.tensor(anchors, dtype=torch.float32)


def pair_softmax(logits: Tensor) -> Tensor:
    """Probabilities [1, 2A, H, W]; channel a is background and channel A + a object of anchor a."""
    batch, channels, height, width = logits.shape
    pairs = logits.view(batch, 2, channels // 2 * height, width)
    return pairs.softmax(1).view(batch, channels, height, width)


def candidates(
    probability: Tensor, deltas: Tensor, anchors: Tensor, count: int, limits: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """The best `count` boxes [k, 4] and their scores [k], descending; of equal scores the earlier anchor first.

    Boxes may reach outside the image unless `limits` (H, W) clips them. There is no minimum size.
    """
    boxes = decode_boxes(anchors, per_anchor(deltas, 4))
    if limits is not None:
        boxes = clip_boxes(boxes, *limits)
    objects = probability[:, probability.shape[1] // 2 :]
    scores = per_anchor(objects, 1).view(1, -1)
    rows = best_rows(scores, min(count, scores.shape[1]))[0]
    return boxes[rows], scores[0][rows]


def decode_boxes(anchors: Tensor, deltas: Tensor) -> Tensor:
    """Boxes from deltas (dx, dy, dw, dh). Widths have +1, but x2, y2 no matching -1, and dw, dh no limit."""
    widths = anchors[:, 2] - anchors[:, 0] + 1
    heights = anchors[:, 3] - anchors[:, 1] + 1
    x = deltas[:, 0] * widths + (anchors[:, 0] + 0.5 * widths)
    y = deltas[:, 1] * heights + (anchors[:, 1] + 0.5 * heights)
    w = deltas[:, 2].exp() * widths
    h = deltas[:, 3].exp() * heights
    return torch.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], dim=1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    last = boxes.new_tensor([width - 1, height - 1, width - 1, height - 1])
    return torch.minimum(boxes.clamp(min=0), last)


def keep(boxes: Tensor, scores: Tensor, limit: int, iou: float) -> Tensor:
    """Rows that the proposal NMS keeps, best first, at most `limit`: widths with +1, suppressed from `iou` on."""
    one_more = boxes + boxes.new_tensor([0, 0, 1, 1])
    # The operator suppresses above its threshold only.
    chosen = NonMaxSuppression.apply(one_more[None], scores[None, None], limit, float(below(iou)), ANY_SCORE)
    return chosen[:, 2]


def nms_standard(boxes: Tensor, scores: Tensor, limit: int, iou: float) -> Tensor:
    """[1, limit, 4]: the kept boxes, then zeros."""
    rows = keep(boxes, scores, limit, iou)
    # Missing rows point to an appended row of zeros: the number found must not appear in the graph as a constant.
    zero = torch.full((limit,), len(boxes), dtype=rows.dtype, device=rows.device)
    rows = torch.cat([rows, zero])[:limit]
    return torch.cat([boxes, boxes.new_zeros(1, 4)])[rows].view(1, limit, 4)


class ProposalNMS(BatchMultiClassNMS):
    """Ascend's operator in the graph; on the CPU R-FCN's rule, which the graph is meant to follow.

    One image, one class. The operator itself computes IoU without +1 and in float16; without +1 alone, 2 of the 300
    rois of the full-size golden case differ.
    """

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, score_threshold: float, iou: float, per_class: int, total: int):
        own, score = boxes[0, :, 0], scores[0, :, 0]
        valid = torch.nonzero(score > score_threshold)[:, 0]
        rows = valid[keep(own[valid], score[valid], total, iou)]
        found = len(rows)
        kept, kept_scores = boxes.new_zeros(1, total, 4), scores.new_zeros(1, total)
        kept[0, :found], kept_scores[0, :found] = own[rows], score[rows]
        return kept, kept_scores, torch.zeros_like(kept_scores), torch.tensor([found], dtype=torch.int32)

    @staticmethod
    def symbolic(g, *arguments):
        boxes, *others = BatchMultiClassNMS.symbolic(g, *arguments)
        # The compiler may give the boxes float16, and the Concat that follows refuses two types.
        return g.op("Cast", boxes, to_i=1), *others  # 1 = float32 in ONNX


def nms_ascend(boxes: Tensor, scores: Tensor, limit: int, iou: float) -> Tensor:
    """[1, limit, 4] by BatchMultiClassNMS, which fills up with zeros by itself."""
    return ProposalNMS.apply(boxes.view(1, -1, 1, 4), scores.view(1, -1, 1), 0.0, iou, limit, limit)[0]


def pool_standard(score_map: Tensor, rois: Tensor, outputs: int, group: int) -> Tensor:
    return psroi_pool(score_map, rois[0], outputs, group, 1 / STRIDE)


def pool_ascend(score_map: Tensor, rois: Tensor, outputs: int, group: int) -> Tensor:
    return PSROIPooling.apply(score_map, rois, outputs, group, 1 / STRIDE)
