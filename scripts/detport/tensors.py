"""From an image file to the network's input, as the model's `preprocess` section describes it: order of the channels,
arithmetic, memory layout."""

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detport import images, inputs
from detport.files import reserve
from detport.images import Pixels
from detport.placing import Placed, place


def preprocess(
    path: Path, model: dict, size: tuple[int, int] | None = None, digest: str | None = None
) -> tuple[np.ndarray, dict]:
    """The input of an image, and how its pixels got there (for shard.json): the tensor or, where the compiled model
    normalises, the pixels [H, W, 3]. `digest` is that of images.picture."""
    pixels, turned = images.picture(path, model["preprocess"]["decoder"], size, digest)
    tensor, placement = (to_pixels if model["input"].get("on_device") else to_tensor)(pixels, model)
    return tensor, placement | ({"turned": True} if turned else {})


def tables(settings: dict) -> np.ndarray:
    """(value / divide_by - mean) / std of all 256 values per channel, in the given precision, rounded once to float32.

    Looking values up is exact, and faster than computing them for every pixel.
    """
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    return tables_of(np.dtype(settings["arithmetic"]), settings["divide_by"], mean, std)


@functools.lru_cache(maxsize=1)  # of the model that a stage works for
def tables_of(precision: np.dtype, divide_by: float, means: tuple, stds: tuple) -> np.ndarray:
    values = np.arange(256, dtype=precision) / precision.type(divide_by)
    mean, std = (np.array(each, dtype=precision)[:, None] for each in (means, stds))
    return ((values - mean) / std).astype(np.float32)


def grey(pixels: Pixels, decoder: str) -> Pixels:
    """The brightness [H, W] of RGB, as the decoder's library weighs the colours."""
    if decoder == "pillow":
        return (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).convert("L")
    return cv2.cvtColor(np.asarray(pixels), cv2.COLOR_RGB2GRAY)


def planes(pixels: Pixels) -> Sequence[np.ndarray]:
    """The channels one by one."""
    if isinstance(pixels, np.ndarray):
        return cv2.split(pixels)
    width, height = pixels.size
    bands = (pixels.tobytes("raw", band) for band in pixels.getbands())
    return [np.frombuffer(band, np.uint8).reshape(height, width) for band in bands]


def fill_colour(settings: dict, channels: int) -> list[int]:
    """The colour of the padding, a number per channel in the tensor's order."""
    fill = settings["fill"]
    return fill if isinstance(fill, list) else [fill] * channels


def to_tensor(pixels: Pixels, model: dict) -> tuple[np.ndarray, dict]:
    """The normalised tensor of RGB uint8 [H, W, 3], without its batch axis, and where the image is on it."""
    settings = model["preprocess"]
    kind, layout = inputs.form(model["input"])
    if settings["channels"] == "grey":
        pixels = grey(pixels, settings["decoder"])
    # Everything below is in the order of the pixels; for BGR it is the tensor that is looked at from behind.
    turn = slice(None, None, -1 if settings["channels"] == "BGR" else 1)
    values = tables(settings)[turn]
    padding = border = [0.0] * len(values)
    if settings["fill"] is not None:
        border = fill_colour(settings, len(values))[turn]
        padding = [float(table[level]) for table, level in zip(values, border, strict=True)]
    early = settings["normalise"] == "before_resize"
    if early:
        border = padding
        pixels = cv2.LUT(np.asarray(pixels), values.T[None] if len(values) > 1 else values[0])
    placed, placement = place(pixels, model, border)
    axes = layout.replace("N", "")
    tensor = np.empty(inputs.shape(model["input"], axes, (placed.height, placed.width)), kind)
    channels = (tensor if axes == "CHW" else tensor.transpose(2, 0, 1))[turn]
    for channel, table, plane, level in zip(channels, values.astype(kind), planes(placed.pixels), padding, strict=True):
        inside = frame(channel, placed, level)
        if early:
            inside[:] = plane
        else:
            look_up(table, plane, inside)
    return tensor, placement


def look_up(table: np.ndarray, plane: np.ndarray, into: np.ndarray) -> None:
    """Write the values of a plane's levels to a part of a tensor."""
    if into.strides[1] == into.itemsize:
        cv2.LUT(plane, table, into)
    else:  # OpenCV has no place for a column that is not beside the one before it
        into[:] = cv2.LUT(plane, table)


def frame(channel: np.ndarray, placed: Placed, padding: float) -> np.ndarray:
    """The part of a channel that the image covers, after the padding around it is written."""
    width, height = images.sides(placed.pixels)
    top, left = placed.top, placed.left
    bottom, right = top + height, left + width
    for area in (np.s_[:top], np.s_[bottom:], np.s_[top:bottom, :left], np.s_[top:bottom, right:]):
        channel[area] = padding
    return channel[top:bottom, left:right]


def to_pixels(pixels: Pixels, model: dict) -> tuple[np.ndarray, dict]:
    """The canvas [H, W, 3], RGB uint8, for a model that normalises by itself, and where the image is on it."""
    colour = padding_colour(model["preprocess"])
    placed, placement = place(pixels, model, colour)
    (width, height), top, left = images.sides(placed.pixels), placed.top, placed.left
    around = (top, placed.height - top - height, left, placed.width - left - width)
    return cv2.copyMakeBorder(np.asarray(placed.pixels), *around, cv2.BORDER_CONSTANT, value=colour), placement


def write(path: Path, tensor: np.ndarray, placement: dict, layout: str) -> None:
    """Write the .bin of a tensor. Zeros below the image are left out: a file has zeros where nothing was written, and
    these take neither time nor room on a disk."""
    axis = layout.replace("N", "").index("H")
    planes = tensor.reshape(-1, *tensor.shape[axis:])
    end = tensor.shape[axis] - max(int(placement["pad"][1]), 0)
    zeros = end < tensor.shape[axis] and not planes[:, end:].view(np.uint8).max()  # faster than any()
    parts = planes[:, :end] if zeros else tensor[None]
    with path.open("wb") as file:  # tofile hides why a write fails
        for start, part in zip(range(0, tensor.nbytes, tensor.nbytes // len(parts)), parts, strict=True):
            reserve(file, start, part.nbytes)
            file.seek(start)
            file.write(part)
        file.truncate(tensor.nbytes)


def padding_colour(settings: dict) -> list[int]:
    """RGB around the image. Without `fill` the nearest to the mean, which is not quite zero normalised."""
    mean = [round(mean) for mean in settings["mean"]]
    colour = mean if settings["fill"] is None else fill_colour(settings, len(mean))
    return colour[::-1] if settings["channels"] == "BGR" else colour
