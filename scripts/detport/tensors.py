"""From an image file to the network's input, as the model's `preprocess` section describes it: order of the channels,
arithmetic, memory layout."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detport import inputs
from detport.images import decode
from detport.placing import place


def preprocess(path: Path, model: dict, size: tuple[int, int] | None = None) -> tuple[np.ndarray, dict]:
    """The input of an image, and how its pixels got there (for shard.json): the tensor or, where the compiled model
    normalises, the pixels [H, W, 3]."""
    pixels = decode(path, model["preprocess"]["decoder"], size)
    return to_pixels(pixels, model) if model["input"].get("on_device") else to_tensor(pixels, model)


def tables(settings: dict) -> np.ndarray:
    """(value / divide_by - mean) / std of all 256 values per channel, in the given precision, rounded once to float32.

    Looking values up is exact and twice as fast as computing them for every pixel.
    """
    precision = np.dtype(settings["arithmetic"])
    values = np.arange(256, dtype=precision) / precision.type(settings["divide_by"])
    mean, std = (np.array(settings[key], dtype=precision)[:, None] for key in ("mean", "std"))
    return ((values - mean) / std).astype(np.float32)


def in_order(pixels: np.ndarray, settings: dict) -> np.ndarray:
    """The channels of RGB uint8 [H, W, 3] in the tensor's order; a grey image is [H, W]."""
    if settings["channels"] == "grey":
        if settings["decoder"] == "pillow":
            return np.asarray(Image.fromarray(pixels).convert("L"))
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return pixels[:, :, ::-1] if settings["channels"] == "BGR" else pixels


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
    values = tables(settings)
    pixels = in_order(pixels, settings)
    padding, border = [0.0] * len(values), [0.0] * len(values)
    if settings["fill"] is not None:
        border = fill_colour(settings, len(values))
        padding = [table[grey] for table, grey in zip(values, border, strict=True)]
    early = settings["normalise"] == "before_resize"
    if early:
        border = [float(value) for value in padding]
        numbers = [table[plane] for table, plane in zip(values, planes(pixels), strict=True)]
        pixels = np.stack(numbers, axis=2) if len(numbers) > 1 else numbers[0]
    placed, placement = place(pixels, model, border)
    axes = layout.replace("N", "")
    tensor = np.zeros(inputs.shape(model["input"], axes, (placed.height, placed.width)), kind)
    channels = tensor if axes == "CHW" else tensor.transpose(2, 0, 1)
    new_h, new_w = placed.pixels.shape[:2]
    area = slice(placed.top, placed.top + new_h), slice(placed.left, placed.left + new_w)
    for channel, table, plane, pad in zip(channels, values.astype(kind), planes(placed.pixels), padding, strict=True):
        if pad:
            channel[:] = pad
        channel[area] = plane if early else table[plane]
    return tensor, placement


def to_pixels(pixels: np.ndarray, model: dict) -> tuple[np.ndarray, dict]:
    """The canvas [H, W, 3], RGB uint8, for a model that normalises by itself, and where the image is on it."""
    colour = padding_colour(model["preprocess"])
    placed, placement = place(pixels, model, colour)
    canvas = np.empty((placed.height, placed.width, 3), np.uint8)
    canvas[:] = colour
    new_h, new_w = placed.pixels.shape[:2]
    canvas[placed.top : placed.top + new_h, placed.left : placed.left + new_w] = placed.pixels
    return canvas, placement


def padding_colour(settings: dict) -> list[int]:
    """RGB around the image. Without `fill` the nearest to the mean, which is not quite zero normalised."""
    mean = [round(mean) for mean in settings["mean"]]
    colour = mean if settings["fill"] is None else fill_colour(settings, len(mean))
    return colour[::-1] if settings["channels"] == "BGR" else colour
