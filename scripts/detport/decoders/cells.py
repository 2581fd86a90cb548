"""Cells with offsets of a centre and sizes: YOLOX, YOLOv3 to v7 with anchors, FastestDet."""

import numpy as np

from detport import grids, scored
from detport.activations import exp, sigmoid

NEEDS = ("width", "height", "canvas", "scale")
ACTIVATIONS = {"none": np.asarray, "sigmoid": sigmoid, "tanh": np.tanh}


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best score first."""

    def corners(numbers: np.ndarray, rows: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        return cell_boxes(numbers, grids.cells(options, canvas, rows), options, canvas)

    return scored.decode(outputs, image, options, categories, corners)


def cell_boxes(numbers: np.ndarray, cells: grids.Cells, options: dict, canvas: tuple[int, int]) -> np.ndarray:
    """Boxes x1 y1 x2 y2 in network pixels from tx, ty, tw, th.

    The centre is cell + scale * f(t) - (scale - 1) / 2 in strides. A side is exp(t) or (2 f(t))² times the anchor's, or
    f(t) times the canvas'.
    """
    spread = np.broadcast_to(np.float32(options["scale_x_y"]), len(options["strides"]))[cells.level, None]
    offsets = spread * ACTIVATIONS[options["centre"]](numbers[:, :2]) - (spread - 1) / 2
    centres = (offsets + cells.corner) * cells.stride[:, None]
    own = ACTIVATIONS[options["size_activation"]](numbers[:, 2:])
    if options["size"] == "exp":
        sides = exp(numbers[:, 2:]) * cells.anchor
    elif options["size"] == "square":
        sides = (2 * own) ** 2 * cells.anchor
    else:
        sides = own * np.float32(canvas[::-1])
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
