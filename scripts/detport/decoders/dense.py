"""Boxes that the graph has decoded, with scores of all classes: YOLO from v5 on, PP-YOLOE, YOLO-NAS, DETR's queries."""

import numpy as np

from detport import boxes as boxlib
from detport import scored

NEEDS = ("width", "height", "canvas", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best score first."""

    def corners(boxes: np.ndarray, _: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        boxes = boxlib.to_corners(boxes, options["box"])
        return boxlib.to_pixels(boxes, canvas) if options["coordinates"] == "normalised" else boxes

    return scored.decode(outputs, image, options, categories, corners)
