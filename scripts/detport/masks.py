"""Masks: of each box or from prototypes, pasted into the image; run-length encoding."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from detport import canvases
from detport.activations import sigmoid
from detport.errors import UsageError

BORDER = 1  # zero pixels around a small mask before it is enlarged
FINER = (1, 2, 4)  # how many times as fine a map is made, so that padding can be cut off


def paste(mask: np.ndarray, box: np.ndarray, width: int, height: int, threshold: float) -> np.ndarray:
    """The image's binary mask [height, width] from probabilities [M, M] that fill `box` (x1 y1 x2 y2).

    The last row and column of the enlarged mask fall away (the end is exclusive). Published figures hold that.
    """
    side = mask.shape[0]
    scale = (side + 2 * BORDER) / side
    padded = cv2.copyMakeBorder(mask, *[BORDER] * 4, cv2.BORDER_CONSTANT, value=0)
    half_w, half_h = (box[2] - box[0]) / 2 * scale, (box[3] - box[1]) / 2 * scale
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    corners = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
    # Size and corners are rounded each by itself, half to even as Python does.
    enlarged_w = round(max(float(corners[2] - corners[0] + 1), 1.0))
    enlarged_h = round(max(float(corners[3] - corners[1] + 1), 1.0))
    x1, y1, x2, y2 = (round(float(corner)) for corner in corners)
    pasted = cv2.resize(padded, (enlarged_w, enlarged_h), interpolation=cv2.INTER_LINEAR) > threshold
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    image = np.zeros((height, width), np.uint8, order="F")  # column by column, as it is encoded
    if right > left and bottom > top:
        image[top:bottom, left:right] = pasted[top - y1 : bottom - y1, left - x1 : right - x1]
    return image


def encode(mask: np.ndarray) -> dict:
    """COCO's compressed run-length encoding, as text that JSON can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


class Source(NamedTuple):
    """What masks are made of: a map for each row of the outputs, or prototypes and the coefficients of rows."""

    maps: np.ndarray
    coefficients: np.ndarray | None
    settings: dict


def source(output: np.ndarray, coefficients: np.ndarray | None, count: int, settings: dict) -> Source:
    """The source of the masks of `count` rows, whose maps are an output."""
    maps = np.asarray(output, np.float32).reshape(-1, *output.shape[-2:])
    if settings["form"] == "prototypes":
        expected, wanted = coefficients.shape[1], f"{coefficients.shape[1]} coefficients of each row"
    else:
        expected, wanted, coefficients = count, f"{count} rows", None
    if len(maps) != expected:
        raise UsageError(f"decode.masks: the output {list(output.shape)} has {len(maps)} maps for {wanted}")
    return Source(maps, coefficients, settings)


def add(results: list[dict], masks: Source, rows: np.ndarray, boxes: np.ndarray, image: dict) -> None:
    """Give detections their masks; `rows` are theirs in the outputs, `boxes` theirs in the original image."""
    form, threshold = masks.settings["form"], masks.settings["threshold"]
    flat = masks.maps.reshape(len(masks.maps), -1)
    for result, row, box in zip(results, rows, boxes, strict=True):
        own = (
            masks.maps[row] if form != "prototypes" else (masks.coefficients[row] @ flat).reshape(masks.maps.shape[1:])
        )
        if masks.settings["activation"] == "sigmoid":
            own = sigmoid(own)
        if form == "boxes":
            mask = paste(own, box, image["width"], image["height"], threshold)
        else:
            mask = (enlarge(own, image) > threshold).astype(np.uint8)
        result["segmentation"] = encode(crop(mask, box) if form == "prototypes" else mask)


def enlarge(mask: np.ndarray, image: dict) -> np.ndarray:
    """A map of the whole network input as one of the original image [height, width].

    Cells are cut off where padding is. Where it ends inside of a cell the map is made 2 or 4 times as fine before.
    """
    (height, width), scale = canvases.size_of(image), np.broadcast_to(image["scale"], 2).tolist()
    rows = placed(image.get("top", 0), image["height"] * scale[1], height / mask.shape[0])
    columns = placed(image.get("left", 0), image["width"] * scale[0], width / mask.shape[1])
    ends = np.array([*rows, *columns])
    fineness = next((times for times in FINER if (ends * times == np.round(ends * times)).all()), FINER[-1])
    if fineness > 1:
        mask = cv2.resize(mask, None, fx=fineness, fy=fineness, interpolation=cv2.INTER_LINEAR)
    top, bottom, left, right = np.round(ends * fineness).astype(int)
    # The border repeats where an image goes beyond the canvas; a very flat image has at least one cell.
    rows = np.arange(top, max(bottom, top + 1)).clip(0, mask.shape[0] - 1)
    columns = np.arange(left, max(right, left + 1)).clip(0, mask.shape[1] - 1)
    return cv2.resize(mask[rows][:, columns], (image["width"], image["height"]), interpolation=cv2.INTER_LINEAR)


def placed(before: float, length: float, cell: float) -> tuple[float, float]:
    """Where an image begins and ends along one axis, in cells of a map; both are whole pixels of the network input."""
    start = round(before)
    return start / cell, (start + max(round(length), 1)) / cell


def crop(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Zero outside the box: a pixel is inside from x1 to below x2."""
    x1, y1, x2, y2 = (max(math.ceil(side), 0) for side in box)
    inside = np.zeros_like(mask)
    inside[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return inside
