"""What the numbers of outputs tell: which rows are cells of a grid, what form boxes have, what scores are."""

from typing import NamedTuple

import numpy as np

from detport import boxes as boxlib
from detport import grids

FORMS = ("xyxy", "cxcywh", "yxyx", "xywh")  # of boxes, the usual first
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (8, 16, 32, 64, 128), (4, 8, 16, 32), (16, 32), (8,), (16,), (32,), (4,))
ANCHORS = (1, 3, 2, 4, 5, 6, 9)  # of a cell, the usual first
ALIKE = 0.8  # correlation of boxes' centres with the grid that they come from
NEARLY_ALL = 0.98
ENOUGH = 5  # rows that tell a form
NORMALISED = 2.0  # no box in pixels is so small that all its numbers are below
CAFFES = 7  # columns of the table that its DetectionOutput makes
SLACK = 1e-3  # of probabilities in a device's arithmetic


class Output(NamedTuple):
    """An output of some runs, without the axis of the batch."""

    name: str
    arrays: list[np.ndarray]
    integers: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays[0].shape

    @property
    def varies(self) -> bool:
        """Whether runs gave it other shapes, as the number of detections does."""
        return len({each.shape for each in self.arrays}) > 1

    def rows(self) -> np.ndarray:
        """All runs below each other, as [rows, numbers]."""
        return np.concatenate([each.reshape(-1, each.shape[-1]) for each in self.arrays]).astype(np.float64)

    def numbers(self) -> np.ndarray:
        """All numbers of all runs in a row."""
        return np.concatenate([each.reshape(-1) for each in self.arrays]).astype(np.float64)


class Grid(NamedTuple):
    """The cells that rows are of: strides, and anchors of a cell."""

    strides: tuple[int, ...]
    anchors: int

    def centres(self, canvas: tuple[int, int], anchor_first: bool) -> np.ndarray:
        """Middles of the cells [N, 2] in pixels of the input, and their strides as a third column."""
        sizes = tuple((*size, self.anchors) for size in grids.sizes(canvas, list(self.strides)))
        level, x, y, _ = grids.places(sizes, anchor_first)
        stride = np.array(self.strides, np.float64)[level]
        return np.stack([(x + 0.5) * stride, (y + 0.5) * stride, stride], axis=1)


def outputs(runs: list[dict[str, np.ndarray]]) -> list[Output]:
    """The outputs of one run or several."""
    return [
        Output(name, [without_batch(run[name]) for run in runs], first.dtype.kind in "iu")
        for name, first in runs[0].items()
    ]


def without_batch(array: np.ndarray) -> np.ndarray:
    """An array without the axis of the batch, and without the second of such an axis that Caffe's tables have."""
    if array.ndim == 4 and array.shape[:2] == (1, 1) and array.shape[3] == CAFFES:
        return array[0, 0]
    return array[0] if array.ndim > 2 and array.shape[0] == 1 else array


def grid_of(rows: int, canvas: tuple[int, int], most: int = max(ANCHORS)) -> Grid | None:
    """The grid that has so many rows."""
    for anchors in ANCHORS:
        for strides in STRIDES if anchors <= most else ():
            if anchors * sum(h * w for h, w in grids.sizes(canvas, list(strides))) == rows and rows > 1:
                return Grid(strides, anchors)
    return None


def form_on_grid(boxes: np.ndarray, grid: Grid, canvas: tuple[int, int]) -> str | None:
    """The form in which boxes [N, 4] lie where their cells are, whatever their unit; None if they do in no form."""
    best, form = ALIKE, None
    spread = boxes.std(axis=0)
    if not np.isfinite(boxes).all() or spread[:2].min() == 0:
        return None
    for anchor_first in (False, True) if grid.anchors > 1 else (False,):
        cells = grid.centres(canvas, anchor_first)
        for each in FORMS:
            corners = boxlib.to_corners(boxes, each)
            middles = (corners[:, :2] + corners[:, 2:]) / 2
            alike = min(np.corrcoef(middles[:, i], cells[:, i])[0, 1] for i in (0, 1))
            sides = corners[:, 2:] - corners[:, :2]
            if alike > best + SLACK and (sides >= 0).mean() > NEARLY_ALL:
                best, form = alike, each
    return form


def forms_apart(boxes: np.ndarray, canvas: tuple[int, int], normalised: bool) -> list[str]:
    """The forms that boxes [N, 4] without a grid can have, the likeliest first."""
    height, width = (1, 1) if normalised else canvas
    if len(boxes) < ENOUGH:
        return list(FORMS)
    fitting = []
    for form in FORMS:
        corners = boxlib.to_corners(boxes, form)
        sides = corners[:, 2:] - corners[:, :2]
        far = np.array([width, height] * 2) * 0.1  # boxes may reach over the borders a little
        inside = (corners >= -far) & (corners <= np.array([width, height] * 2) + far)
        if (sides >= 0).all(axis=1).mean() > NEARLY_ALL and inside.all(axis=1).mean() > 0.9:
            fitting.append(form)
    return fitting or list(FORMS)


def coordinates(boxes: np.ndarray) -> str:
    """Whether boxes are in pixels or fractions."""
    return "normalised" if boxes.size and np.abs(boxes).max() <= NORMALISED else "pixels"


def are_probabilities(values: np.ndarray) -> bool:
    return bool(values.size == 0 or (values.min() >= -SLACK and values.max() <= 1 + SLACK))


def are_whole(values: np.ndarray) -> bool:
    return bool((values == np.trunc(values)).all() and (values >= -1).all())


def sum_to_one(table: np.ndarray) -> bool:
    """Whether the rows went through a softmax."""
    return table.shape[1] > 1 and bool(np.abs(table.sum(axis=1) - 1).max() < 0.01)


def background(table: np.ndarray) -> str:
    """Which class of rows after a softmax is none of an object: the one that nearly all rows are of."""
    means = table.mean(axis=0)
    if means[0] > 0.5:
        return "first"
    return "last" if means[-1] > 0.5 else "none"


def are_sorted(values: np.ndarray) -> bool:
    """Whether scores fall, as they leave a selection of the best."""
    return bool((np.diff(values) <= SLACK).all())
