"""EfficientNet (Tan, Le 2019) as a backbone, with TensorFlow's padding: the features C3, C4, C5.

Module names are those of the published checkpoints: conv_stem, bn1, blocks.STAGE.BLOCK.*.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

STEM = 32  # channels of the stem at width 1
STAGES = (  # repeats at depth 1, kernel, stride of the first block, channels at width 1, expansion
    (1, 3, 1, 16, 1),
    (2, 3, 2, 24, 6),
    (2, 5, 2, 40, 6),
    (3, 3, 2, 80, 6),
    (3, 5, 1, 112, 6),
    (4, 5, 2, 192, 6),
    (1, 3, 1, 320, 6),
)
FEATURES = (2, 4, 6)  # the stages that end in C3, C4, C5: strides 8, 16, 32
SQUEEZE = 4  # squeeze and excitation: a quarter of the block's input channels
NORM_EPSILON = 1e-3


class EfficientNet(nn.Module):
    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        channels = scaled(STEM, width)
        self.conv_stem = SameConv(3, channels, 3, stride=2)
        self.bn1 = norm(channels)
        self.blocks = nn.ModuleList()
        widths = []
        for repeats, kernel, stride, base, expansion in STAGES:
            inputs, channels = channels, scaled(base, width)
            repeats = math.ceil(repeats * depth)
            self.blocks.append(blocks(inputs, channels, repeats, kernel, stride, expansion))
            widths.append(channels)
        self.widths = [widths[i] for i in FEATURES]

    def forward(self, image: Tensor) -> list[Tensor]:
        """C3, C4, C5: linear outputs of their stages' last blocks, so they have both signs."""
        outputs = self.stages(self.stem(image))
        return [outputs[i] for i in FEATURES]

    def stem(self, image: Tensor) -> Tensor:
        return F.silu(self.bn1(self.conv_stem(image)))

    def stages(self, x: Tensor) -> list[Tensor]:
        """The output of every stage, from the stem's."""
        outputs = []
        for stage in self.blocks:
            x = stage(x)
            outputs.append(x)
        return outputs


def scaled(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8 that is not more than a tenth below."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


def same_padding(kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's 'same' padding (before, after) on an axis whose length n is a multiple of the stride.

    In general the total is (ceil(n / stride) - 1) * stride + kernel - n, the odd cell goes behind; with n a
    multiple of the stride that is kernel - stride for every n, so that a traced graph has constant pads.
    """
    total = max(kernel - stride, 0)
    return total // 2, total - total // 2


class SameConv(nn.Conv2d):
    """Convolution without bias and with 'same' padding, also where that is not symmetric."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        before, after = same_padding(kernel, stride)
        even = before == after
        super().__init__(inputs, outputs, kernel, stride, padding=before if even else 0, groups=groups, bias=False)
        self.uneven = None if even else (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.uneven is None else F.pad(x, self.uneven))


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate in 0..1 computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv_expand(F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class SeparableBlock(nn.Module):
    """Stage 0: depthwise, squeeze and excitation, 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv(inputs, inputs, kernel, stride, groups=inputs)
        self.bn1 = norm(inputs)
        self.se = SqueezeExcite(inputs, inputs // SQUEEZE)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = norm(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(F.silu(self.bn1(self.conv_dw(x))))
        y = self.bn2(self.conv_pw(y))
        return y + x if self.shortcut else y


class InvertedBlock(nn.Module):
    """MBConv: 1x1 expansion, depthwise, squeeze and excitation, linear 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = norm(middle)
        self.conv_dw = SameConv(middle, middle, kernel, stride, groups=middle)
        self.bn2 = norm(middle)
        self.se = SqueezeExcite(middle, inputs // SQUEEZE)
        self.conv_pwl = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.bn1(self.conv_pw(x)))
        y = self.se(F.silu(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.shortcut else y


def blocks(inputs: int, outputs: int, repeats: int, kernel: int, stride: int, expansion: int) -> nn.Sequential:
    """One stage: the stride is the first block's."""
    stage = nn.Sequential()
    for _ in range(repeats):
        if expansion == 1:
            stage.append(SeparableBlock(inputs, outputs, kernel, stride))
        else:
            stage.append(InvertedBlock(inputs, outputs, kernel, stride, expansion))
        inputs, stride = outputs, 1
    return stage
