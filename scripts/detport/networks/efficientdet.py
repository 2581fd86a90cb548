"""EfficientDet (Tan, Pang, Le 2020), D0..D7 and narrower ones: EfficientNet, BiFPN, two heads shared by P3..P7.

Image R, G, B, normalised. The network ends in logits and box codes; boxes are the decoder's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport.efficientdet import ANCHORS, CODES, STRIDES, anchor_count
from detport.errors import UsageError
from detport.networks.bifpn import LEVELS, BiFPN, SeparableConv, named
from detport.networks.blocks import nothing, per_anchor
from detport.networks.efficientnet import EfficientNet, norm


def build(options: dict, canvas: tuple[int, int], flavour: str = "standard") -> nn.Module:
    """The network for one canvas (H, W). Both flavours are one graph: all its operators are standard.

    Option `contract`: `compact` selects the best (anchor, class) pairs inside the graph, `raw` is all ten maps.
    """
    height, width = canvas
    if height % STRIDES[-1] or width % STRIDES[-1]:
        raise UsageError(
            f"input {height}x{width}: both sides of EfficientDet's input must be multiples of {STRIDES[-1]}"
        )
    return EfficientDet(anchor_count(height, width), **options)


class EfficientDet(nn.Module):
    def __init__(
        self,
        anchor_count: int,
        contract: str,
        width: float,
        depth: float,
        channels: int,
        cells: int,
        combine: str,
        repeats: int,
        classes: int,
        candidates: int,
    ) -> None:
        super().__init__()
        self.backbone = EfficientNet(width, depth)
        self.fpn = BiFPN(self.backbone.widths, channels, cells, combine)
        self.class_net = Head(channels, ANCHORS * classes, repeats)
        self.box_net = Head(channels, ANCHORS * CODES, repeats)
        self.compact = contract == "compact"
        self.classes = classes
        self.best_anchors = min(candidates, anchor_count)
        self.best_pairs = min(candidates, anchor_count * classes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """compact: logits [1, K] (descending), box codes [1, K, 4], flat index [1, K] int32.
        raw: class maps [1, A*classes, H, W] of P3..P7, then box maps [1, A*4, H, W] of P3..P7."""
        levels = self.fpn(self.backbone(image))
        logits, codes = self.class_net(levels), self.box_net(levels)
        return self.select(logits, codes) if self.compact else (*logits, *codes)

    def select(self, logits: list[Tensor], codes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The best (anchor, class) pairs of all levels: logits, box codes, index = anchor * classes + class.

        The pairs are among those of the anchors whose best class is best: a pair of any other anchor has as many
        better ones before it as there are candidates. So nothing has to sort all pairs (39.8 million in D7). The index
        stays an integer on its way; float32 has gaps beyond 2^24.
        """
        scores = torch.cat([per_anchor(x, self.classes) for x in logits])
        boxes = torch.cat([per_anchor(x, CODES) for x in codes])
        best, _ = scores.max(dim=1)
        anchor = best.topk(self.best_anchors)[1]
        classes = torch.arange(self.classes, dtype=torch.int32, device=anchor.device)
        pairs = anchor.int()[:, None] * self.classes + classes
        scores, place = scores[anchor].flatten().topk(self.best_pairs)
        # Box codes are repeated for every class, so that no index has to be divided.
        owners = boxes[anchor].repeat(1, self.classes).reshape(-1, CODES)
        scores = scores + nothing([*logits, *codes])
        return scores[None], owners[place][None], pairs.flatten()[place][None]


class Head(nn.Module):
    """Separable convolutions that all levels share, with norms that they don't."""

    def __init__(self, channels: int, outputs: int, repeats: int) -> None:
        super().__init__()
        self.conv_rep = nn.ModuleList(SeparableConv(channels, channels) for _ in range(repeats))
        self.bn_rep = nn.ModuleList(
            nn.ModuleList(named(bn=norm(channels)) for _ in range(LEVELS)) for _ in range(repeats)
        )
        self.predict = SeparableConv(channels, outputs)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return [self.level(x, i) for i, x in enumerate(levels)]

    def level(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.conv_rep, self.bn_rep, strict=True):
            x = F.silu(norms[level](conv(x)))
        return self.predict(x)
