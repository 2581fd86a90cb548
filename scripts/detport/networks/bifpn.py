"""BiFPN (Tan, Pang, Le 2020): a pyramid P3..P7 that is merged top-down and bottom-up, several times over.

Module names are those of the published checkpoints: resample.3, cell.C.fnode.N.{combine, after_combine}.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport.efficientdet import STRIDES
from detport.networks.efficientnet import SameConv, norm, same_padding

LEVELS = len(STRIDES)
# The nodes of a cell: the level that each makes (0 = P3) and its inputs in the order of the sum. Inputs 0..4 are
# the cell's own P3..P7, input 5 + n is node n. The first three go down to P4, the last five are the cell's outputs.
NODES = (
    (3, (3, 4)),
    (2, (2, 5)),
    (1, (1, 6)),
    (0, (0, 7)),
    (1, (1, 7, 8)),
    (2, (2, 6, 9)),
    (3, (3, 5, 10)),
    (4, (4, 11)),
)
POOL = {"kernel_size": 3, "stride": 2}
EDGE_EPSILON = 1e-4  # keeps the sum of a node's weights from zero


class BiFPN(nn.Module):
    """P3..P7 of one width from C3, C4, C5 of the given widths.

    `combine` is `sum`, or `fastattn` for learned, normalised weights of a node's inputs.
    """

    def __init__(self, widths: list[int], channels: int, cells: int, combine: str) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"3": projection(widths[-1], channels)})
        self.cell = nn.Sequential()
        inputs = [*widths, channels, channels]
        for _ in range(cells):
            self.cell.append(Cell(inputs, channels, combine))
            inputs = [channels] * LEVELS

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return self.cell(self.extend(features))

    def extend(self, features: list[Tensor]) -> list[Tensor]:
        """C3, C4, C5 and, pooled from C5, the inputs of P6 and P7."""
        p6 = down(self.resample["3"](features[-1]))
        return [*features, p6, down(p6)]


class Cell(nn.Module):
    def __init__(self, inputs: list[int], channels: int, combine: str) -> None:
        super().__init__()
        widths = inputs + [channels] * len(NODES)
        self.fnode = nn.ModuleList()
        for _, sources in NODES:
            node = named(
                combine=Combine(sources, widths, channels, combine),
                activation=nn.SiLU(),
                after_combine=named(conv=SeparableConv(channels, channels, with_norm=True)),
            )
            self.fnode.append(node)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        known = list(levels)
        for node in self.fnode:
            known.append(node(known))
        return known[-LEVELS:]


class Combine(nn.Module):
    """Brings a node's inputs to its width and level, and adds them."""

    def __init__(self, sources: tuple[int, ...], widths: list[int], channels: int, combine: str) -> None:
        super().__init__()
        self.sources = sources
        self.resample = nn.ModuleDict({str(i): projection(widths[i], channels) for i in sources})
        self.edge_weights = nn.Parameter(torch.ones(len(sources))) if combine == "fastattn" else None

    def forward(self, known: list[Tensor]) -> Tensor:
        target = level_of(len(known))
        parts = [to_level(self.resample[str(i)](known[i]), level_of(i), target) for i in self.sources]
        if self.edge_weights is not None:
            weights = F.relu(self.edge_weights)
            weights = weights / (weights.sum() + EDGE_EPSILON)
            parts = [part * weights[i] for i, part in enumerate(parts)]
        return sum(parts[1:], start=parts[0])


class SeparableConv(nn.Module):
    """Depthwise 3x3 and 1x1 with bias, in the published models followed by a norm inside the BiFPN only."""

    def __init__(self, inputs: int, outputs: int, with_norm: bool = False) -> None:
        super().__init__()
        self.conv_dw = SameConv(inputs, inputs, 3, groups=inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1)
        self.bn = norm(outputs) if with_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv_pw(self.conv_dw(x)))


def named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def projection(inputs: int, channels: int) -> nn.Module:
    """1x1 convolution (its bias is redundant, but in the checkpoints) and norm, only where the width changes."""
    if inputs == channels:
        return nn.Identity()
    return named(conv=named(conv=nn.Conv2d(inputs, channels, 1), bn=norm(channels)))


def level_of(index: int) -> int:
    """Level of a cell's input or node, 0 = P3."""
    return index if index < LEVELS else NODES[index - LEVELS][0]


def to_level(x: Tensor, source: int, target: int) -> Tensor:
    if source == target:
        return x
    return up(x) if source > target else down(x)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def down(x: Tensor) -> Tensor:
    """3x3 maximum with stride 2; cells outside count as -inf, since x has both signs."""
    before, after = same_padding(POOL["kernel_size"], POOL["stride"])
    padded = F.pad(x, (before, after, before, after), value=float("-inf"))
    return F.max_pool2d(padded, **POOL)
