"""Masks: pasting a small mask into the image, run-length encoding."""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

BORDER = 1  # zero pixels around a small mask before it is enlarged


def paste(mask: np.ndarray, box: np.ndarray, width: int, height: int, threshold: float) -> np.ndarray:
    """The image's binary mask [height, width] from probabilities [M, M] that fill `box` (x1 y1 x2 y2).

    The last row and column of the enlarged mask fall away (the end is exclusive). Published figures hold that.
    """
    side = mask.shape[0]
    scale = (side + 2 * BORDER) / side
    padded = np.pad(mask.astype(np.float32), BORDER)
    half_w, half_h = (box[2] - box[0]) / 2 * scale, (box[3] - box[1]) / 2 * scale
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    corners = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
    # Size and corners are rounded each by itself, half to even as Python does.
    enlarged_w = round(max(float(corners[2] - corners[0] + 1), 1.0))
    enlarged_h = round(max(float(corners[3] - corners[1] + 1), 1.0))
    x1, y1, x2, y2 = (round(float(corner)) for corner in corners)
    pasted = cv2.resize(padded, (enlarged_w, enlarged_h), interpolation=cv2.INTER_LINEAR) > threshold
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    image = np.zeros((height, width), np.uint8)
    if right > left and bottom > top:
        image[top:bottom, left:right] = pasted[top - y1 : bottom - y1, left - x1 : right - x1]
    return image


def encode(mask: np.ndarray) -> dict:
    """COCO's compressed run-length encoding, as text that JSON can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
