"""Points with distances to the sides of a box, FCOS, RTMDet, or distributions of them, GFL, NanoDet, raw YOLOv8."""

import numpy as np

from detport import grids, scored
from detport.activations import softmax

NEEDS = ("width", "height", "canvas", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best score first."""

    def corners(numbers: np.ndarray, rows: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        return point_boxes(numbers, grids.cells(options, canvas, rows), options)

    return scored.decode(outputs, image, options, categories, corners)


def point_boxes(numbers: np.ndarray, cells: grids.Cells, options: dict) -> np.ndarray:
    """Boxes x1 y1 x2 y2 in network pixels from the distances left, top, right, bottom of a point in every cell.

    With `bins` a distance is the mean of 0, 1, 2, ... under the softmax of so many numbers.
    """
    if options["bins"]:
        numbers = softmax(numbers.reshape(-1, 4, options["bins"])) @ np.arange(options["bins"], dtype=np.float32)
    stride = cells.stride[:, None]
    distances = numbers * stride if options["distances_in"] == "strides" else numbers
    points = (cells.corner + np.float32(options["point"])) * stride
    return np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
