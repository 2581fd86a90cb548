"""Masks: of each box or from prototypes, pasted into the image; run-length encoding."""

import math

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from detport import canvases
from detport.activations import sigmoid

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


def add(
    results: list[dict],
    output: np.ndarray,
    rows: np.ndarray,
    coefficients: np.ndarray | None,
    boxes: np.ndarray,
    image: dict,
    settings: dict,
) -> None:
    """Give detections their masks; `boxes` are theirs in the original image, `rows` theirs in the outputs.

    The output holds a map for each row, that fills its box (form: boxes) or the network input (canvas); or prototypes,
    which a row mixes by its coefficients.
    """
    maps = np.asarray(output, np.float32).reshape(-1, *output.shape[-2:])
    for i, result in enumerate(results):
        if settings["form"] == "prototypes":
            own = (coefficients[rows[i]] @ maps.reshape(len(maps), -1)).reshape(maps.shape[1:])
        else:
            own = maps[rows[i]]
        if settings["activation"] == "sigmoid":
            own = sigmoid(own)
        if settings["form"] == "boxes":
            mask = paste(own, boxes[i], image["width"], image["height"], settings["threshold"])
        else:
            mask = (enlarge(own, image) > settings["threshold"]).astype(np.uint8)
        result["segmentation"] = encode(crop(mask, boxes[i]) if settings["form"] == "prototypes" else mask)


def enlarge(mask: np.ndarray, image: dict) -> np.ndarray:
    """A map of the whole network input as one of the original image [height, width].

    Padding is cut off in whole cells of the map, a half of one belongs to the image; published figures hold that.
    """
    (height, width), scale = canvases.size_of(image), np.broadcast_to(image["scale"], 2).tolist()
    rows = placed(mask.shape[0], image.get("top", 0), image["height"] * scale[1], height)
    columns = placed(mask.shape[1], image.get("left", 0), image["width"] * scale[0], width)
    return cv2.resize(mask[rows][:, columns], (image["width"], image["height"]), interpolation=cv2.INTER_LINEAR)


def placed(cells: int, before: float, length: float, canvas: int) -> np.ndarray:
    """The cells of a map on which the image lies along one axis; its border repeats where the image goes beyond it."""
    start = round(before * cells / canvas - 0.1)
    end = cells - round((canvas - before - length) * cells / canvas + 0.1)
    return np.arange(start, max(end, start + 1)).clip(0, cells - 1)


def crop(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Zero outside the box: a pixel is inside from x1 to below x2."""
    x1, y1, x2, y2 = (max(math.ceil(side), 0) for side in box)
    inside = np.zeros_like(mask)
    inside[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return inside
