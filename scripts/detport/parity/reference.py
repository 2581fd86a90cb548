"""An independent reference of the preprocessing: the network's input in float64 from the words of a model's yaml.

It shares nothing with the code that makes shards. Pixels are kept in grey levels, and numbers are never rounded; so
the libraries' own rounding to 8 bits is what the two may differ by.
"""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from detport.parity import sampling_rules as rules

GREY = (0.299, 0.587, 0.114)  # what red, green and blue weigh
ORDERS = ((1, 0), (0, 1))  # of the axes
WARPS = ("warp_affine", "warp_perspective")


class Canvas(NamedTuple):
    """What the network should be given, in grey levels before the normalisation."""

    levels: np.ndarray  # [channels, height, width], in the tensor's order
    picture: np.ndarray  # bool [height, width]: where the image lies; the rest is padding


def decoded(path: Path, decoder: str) -> np.ndarray:
    """RGB [height, width, 3]. OpenCV turns an image as its EXIF says, Pillow does not."""
    if decoder == "opencv":
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.float64)
    image = Image.open(path)
    if image.mode.startswith("I;16"):  # 16 bits: the upper 8 count
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    return np.asarray(image.convert("RGB")).astype(np.float64)


def unknown(model: dict) -> str | None:
    """Why there is no reference for a yaml, if there is none."""
    resize = model["preprocess"]["resize"]
    if resize["by"] in WARPS and resize["interpolation"] in ("nearest", "lanczos"):
        return f"how OpenCV rounds positions in a {resize['by']} by {resize['interpolation']} is nowhere said"
    return None


def canvases(pixels: np.ndarray, model: dict) -> list[Canvas]:
    """The input of a decoded image as the yaml describes it, for either order of the two axes where that matters:
    Pillow begins with the one that it finds cheaper, and cuts off what overshoots in between."""
    resize = model["preprocess"]["resize"]
    overshoots = resize["library"] == "pillow" and resize["interpolation"] in ("cubic", "lanczos")
    return [canvas(pixels, model, order) for order in (ORDERS if overshoots else ORDERS[:1])]


def canvas(pixels: np.ndarray, model: dict, order: tuple[int, int]) -> Canvas:
    """The input for one order of the axes."""
    words, size = model["preprocess"], model["input"]
    colours = pixels @ np.array(GREY)[:, None] if words["channels"] == "grey" else pixels
    if words["channels"] == "BGR" and not size.get("on_device"):
        colours = colours[:, :, ::-1]
    return placed(colours, model, around(words, colours.shape[2], size.get("on_device", False)), order)


def around(words: dict, channels: int, on_device: bool) -> np.ndarray:
    """The level of the padding per channel: `fill`, or the mean, which is zero behind the normalisation. Pixels for a
    device are red first and whole."""
    fill, mean = words["fill"], np.array(words["mean"], np.float64) * words["divide_by"]
    if fill is None:
        levels = np.floor(mean + 0.5) if on_device else mean
    else:
        levels = np.broadcast_to(np.array(fill, np.float64), channels)
    return levels[::-1] if on_device and words["channels"] == "BGR" else levels


def placed(pixels: np.ndarray, model: dict, border: np.ndarray, order: tuple[int, int]) -> Canvas:
    """The image resized by its rule, at its place."""
    words, resize = model["preprocess"], model["preprocess"]["resize"]
    old_h, old_w = pixels.shape[:2]
    size = chosen(model["input"], old_w, old_h)
    (new_w, new_h), (x, y) = sides(old_w, old_h, resize, size)
    full_w, full_h = (full(new, size[key], model["input"]) for new, key in ((new_w, "width"), (new_h, "height")))
    if resize["by"] in WARPS:
        return warped(pixels, (x, y), (full_w, full_h), words, border)
    small = resized(pixels, (new_w, new_h), (x, y), resize, order)
    if words["normalise"] == "after_resize":
        small = small.clip(0, 255)
    left, top = corner(full_w - new_w, words["place"]), corner(full_h - new_h, words["place"])
    levels = np.empty((pixels.shape[2], full_h, full_w))
    levels[:] = border[:, None, None]
    picture = np.zeros((full_h, full_w), bool)
    rows, columns = slice(max(top, 0), min(top + new_h, full_h)), slice(max(left, 0), min(left + new_w, full_w))
    shown = small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    levels[:, rows, columns] = shown.transpose(2, 0, 1)
    picture[rows, columns] = True
    return Canvas(levels, picture)


def chosen(size: dict, width: int, height: int) -> dict:
    """The canvas on which the image is largest, the first of equals."""
    known = [size, *size["canvases"]]
    scales = [min(each["width"] / width, each["height"] / height) for each in known]
    return known[scales.index(max(scales))]


def sides(width: int, height: int, resize: dict, size: dict) -> tuple[tuple[int, int], tuple[float, float]]:
    """New width and height, and the factors of x and y that they come from."""
    room_w, room_h = size["width"], size["height"]
    if resize["rule"] == "stretch":
        return (room_w, room_h), (room_w / width, room_h / height)
    fitting = min(room_w / width, room_h / height)
    factor = fitting
    if resize["rule"] == "keep":
        factor = 1.0
    if resize["rule"] == "short_side":
        factor = resize["size"] / min(width, height)
    if resize["long_side"] is not None:
        factor = min(factor, resize["long_side"] / max(width, height))
    if not resize["enlarge"]:
        factor = min(factor, 1.0)
    new = rounded(width, height, factor, resize)
    if resize["rule"] != "fit" and resize["too_large"] == "fit" and (new[0] > room_w or new[1] > room_h):
        factor = fitting
        new = rounded(width, height, factor, resize)
    if resize["rule"] == "fit" or resize["too_large"] == "fit":
        new = (min(new[0], room_w), min(new[1], room_h))
    return new, (factor, factor)


def rounded(width: int, height: int, factor: float, resize: dict) -> tuple[int, int]:
    """Scaled sides in whole pixels, one at least. Told the factor, OpenCV rounds half to even."""
    how = "even" if by_factor(resize) else resize["rounding"]
    if how == "short_first":
        short = max(round(min(width, height) * factor), 1)
        long = math.trunc(short * max(width, height) / min(width, height))
        return (short, long) if width <= height else (long, short)
    whole = {"down": math.trunc, "nearest": lambda side: math.floor(side + 0.5), "even": round, "up": math.ceil}[how]
    return max(whole(width * factor), 1), max(whole(height * factor), 1)


def by_factor(resize: dict) -> bool:
    """Whether the library is told the factor, not the sides; the usual for short_side by OpenCV."""
    usual = resize["rule"] == "short_side" and resize["library"] == "opencv"
    return resize["by"] == "factor" or (resize["by"] is None and usual)


def full(new: int, room: int, size: dict) -> int:
    """Pixels of the tensor along a side: all the room, or the next multiple."""
    if not size["multiple"]:
        return room
    return min(-(-(new + size["margin"]) // size["multiple"]) * size["multiple"], room)


def corner(spare: int, place: str) -> int:
    """Where the image begins; of an odd number of spare pixels the larger half is behind it. Before 0 if it is cut,
    half to even."""
    if place == "top_left":
        return 0
    return spare // 2 if spare >= 0 else -round(-spare / 2)


def resized(
    pixels: np.ndarray, new: tuple[int, int], factors: tuple[float, float], resize: dict, order: tuple[int, int]
) -> np.ndarray:
    """The pixels in another size, one axis after the other."""
    old_h, old_w = pixels.shape[:2]
    kind = resize["interpolation"]
    if resize["library"] == "pillow":
        for axis in order:
            old, side = pixels.shape[axis], new[1 - axis]
            if old != side:
                pixels = rules.apply(pixels, rules.pillow(old, side, kind), axis)
            pixels = pixels.clip(0, 255)  # between its two passes Pillow holds 8 bits
        return pixels
    if kind == "area" and (new[0] > old_w or new[1] > old_h):
        kind = "linear"
    told = by_factor(resize) and (round(old_w * factors[0]), round(old_h * factors[1])) == new
    x, y = factors if told else (None, None)
    wide = rules.apply(pixels, rules.opencv(old_w, new[0], kind, x), 1)
    return rules.apply(wide, rules.opencv(old_h, new[1], kind, y), 0)


def warped(
    pixels: np.ndarray, factors: tuple[float, float], new: tuple[int, int], words: dict, border: np.ndarray
) -> Canvas:
    """The whole canvas in one step; around the image is the colour of the border, and the two blend between pixels."""
    kind, centred = words["resize"]["interpolation"], words["place"] == "centre"
    old = pixels.shape[1::-1]
    edged = np.empty((old[1] + 2, old[0] + 2, pixels.shape[2]))
    edged[:] = border
    edged[1:-1, 1:-1] = pixels
    levels = edged
    inside = []
    for axis, (side, room, factor) in enumerate(zip(old, new, factors, strict=True)):
        begin = room / 2 - factor * side / 2 if centred else 0.0
        taps = rules.warp(side, room, kind, factor, begin)
        levels = rules.apply(levels, taps, 1 - axis)
        inside.append(((taps.places > 0) & (taps.places <= side) & (taps.weights != 0)).any(axis=1))
    if words["normalise"] == "after_resize":
        levels = levels.clip(0, 255)
    return Canvas(levels.transpose(2, 0, 1), inside[1][:, None] & inside[0])
