"""Detections of a network that ends in NMS: `dets` (x1 y1 x2 y2 score, canvas pixels) and `labels`."""

import numpy as np

from detport.boxes import to_original
from detport.errors import Failure


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, class by class and in the network's order within a class.

    Rows of zeros after the last detection and the label after the last category (the network has a redundant class)
    are dropped. Boxes are not clipped: the published accuracy was measured without.
    """
    dets = np.asarray(outputs["dets"], np.float32).reshape(-1, 5)
    labels = np.asarray(outputs["labels"]).reshape(-1).astype(np.int64)
    found = labels[dets[:, 4] > 0]
    if found.size and not 0 <= found.min() <= found.max() <= len(categories):
        raise Failure(
            f"{image.get('file', image['image_id'])!r}: labels run from {found.min()} to {found.max()}, but"
            f" decode.categories has {len(categories)}; correct it, or the order of outputs"
        )
    valid = (dets[:, 4] > 0) & (labels < len(categories))
    dets, labels = dets[valid], labels[valid]
    # In float32, the original's precision; then float64, so that x + w gives the corner back.
    boxes = to_original(dets[:, :4], image).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image_id": image["image_id"],
            "category_id": categories[labels[row]],
            "bbox": boxes[row].tolist(),
            "score": float(dets[row, 4]),
        }
        for row in np.argsort(labels, kind="stable")
    ]
