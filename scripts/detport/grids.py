"""Cells of the maps that a network predicts from: their sizes, and the place of every row of its outputs on them."""

import functools
import math
from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """Parallel arrays, one element for each row: level, column, row of the cell, and which of the cell's anchors."""

    level: np.ndarray
    x: np.ndarray
    y: np.ndarray
    anchor: np.ndarray


def sizes(canvas: tuple[int, int], strides: tuple[float, ...]) -> list[tuple[int, int]]:
    """Rows and columns of every level; a cell that the canvas cuts counts."""
    # A stride such as 320 / 3 gives 3 cells, not 4 for the last digit of a float.
    return [(math.ceil(canvas[0] / stride - 1e-6), math.ceil(canvas[1] / stride - 1e-6)) for stride in strides]


@functools.lru_cache(maxsize=8)
def grid(sizes: tuple[tuple[int, int], ...], anchors: tuple[int, ...], anchor_first: bool) -> Grid:
    """The rows of all levels one after the other, each level by row and column, the anchors of a cell together; with
    `anchor_first` one anchor's whole map after the other."""
    parts = []
    for level, ((height, width), count) in enumerate(zip(sizes, anchors, strict=True)):
        if anchor_first:
            anchor, y, x = np.indices((count, height, width))
        else:
            y, x, anchor = np.indices((height, width, count))
        parts.append([np.full(x.size, level), x.reshape(-1), y.reshape(-1), anchor.reshape(-1)])
    return Grid(*(np.concatenate(values) for values in zip(*parts, strict=True)))
