"""Cells of the maps that a network predicts from: their sizes, and the place of every row of its outputs on them."""

import functools
import math
from typing import NamedTuple

import numpy as np

from detport.errors import UsageError

ROUNDING = 1e-6  # a stride such as 320 / 3 has 3 cells, not 4 for the last digit of a float


class Cells(NamedTuple):
    """Parallel arrays, an element for each row: level, upper left corner [N, 2] in strides, stride and anchor [N, 2] in
    pixels of the network input. Without anchors it is the stride."""

    level: np.ndarray
    corner: np.ndarray
    stride: np.ndarray
    anchor: np.ndarray


def sizes(canvas: tuple[int, int], strides: list[float]) -> list[tuple[int, int]]:
    """Rows and columns of every level; a cell that the canvas cuts counts."""
    height, width = canvas
    return [(math.ceil(height / stride - ROUNDING), math.ceil(width / stride - ROUNDING)) for stride in strides]


def anchors(options: dict) -> list[list[list[float]]]:
    """Width and height in pixels of the anchors of a cell, for every level; one list is that of all levels."""
    declared, strides = options.get("anchors") or [], options["strides"]
    if not declared:
        return [[[stride, stride]] for stride in strides]
    each = declared * len(strides) if len(declared) == 1 else declared
    if len(each) != len(strides):
        raise UsageError(
            f"decode.anchors: has {len(declared)} lists for {len(strides)} strides; give one for each, or one for all"
        )
    units = strides if options["anchors_in"] == "strides" else [1] * len(strides)
    return [[[w * unit, h * unit] for w, h in level] for level, unit in zip(each, units, strict=True)]


def levels(options: dict, canvas: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """Rows, columns and anchors of a cell of every level."""
    found = zip(sizes(canvas, options["strides"]), anchors(options), strict=True)
    return tuple((*size, len(level)) for size, level in found)


def cells(options: dict, canvas: tuple[int, int], rows: np.ndarray) -> Cells:
    """The cells of some rows of the outputs."""
    level, x, y, anchor = places(levels(options, canvas), options.get("rows_by") == "anchor")[:, rows]
    most = max(len(each) for each in anchors(options))
    table = np.float32([each + [[0, 0]] * (most - len(each)) for each in anchors(options)])
    return Cells(
        level, np.stack([x, y], axis=1).astype(np.float32), np.float32(options["strides"])[level], table[level, anchor]
    )


@functools.lru_cache(maxsize=8)
def places(levels: tuple[tuple[int, int, int], ...], anchor_first: bool) -> np.ndarray:
    """Level, column, row and anchor [4, N] of all rows of the outputs, in their order.

    Level by level and cell by cell, the anchors of a cell together; with `anchor_first` the whole map of one anchor
    after the other.
    """
    parts = []
    for level, (height, width, count) in enumerate(levels):
        if anchor_first:
            anchor, y, x = np.indices((count, height, width)).reshape(3, -1)
        else:
            y, x, anchor = np.indices((height, width, count)).reshape(3, -1)
        parts.append(np.stack([np.full(x.size, level), x, y, anchor]))
    return np.concatenate(parts, axis=1)
