"""From an image file to the network's input, as the model's `preprocess` section describes it: order of the channels,
arithmetic, memory layout."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from detport import images, inputs, loops
from detport.files import reserve
from detport.images import Pixels
from detport.placing import Placed, place

BAND = 1 << 19  # bytes of a tensor that are made before they are written


class Painting(NamedTuple):
    """A tensor before it is made: the image on it, and what its numbers are."""

    placed: Placed
    planes: Sequence[np.ndarray]  # of the image, by the tensor's channels: levels, or numbers as they shall be
    tables: Sequence[np.ndarray | None]  # what levels are looked up in
    padding: list[float]  # around the image
    kind: np.dtype
    axes: str  # of the tensor, without that of the batch


def preprocess(
    path: Path, model: dict, size: tuple[int, int] | None = None, digest: str | None = None
) -> tuple[np.ndarray, dict]:
    """The input of an image, and how its pixels got there (for shard.json): the tensor or, where the compiled model
    normalises, the pixels [H, W, 3]. `digest` is that of images.picture."""
    pixels, turned = images.picture(path, model["preprocess"]["decoder"], size, digest)
    tensor, placement = (to_pixels if model["input"].get("on_device") else to_tensor)(pixels, model)
    return tensor, placement | ({"turned": True} if turned else {})


def preprocess_to(
    output: Path, path: Path, model: dict, size: tuple[int, int] | None = None, digest: str | None = None
) -> tuple[int, dict]:
    """Write the same as a .bin, whose bytes this gives, without the whole tensor ever being in memory."""
    pixels, turned = images.picture(path, model["preprocess"]["decoder"], size, digest)
    if model["input"].get("on_device"):
        canvas, placement = to_pixels(pixels, model)
        length = write_canvas(output, canvas, max(int(placement["pad"][1]), 0))
    else:
        painting, placement = paint(pixels, model)
        length = write_tensor(output, painting)
    return length, placement | ({"turned": True} if turned else {})


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
    """The channels one by one, as views where these can be worked on as they are."""
    if not isinstance(pixels, np.ndarray):
        width, height = pixels.size
        bands = (pixels.tobytes("raw", band) for band in pixels.getbands())
        return [np.frombuffer(band, np.uint8).reshape(height, width) for band in bands]
    if pixels.ndim == 2:
        return [pixels]
    levels_apart = pixels.dtype == np.uint8 and pixels.strides[1] > 1
    return cv2.split(pixels) if levels_apart and not loops.library() else list(pixels.transpose(2, 0, 1))


def fill_colour(settings: dict, channels: int) -> list[int]:
    """The colour of the padding, a number per channel in the tensor's order."""
    fill = settings["fill"]
    return fill if isinstance(fill, list) else [fill] * channels


def to_tensor(pixels: Pixels, model: dict) -> tuple[np.ndarray, dict]:
    """The normalised tensor of RGB uint8 [H, W, 3], without its batch axis, and where the image is on it."""
    painting, placement = paint(pixels, model)
    height, width = painting.placed.height, painting.placed.width
    tensor = np.empty(inputs.shape(model["input"], painting.axes, (height, width)), painting.kind)
    fill(painting, range(len(painting.planes)), 0, height, tensor)
    return tensor, placement


def paint(pixels: Pixels, model: dict) -> tuple[Painting, dict]:
    """What the normalised tensor of RGB uint8 [H, W, 3] is made of, and where the image is on it."""
    settings = model["preprocess"]
    kind, layout = inputs.form(model["input"])
    if settings["channels"] == "grey":
        pixels = grey(pixels, settings["decoder"])
    # Everything below is in the order of the pixels; for BGR the channels are turned at the end.
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
    found = [None] * len(values) if early else list(values.astype(kind))
    in_order = planes(placed.pixels)[turn], found[turn], padding[turn]
    return Painting(placed, *in_order, np.dtype(kind), layout.replace("N", "")), placement


def fill(
    painting: Painting, channels: Sequence[int], first: int, end: int, part: np.ndarray, bars: bool = True
) -> None:
    """Write channels of some rows of the tensor. `part` has its axes; that of the channels may be missing for one. The
    bars beside the image may be there already, from other rows of the same channels."""
    by_channel = [part] if part.ndim == 2 else part if painting.axes.startswith("C") else part.transpose(2, 0, 1)
    for channel, into in zip(channels, by_channel, strict=True):
        plane, table, padding = painting.planes[channel], painting.tables[channel], painting.padding[channel]
        top, left = painting.placed.top - first, painting.placed.left
        above = min(max(-top, 0), len(plane))
        shown = plane[above : max(end - painting.placed.top, above)]
        top, right = max(top, 0), left + plane.shape[1]
        into[:top] = into[top + len(shown) :] = padding
        inside = into[top : top + len(shown), left:right]
        if bars:
            into[top : top + len(shown), :left] = into[top : top + len(shown), right:] = padding
        if table is None:
            inside[:] = shown
        elif shown.size:
            look_up(table, shown, inside)


def look_up(table: np.ndarray, plane: np.ndarray, into: np.ndarray) -> None:
    """Write the values of a plane's levels to a part of a tensor."""
    beside = into.strides[1] == into.itemsize
    if beside and into.dtype == np.float32 and loops.library():
        loops.look_up(table, plane, into)
    elif beside:
        cv2.LUT(plane, table, into)
    else:  # OpenCV has no place for a column that is not beside the one before it
        into[:] = cv2.LUT(plane, table)


def to_pixels(pixels: Pixels, model: dict) -> tuple[np.ndarray, dict]:
    """The canvas [H, W, 3], RGB uint8, for a model that normalises by itself, and where the image is on it."""
    colour = padding_colour(model["preprocess"])
    placed, placement = place(pixels, model, colour, on_canvas=True)
    height, width = placed.pixels.shape[:2]
    bottom, right, row = placed.top + height, placed.left + width, np.tile(np.uint8(colour), (placed.width, 1))
    placed.canvas[: placed.top] = placed.canvas[bottom:] = row
    placed.canvas[placed.top : bottom, : placed.left] = row[: placed.left]
    placed.canvas[placed.top : bottom, right:] = row[right:]
    return placed.canvas, placement


def write_canvas(path: Path, canvas: np.ndarray, below: int) -> int:
    """Write the .bin of a canvas, which has so many rows below the image, and give its bytes."""
    black = below and not canvas[-below:].max()
    part = canvas[:-below] if black else canvas
    with path.open("wb") as file:  # tofile hides why a write fails
        reserve(file, 0, part.nbytes)
        file.write(part)
        file.truncate(canvas.nbytes)
    return canvas.nbytes


def write_tensor(path: Path, painting: Painting) -> int:
    """Write the .bin of a tensor, and give its bytes. It is made in bands that stay in the core's own cache, each where
    the one before it was. Zeros below the image are left out: a file has zeros where nothing was written, and these
    take neither time nor room on a disk."""
    width, height, count = painting.placed.width, painting.placed.height, len(painting.planes)
    zeros = not np.array(painting.padding, painting.kind).tobytes().strip(b"\0")  # -0.0 is none
    end = painting.placed.top + len(painting.planes[0]) if zeros else height
    by_plane = painting.axes.startswith("C")
    groups = [[channel] for channel in range(count)] if by_plane else [range(count)]
    row = width * len(groups[0]) * painting.kind.itemsize
    rows = max(BAND // row, 1)
    band = np.empty((rows, width) if by_plane else (rows, width, count), painting.kind)
    with path.open("wb") as file:
        for i, channels in enumerate(groups):
            reserve(file, i * height * row, end * row)
            file.seek(i * height * row)
            for first in range(0, end, rows):
                part = band[: end - first]
                fill(painting, channels, first, first + len(part), part, bars=not first)
                file.write(part)
        file.truncate(len(groups) * height * row)
    return len(groups) * height * row


def padding_colour(settings: dict) -> list[int]:
    """RGB around the image. Without `fill` the nearest to the mean, which is not quite zero normalised."""
    mean = [round(mean) for mean in settings["mean"]]
    colour = mean if settings["fill"] is None else fill_colour(settings, len(mean))
    return colour[::-1] if settings["channels"] == "BGR" else colour
