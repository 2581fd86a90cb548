"""From an image file to the network's input, as the model's `preprocess` section describes it: order of the channels,
arithmetic, memory layout."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detport import inputs
from detport.images import decode
from detport.placing import Placed, place


def preprocess(path: Path, model: dict, size: tuple[int, int] | None = None) -> tuple[np.ndarray, dict]:
    """The input of an image, and how its pixels got there (for shard.json): the tensor or, where the compiled model
    normalises, the pixels [H, W, 3]."""
    pixels = decode(path, model["preprocess"]["decoder"], size)
    return to_pixels(pixels, model) if model["input"].get("on_device") else to_tensor(pixels, model)


def tables(settings: dict) -> np.ndarray:
    """(value / divide_by - mean) / std of all 256 values per channel, in the given precision, rounded once to float32.

    Looking values up is exact, and faster than computing them for every pixel.
    """
    precision = np.dtype(settings["arithmetic"])
    values = np.arange(256, dtype=precision) / precision.type(settings["divide_by"])
    mean, std = (np.array(settings[key], dtype=precision)[:, None] for key in ("mean", "std"))
    return ((values - mean) / std).astype(np.float32)


def grey(pixels: np.ndarray, decoder: str) -> np.ndarray:
    """The brightness [H, W] of RGB uint8 [H, W, 3], as the decoder's library weighs the colours."""
    if decoder == "pillow":
        return np.asarray(Image.fromarray(pixels).convert("L"))
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def planes(pixels: np.ndarray) -> list[np.ndarray]:
    """The channels one by one."""
    return [pixels] if pixels.ndim == 2 else [pixels[:, :, channel] for channel in range(pixels.shape[2])]


def fill_colour(settings: dict, channels: int) -> list[int]:
    """The colour of the padding, a number per channel in the tensor's order."""
    fill = settings["fill"]
    return fill if isinstance(fill, list) else [fill] * channels


def to_tensor(pixels: np.ndarray, model: dict) -> tuple[np.ndarray, dict]:
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
        numbers = [table[plane] for table, plane in zip(values, planes(pixels), strict=True)]
        pixels = np.stack(numbers, axis=2) if len(numbers) > 1 else numbers[0]
    placed, placement = place(pixels, model, border)
    axes = layout.replace("N", "")
    tensor = np.empty(inputs.shape(model["input"], axes, (placed.height, placed.width)), kind)
    channels = (tensor if axes == "CHW" else tensor.transpose(2, 0, 1))[turn]
    for channel, table, plane, level in zip(channels, values.astype(kind), planes(placed.pixels), padding, strict=True):
        put(channel, plane if early else cv2.LUT(np.ascontiguousarray(plane), table), placed, level)
    return tensor, placement


def put(channel: np.ndarray, plane: np.ndarray, placed: Placed, padding: float) -> None:
    """Write a plane to its place on a channel, and the padding around it."""
    top, left = placed.top, placed.left
    bottom, right = top + plane.shape[0], left + plane.shape[1]
    channel[top:bottom, left:right] = plane
    for area in (np.s_[:top], np.s_[bottom:], np.s_[top:bottom, :left], np.s_[top:bottom, right:]):
        channel[area] = padding


def to_pixels(pixels: np.ndarray, model: dict) -> tuple[np.ndarray, dict]:
    """The canvas [H, W, 3], RGB uint8, for a model that normalises by itself, and where the image is on it."""
    colour = padding_colour(model["preprocess"])
    placed, placement = place(pixels, model, colour)
    canvas = np.empty((placed.height, placed.width, 3), np.uint8)
    for channel, plane, level in zip(planes(canvas), planes(placed.pixels), colour, strict=True):
        put(channel, plane, placed, level)
    return canvas, placement


def padding_colour(settings: dict) -> list[int]:
    """RGB around the image. Without `fill` the nearest to the mean, which is not quite zero normalised."""
    mean = [round(mean) for mean in settings["mean"]]
    colour = mean if settings["fill"] is None else fill_colour(settings, len(mean))
    return colour[::-1] if settings["channels"] == "BGR" else colour
