"""Anchors with deltas of their centre and sides: SSD, RetinaNet."""

import numpy as np

from detport import grids, scored
from detport.boxes import from_deltas

NEEDS = ("width", "height", "canvas", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best score first."""

    def corners(numbers: np.ndarray, rows: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        return anchor_boxes(numbers, grids.cells(options, canvas, rows), options)

    return scored.decode(outputs, image, options, categories, corners)


def anchor_boxes(numbers: np.ndarray, cells: grids.Cells, options: dict) -> np.ndarray:
    """Boxes x1 y1 x2 y2 in network pixels from the deltas of anchors."""
    deltas = numbers[:, [1, 0, 3, 2]] if options["deltas"] == "yxhw" else numbers
    deltas = deltas * np.float32(options["variances"])
    if options["largest_log"] is not None:
        deltas[:, 2:] = np.minimum(deltas[:, 2:], np.float32(options["largest_log"]))
    centres = (cells.corner + np.float32(options["point"])) * cells.stride[:, None]
    return from_deltas(deltas, centres, cells.anchor)
