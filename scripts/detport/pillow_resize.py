"""Pillow's resize of 8-bit images with the project's own loops: the same bytes in a third of the time.

Where the loops are not compiled, or do not give what Pillow gives, Pillow itself resizes.
"""

import functools
import logging

import numpy as np
from PIL import Image

from detport import loops
from detport.loops import Weights, across, down

BITS = 22  # of a weight behind the point
LONGEST, SHRUNK = 1 << 15, 64  # a side, and how many times it becomes less: beyond, tables would outgrow the image
# Filters whose weights IEEE arithmetic gives alike everywhere: those of the others are left to Pillow's own compiler.
RADIUS = {"linear": 1.0, "area": 0.5}
BY_PILLOW = {"linear": Image.Resampling.BILINEAR, "area": Image.Resampling.BOX}
# Sides before and after that tell apart what may differ: larger, smaller, flat, and which pass is the first.
PROOF = (
    *((13, 9, 40, 31), (64, 50, 17, 23), (7, 40, 9, 13), (40, 7, 9, 13), (33, 20, 33, 5), (1, 1, 3, 2), (90, 1, 2, 1)),
    *((20, 30, 17, 24), (20, 30, 17, 23)),
)
log = logging.getLogger("detport")
Sides = tuple[int, int]  # width, height


def usable(kind: str, old: Sides, new: Sides) -> bool:
    """Whether the loops resize with this filter and these sides."""
    if kind not in RADIUS or loops.library() is None or not proven(kind):
        return False
    return max(*old, *new) <= LONGEST and all(was <= SHRUNK * now for was, now in zip(old, new, strict=True))


@functools.cache
def proven(kind: str) -> bool:
    """Whether the loops and this Pillow agree on some small images. A difference is no reason to stop, because what
    Pillow gives is what is wanted: most likely it is another version, whose order of passes is another one."""
    for width, height, *new in PROOF:
        pixels = noise(height * width * 3).reshape(height, width, 3)
        expected = np.asarray(Image.fromarray(pixels).resize(new, BY_PILLOW[kind]))
        if not np.array_equal(resize(pixels, tuple(new), kind), expected):
            log.warning(
                "%s: gives other bytes than this Pillow (%dx%d to %dx%d), so Pillow resizes, which takes longer",
                *(loops.library_file(), width, height, *new),
            )
            return False
    return True


def noise(length: int) -> np.ndarray:
    """Bytes without a pattern, which take less time than to import NumPy's own."""
    return (np.arange(1, length + 1, dtype=np.uint64) ** 2 * 2654435761 >> 16).astype(np.uint8)


def resize(pixels: np.ndarray, new: Sides, kind: str, into: np.ndarray | None = None) -> np.ndarray:
    """Pixels [H, W] or [H, W, 3] of 8 bits in another size: in the array `into`, which has pixels side by side, or else
    in a new one whose channels are each in one piece. Ask whether it is `usable` first."""
    old = np.ascontiguousarray(pixels)
    height, width, channels = shape = (*old.shape, 1)[:3]
    if into is None:
        into = np.empty((channels, *new[::-1]), np.uint8).transpose(1, 2, 0)
    if old.dtype != np.uint8 or into.dtype != np.uint8 or into.shape != (*new[::-1], channels):
        raise ValueError(f"pixels {old.dtype}{old.shape} cannot be resized into {into.dtype}{into.shape}")
    x, y = weights(width, new[0], kind), weights(height, new[1], kind)
    old = old.reshape(shape)
    if columns_first((width, height), new):
        between = np.empty((new[1], width, channels), np.uint8)
        down(old, y, between)
        across(between, x, into)
    else:
        packed = into.strides[1:] == (channels, 1)
        between = np.empty((height, new[0], channels) if packed else (height, channels, new[0]), np.uint8)
        between = between if packed else between.transpose(0, 2, 1)
        across(old, x, between)
        down(between, y, into)
    return into if pixels.ndim == 3 else into[..., 0]


def columns_first(old: Sides, new: Sides) -> bool:
    """Whether Pillow resizes the columns before the rows: since 13.0, where an image loses far more height than
    width."""
    return new[1] < old[1] and old[1] - new[1] > 2 * (old[0] - new[0])


@functools.lru_cache(maxsize=16)  # most images of a dataset have one of a few sizes
def weights(side: int, new: int, kind: str) -> Weights:
    """Weights of a filter in float64, in the order of Pillow's own operations, then rounded to BITS."""
    scale = side / new
    wide = max(scale, 1.0)
    radius = RADIUS[kind] * wide
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - radius + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + radius + 0.5).astype(np.int64), side) - first
    shares = np.zeros((new, int(count.max())))
    total = np.zeros(new)
    for i in range(shares.shape[1]):
        share = np.where(i < count, filtered(kind, (i + first - centre + 0.5) * (1.0 / wide)), 0.0)
        shares[:, i] = share
        total += share
    shares /= np.where(total == 0, 1.0, total)[:, None]
    return trimmed(side, first, (0.5 + shares * (1 << BITS)).astype(np.int32))


def filtered(kind: str, distance: np.ndarray) -> np.ndarray:
    """The filter at these distances."""
    if kind == "area":
        return np.where((distance > -0.5) & (distance <= 0.5), 1.0, 0.0)
    distance = np.abs(distance)
    return np.where(distance < 1.0, 1.0 - distance, 0.0)


def trimmed(side: int, first: np.ndarray, found: np.ndarray) -> Weights:
    """The same weights without zeros at the ends, as few for all as the most that a pixel has."""
    used = found != 0
    lead = used.argmax(1)
    taps = int((found.shape[1] - used[:, ::-1].argmax(1) - lead).max())
    start = np.minimum(first + lead, side - taps)
    places = np.arange(taps) + (start - first)[:, None]  # in `found`; before or behind it are zeros
    inside = (places >= 0) & (places < found.shape[1])
    kept = np.where(inside, np.take_along_axis(found, places.clip(0, found.shape[1] - 1), 1), 0)
    if start.min() < 0 or start.max() + taps > side:
        raise ValueError(f"{side} pixels cannot become {len(first)}")
    return Weights(side, np.ascontiguousarray(start, np.int32), np.ascontiguousarray(kept, np.int32))
