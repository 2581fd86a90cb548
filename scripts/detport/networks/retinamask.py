"""RetinaMask (Fu, Shvets, Berg 2019): RetinaNet on P3..P7 with a mask head on its best boxes.

Image B, G, R minus the channel means. The network ends in boxes with masks: the best `top_k` before any NMS, as the
guide's, or those that NMS keeps. Pasting masks is the decoder's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport.networks.ascend_ops import BatchMultiClassNMS
from detport.networks.blocks import (
    FrozenNorm,
    NonMaxSuppression,
    conv_relu_tower,
    grid_anchors,
    nothing,
    per_anchor,
    resnet_stages,
    stage_maps,
    stage_widths,
    top_down,
)
from detport.networks.roi_align import pool_levels

STRIDES = (8, 16, 32, 64, 128)  # P3..P7
RATIOS = (0.5, 1.0, 2.0)  # height / width
OCTAVES = (2**0, 2 ** (1 / 3), 2 ** (2 / 3))
ANCHORS_PER_CELL = len(RATIOS) * len(OCTAVES)
ANCHOR_SIZE = 4  # side of an anchor at octave 0, in strides
CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of dx, dy, dw, dh
CODE_CLIP = math.log(1000 / 16)  # largest dw, dh after the weights
MASK_LEVELS = 3  # masks are pooled from P3, P4, P5
POOLED = 14  # side of a pooled roi; masks are twice as large
SAMPLES = 2  # RoIAlign samples per bin and axis
ONE_MORE = (0.0, 0.0, 1.0, 1.0)  # from x2, y2 as the last pixels inside to where the box ends


def build(options: dict, canvas: tuple[int, int], flavour: str = "standard") -> nn.Module:
    """The network for one canvas (H, W).

    Option `contract`: `compact` suppresses boxes before their masks are made; in the flavour "ascend" by Ascend's own
    operator. `guide` makes the masks of all `top_k` boxes and is one graph for both flavours.
    """
    return RetinaMask(canvas=canvas, flavour=flavour, **options)


class RetinaMask(nn.Module):
    def __init__(
        self,
        canvas: tuple[int, int],
        flavour: str,
        contract: str,
        classes: int,
        depths: list[int],
        width: int,
        channels: int,
        tower: int,
        mask_convs: int,
        top_k: int,
        clip: int,
        nms_iou: float,
        max_detections: int,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(depths, width, channels)
        self.rpn = nn.Module()
        self.rpn.anchor_generator = nn.Module()
        self.rpn.anchor_generator.cell_anchors = Buffers([cell_anchors(stride) for stride in STRIDES])
        self.rpn.head = BoxHead(channels, classes, tower)
        self.mask = MaskHead(channels, classes, mask_convs)
        self.classes = classes
        self.top_k = top_k
        self.clip = clip  # boxes are clamped to 0..clip in both axes: a constant of the published model
        self.canvas = canvas
        self.compact = contract == "compact"
        self.pairs = best_by_anchor if self.compact and flavour == "standard" else best_of_all
        self.suppress = suppress_ascend if flavour == "ascend" else suppress_standard
        self.nms_iou = nms_iou
        self.max_detections = max_detections

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """bboxs [K, 4], labels [K] (int32, 1..classes), scores [K] (descending), masks [K, 1, 28, 28].

        K is `top_k`, or in the compact contract `max_detections`: what NMS keeps, then rows whose score is 0.
        """
        features = self.backbone(image)
        logits, codes = self.rpn.head(features)
        every = self.probabilities(logits)
        boxes, labels, scores, _ = self.best(every, codes)
        if self.compact:
            boxes, labels, scores = self.survivors(boxes, labels, scores)
            scores = scores + nothing([every, *codes])
        return boxes, labels, scores, self.masks(features, boxes, labels)

    def anchors(self) -> Tensor:
        """All anchors [A, 4] in the order (level, y, x, anchor)."""
        grids = []
        for stride, cell in zip(STRIDES, self.rpn.anchor_generator.cell_anchors, strict=True):
            rows, columns = (math.ceil(side / stride) for side in self.canvas)
            grids.append(grid_anchors(cell, rows, columns, stride))
        return torch.cat(grids)

    def select(self, logits: list[Tensor], codes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best `top_k` (anchor, class) pairs over all levels: boxes, labels, scores and flat indices."""
        return self.best(self.probabilities(logits), codes)

    def probabilities(self, logits: list[Tensor]) -> Tensor:
        """Of all pairs, in the order of their flat indices."""
        return torch.cat([per_anchor(x, self.classes) for x in logits]).sigmoid()

    def best(self, scores: Tensor, codes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `select` gives."""
        boxes = decode_boxes(self.anchors(), torch.cat([per_anchor(x, 4) for x in codes]))
        # Integers all the way: flat indices pass 2^24, beyond which float32 has gaps.
        scores, index = self.pairs(scores, min(self.top_k, scores.numel()))
        labels = index % self.classes + 1
        anchor = torch.div(index, self.classes, rounding_mode="floor")
        return boxes[anchor].clamp(0, self.clip), labels, scores, index

    def survivors(self, boxes: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What NMS in each class keeps of boxes, labels and scores, best first, and zeros up to `max_detections`."""
        # Widths of the decoder's NMS have +1, those of the operators do not.
        one_more = boxes + boxes.new_tensor(ONE_MORE)
        own = labels == torch.arange(1, self.classes + 1, dtype=labels.dtype, device=labels.device)[:, None]
        table = scores * own.to(scores.dtype)
        return self.suppress(boxes, labels, scores, one_more, table, self.max_detections, self.nms_iou)

    def masks(self, features: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Mask probabilities [K, 1, 28, 28], of each box's own class (channel 0 is background)."""
        logits = self.mask.logits(self.pool(features, boxes))
        channels, side = logits.shape[1], logits.shape[2]
        own = torch.arange(logits.shape[0], dtype=torch.int32) * channels + labels
        return logits.view(-1, side, side)[own].sigmoid()[:, None]

    def pool(self, features: list[Tensor], boxes: Tensor) -> Tensor:
        """RoIAlign of every box on the level that fits its size."""
        scales = [1 / stride for stride in STRIDES[:MASK_LEVELS]]
        return pool_levels(features[:MASK_LEVELS], boxes, roi_level(boxes), scales, POOLED, SAMPLES)


class Buffers(nn.Module):
    """A list of buffers, named by their position."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        for i, tensor in enumerate(tensors):
            self.register_buffer(str(i), tensor)

    def __iter__(self):
        return iter(self._buffers.values())


class Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = FrozenNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)


class Body(nn.Module):
    """ResNet with the stride in the first 1x1 of a block (MSRA style)."""

    def __init__(self, depths: list[int], width: int) -> None:
        super().__init__()
        self.stem = Stem(width)
        for name, stage in resnet_stages(depths, width, FrozenNorm, stride_in_1x1=True).items():
            self.add_module(name, stage)

    def forward(self, image: Tensor) -> list[Tensor]:
        return stage_maps(self, self.stem(image))


class TopBlocks(nn.Module):
    """P6 from P5 and P7 from ReLU(P6); P6 itself is passed on without ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, padding=1)

    def forward(self, p5: Tensor) -> list[Tensor]:
        p6 = self.p6(p5)
        return [p6, self.p7(F.relu(p6))]


class FPN(nn.Module):
    def __init__(self, inputs: list[int], channels: int) -> None:
        super().__init__()
        for level, width in zip((2, 3, 4), inputs, strict=True):  # take C3, C4, C5
            self.add_module(f"fpn_inner{level}", nn.Conv2d(width, channels, 1))
            self.add_module(f"fpn_layer{level}", nn.Conv2d(channels, channels, 3, padding=1))
        self.top_blocks = TopBlocks(channels)

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor) -> list[Tensor]:
        merged = top_down([self.fpn_inner2(c3), self.fpn_inner3(c4), self.fpn_inner4(c5)])
        p3, p4, p5 = self.fpn_layer2(merged[0]), self.fpn_layer3(merged[1]), self.fpn_layer4(merged[2])
        return [p3, p4, p5, *self.top_blocks(p5)]


class Backbone(nn.Module):
    def __init__(self, depths: list[int], width: int, channels: int) -> None:
        super().__init__()
        self.body = Body(depths, width)
        self.fpn = FPN(stage_widths(width)[1:], channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.fpn(*self.body(image)[1:])


class BoxHead(nn.Module):
    """Two towers shared by all levels: class logits per anchor, and box codes that all classes share."""

    def __init__(self, channels: int, classes: int, tower: int) -> None:
        super().__init__()
        self.cls_tower = conv_relu_tower(channels, channels, tower)
        self.cls_logits = nn.Conv2d(channels, ANCHORS_PER_CELL * classes, 3, padding=1)
        self.bbox_tower = conv_relu_tower(channels, channels, tower)
        self.bbox_pred = nn.Conv2d(channels, ANCHORS_PER_CELL * 4, 3, padding=1)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits = [self.cls_logits(self.cls_tower(x)) for x in features]
        return logits, [self.bbox_pred(self.bbox_tower(x)) for x in features]


class MaskHead(nn.Module):
    def __init__(self, channels: int, classes: int, convs: int) -> None:
        super().__init__()
        self.feature_extractor = nn.Module()
        for i in range(convs):
            self.feature_extractor.add_module(f"mask_fcn{i + 1}", nn.Conv2d(channels, channels, 3, padding=1))
        self.predictor = nn.Module()
        self.predictor.conv5_mask = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.predictor.mask_fcn_logits = nn.Conv2d(channels, classes + 1, 1)

    def features(self, pooled: Tensor) -> Tensor:
        for conv in self.feature_extractor.children():
            pooled = F.relu(conv(pooled))
        return pooled

    def logits(self, pooled: Tensor) -> Tensor:
        """[R, classes + 1, 28, 28] from pooled rois [R, C, 14, 14]."""
        return self.predictor.mask_fcn_logits(F.relu(self.predictor.conv5_mask(self.features(pooled))))


def cell_anchors(stride: int) -> Tensor:
    """The nine anchors (x1 y1 x2 y2) of the cell at the origin, ratio outer, octave inner.

    The window of one stride is rounded to whole pixels before it is enlarged, so the levels are not scaled
    copies of each other. Rounding is half to even, arithmetic in float64.
    """
    centre = (stride - 1) / 2
    anchors = []
    for ratio in RATIOS:
        width = round(math.sqrt(stride * stride / ratio))
        height = round(width * ratio)
        for octave in OCTAVES:
            half_w = (width * ANCHOR_SIZE * octave - 1) / 2
            half_h = (height * ANCHOR_SIZE * octave - 1) / 2
            anchors.append([centre - half_w, centre - half_h, centre + half_w, centre + half_h])
    return torch.tensor(anchors, dtype=torch.float64).float()


def decode_boxes(anchors: Tensor, codes: Tensor) -> Tensor:
    """Boxes from codes (dx, dy, dw, dh). Widths have +1, and x2, y2 the matching -1."""
    widths = anchors[:, 2] - anchors[:, 0] + 1
    heights = anchors[:, 3] - anchors[:, 1] + 1
    centre_x = anchors[:, 0] + 0.5 * widths
    centre_y = anchors[:, 1] + 0.5 * heights
    wx, wy, ww, wh = CODE_WEIGHTS
    x = codes[:, 0] / wx * widths + centre_x
    y = codes[:, 1] / wy * heights + centre_y
    w = torch.exp((codes[:, 2] / ww).clamp(max=CODE_CLIP)) * widths
    h = torch.exp((codes[:, 3] / wh).clamp(max=CODE_CLIP)) * heights
    return torch.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w - 1, y + 0.5 * h - 1], dim=1)


def best_of_all(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of a table [A, C] and their flat indices, by a sort of all: the guide's graph."""
    scores, index = scores.flatten().topk(count, sorted=True)
    return scores, index.int()


def best_by_anchor(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same from the rows of the anchors whose best class is best, among which they are: runners need an index for
    each of the numbers that they sort, and there are 27 million. The anchors stay in their own order, which is that of
    equal scores."""
    anchors = scores.amax(1).topk(min(count, len(scores)))[1]
    anchors = anchors.topk(len(anchors), largest=False, sorted=True)[0]
    classes = torch.arange(scores.shape[1], dtype=torch.int32, device=anchors.device)
    pairs = anchors.int()[:, None] * len(classes) + classes
    scores, place = scores[anchors].flatten().topk(count, sorted=True)
    return scores, pairs.flatten()[place]


def roi_level(boxes: Tensor) -> Tensor:
    """Index of the pyramid level (0 = P3) for each box: equation 1 of the FPN paper with k0 = 4, canonical 224."""
    side = torch.sqrt((boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1))
    level = torch.floor(4 + torch.log2(side / 224 + 1e-6))
    return level.clamp(3, 3 + MASK_LEVELS - 1) - 3


def suppress_standard(
    boxes: Tensor, labels: Tensor, scores: Tensor, one_more: Tensor, table: Tensor, limit: int, iou: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By the standard operator on boxes that are `one_more` wide, with the scores of each class in `table` [C, N]."""
    chosen = NonMaxSuppression.apply(one_more[None], table[None], limit, iou, 0.0)[:, 2]
    # It chooses class by class. Rows came best first, so their numbers in order are the order of the scores, ties
    # included; missing ones point to an appended row of zeros.
    missing = torch.full((limit,), len(boxes), dtype=chosen.dtype, device=chosen.device)
    rows = torch.cat([chosen, missing]).topk(limit, largest=False, sorted=True).values.reshape(limit)
    boxes, labels, scores = (torch.cat([x, x.new_zeros(1, *x.shape[1:])])[rows] for x in (boxes, labels, scores))
    return boxes, labels, scores


def suppress_ascend(
    boxes: Tensor, labels: Tensor, scores: Tensor, one_more: Tensor, table: Tensor, limit: int, iou: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By Ascend's operator, which gives no rows but boxes and scores in half precision, padded with zeros."""
    count = len(boxes)
    candidates = one_more.reshape(1, count, 1, 4).half(), table.t().reshape(1, count, len(table)).half()
    kept, scores, classes, _ = BatchMultiClassNMS.apply(*candidates, 0.0, iou, limit, limit)
    boxes = kept.float().reshape(limit, 4) - boxes.new_tensor(ONE_MORE)
    return boxes.clamp(min=0), classes.reshape(limit).int() + 1, scores.float().reshape(limit)
