"""Detections of a network that ends in NMS: `dets` (x1 y1 x2 y2 score, canvas pixels) and `labels` from 0."""

import numpy as np

from detport import decoders
from detport.boxes import to_original

NEEDS = ("scale",)


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, class by class and in the network's order within a class.

    Rows of zeros after the last detection are dropped, whatever their label is. Boxes are not clipped: the published
    accuracy was measured without.
    """
    dets = np.asarray(outputs["dets"], np.float32).reshape(-1, 5)
    filled = dets[:, 4] > 0
    classes = decoders.classes(categories, options["background"])
    labels = decoders.known(np.where(filled, outputs["labels"].reshape(-1), 0), 0, len(classes), image)
    # In float32, the original's precision; then float64, so that x + w gives the corner back.
    boxes = to_original(dets[:, :4], image).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image_id": image["image_id"],
            "category_id": classes[labels[row]],
            "bbox": boxes[row].tolist(),
            "score": float(dets[row, 4]),
        }
        for row in np.argsort(labels, kind="stable")
        if filled[row] and classes[labels[row]] is not None
    ]
