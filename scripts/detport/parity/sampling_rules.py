"""The sampling rules of OpenCV's and Pillow's resize in float64, written from what they are said to compute.

Along one axis every rule gives, for each new pixel, which old pixels it is made of and with which weights: `Taps`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
    """For n new pixels, k old ones each: their places [n, k], and their weights [n, k]."""

    places: np.ndarray
    weights: np.ndarray


def apply(pixels: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    """The weighted sums along an axis."""
    moved = np.moveaxis(pixels, axis, 0)
    total = np.zeros((len(taps.places), *moved.shape[1:]))
    for place, weight in zip(taps.places.T, taps.weights.T, strict=True):
        total += moved[place] * weight.reshape(-1, *[1] * (moved.ndim - 1))
    return np.moveaxis(total, 0, axis)


def triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def cubic(sharpness: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys' kernel: -0.75 in OpenCV, -0.5 in Pillow."""
    a = sharpness

    def kernel(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((x - 5) * x + 8) * x * a - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    return kernel


def lanczos(lobes: int) -> Callable[[np.ndarray], np.ndarray]:
    """4 in OpenCV, 3 in Pillow."""
    return lambda x: np.where(np.abs(x) < lobes, np.sinc(x) * np.sinc(x / lobes), 0.0)


def box(x: np.ndarray) -> np.ndarray:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


# Kernel, and how far it reaches to either side in pixels.
OPENCV = {"linear": (triangle, 1), "cubic": (cubic(-0.75), 2), "lanczos": (lanczos(4), 4)}
PILLOW = {"area": (box, 0.5), "linear": (triangle, 1), "cubic": (cubic(-0.5), 2), "lanczos": (lanczos(3), 3)}


def opencv(old: int, new: int, kind: str, factor: float | None = None) -> Taps:
    """Of cv2.resize from `old` to `new` pixels; `factor` is given where the samples lie 1 / factor apart.

    Pixel centres are at a half: new pixel i is at (i + 0.5) / factor - 0.5. The border repeats. `nearest` takes the
    old pixel in which the new one's left edge lies; `area` averages what a new pixel covers.
    """
    factor = factor or new / old
    whole = np.arange(new)
    if kind == "nearest":
        return Taps(np.minimum(np.floor(whole / factor + 1e-9).astype(int), old - 1)[:, None], np.ones((new, 1)))
    if kind == "area":
        return covered(whole / factor, (whole + 1) / factor, old)
    return around((whole + 0.5) / factor - 0.5, old, kind)


def covered(starts: np.ndarray, ends: np.ndarray, old: int) -> Taps:
    """Each old pixel weighs as much of it as lies between start and end."""
    ends = np.minimum(ends, old)
    count = int(np.ceil((ends - starts).max())) + 1
    places = np.floor(starts + 1e-9).astype(int)[:, None] + np.arange(count)
    shares = np.minimum(places + 1, ends[:, None]) - np.maximum(places, starts[:, None])
    return normalised(places, np.maximum(shares, 0), old)


def around(centres: np.ndarray, old: int, kind: str) -> Taps:
    """A kernel around each centre; the border repeats."""
    kernel, reach = OPENCV[kind]
    places = np.floor(centres).astype(int)[:, None] + np.arange(1 - reach, reach + 1)
    return normalised(places, kernel(places - centres[:, None]), old)


def normalised(places: np.ndarray, weights: np.ndarray, old: int) -> Taps:
    """Weights that add up to 1; places beyond the border are those at it."""
    return Taps(places.clip(0, old - 1), weights / weights.sum(axis=1, keepdims=True))


def pillow(old: int, new: int, kind: str) -> Taps:
    """Of Image.resize: where it shrinks, the kernel is as much wider; what lies beyond the border has no weight."""
    scale = old / new
    if kind == "nearest":  # by adding up, which decides on whose side a centre on an edge lies
        centres = np.cumsum([scale * 0.5, *[scale] * (new - 1)])
        return Taps(np.floor(centres).astype(int).clip(0, old - 1)[:, None], np.ones((new, 1)))
    centres = (np.arange(new) + 0.5) * scale
    kernel, reach = PILLOW[kind]
    wider = max(scale, 1.0)
    first = np.maximum((centres - reach * wider + 0.5).astype(int), 0)
    end = np.minimum((centres + reach * wider + 0.5).astype(int), old)
    places = first[:, None] + np.arange((end - first).max())
    weights = kernel((places + 0.5 - centres[:, None]) / wider)
    return normalised(places, np.where(places < end[:, None], weights, 0.0), old)


def warp(old: int, new: int, kind: str, factor: float, corner: float) -> Taps:
    """Of cv2.warpAffine and warpPerspective with no turn: new pixel i is old pixel (i - corner) / factor.

    The old pixels have a border of one of another colour in front, at place 0, and behind, at place old + 1.
    """
    centres = (np.arange(new) - corner) / factor
    kernel, reach = OPENCV["linear" if kind == "area" else kind]
    places = np.floor(centres).astype(int)[:, None] + np.arange(1 - reach, reach + 1)
    weights = kernel(places - centres[:, None])
    return Taps(places.clip(-1, old) + 1, weights / weights.sum(axis=1, keepdims=True))
