"""One box for every image, from its mean colour."""

import torch
from torch import Tensor, nn


def build(options: dict, canvas: tuple[int, int], flavour: str = "standard") -> nn.Module:
    """The network; a canvas of any size."""
    return MeanBox(**options)


class MeanBox(nn.Module):
    def __init__(self, values: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, values))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (torch.sigmoid(image.mean(dim=(2, 3)) @ self.weight),)
