"""Loops over all bytes of an image, in C: see loops.c, which `scripts/build.py` compiles into the Python environment.

Nothing needs the library. Where none of this very source is there, other packages do the work, to the same bytes.
"""

import ctypes
import functools
import hashlib
import logging
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

SOURCE = Path(__file__).with_suffix(".c")
FOLDER = Path(sys.prefix) / "lib" / "detport"
ROWS = 16  # that `across` turns into columns at a time
MOST_CHANNELS = 3  # that it has room for
log = logging.getLogger("detport")


class Weights(NamedTuple):
    """For each pixel of a new side the first of those of the old `side` that it is made of, and the weights of this and
    the next ones."""

    side: int
    first: np.ndarray
    weights: np.ndarray


def library_file() -> Path:
    """The library, whose name tells what it is compiled from."""
    return FOLDER / f"loops-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library, if it is there and can be opened."""
    path = library_file()
    if not path.exists():
        return None
    try:
        opened = ctypes.CDLL(str(path))
    except OSError as error:
        log.warning("%s: cannot be opened (%s), preprocessing takes longer without; run scripts/build.py", path, error)
        return None
    length, pointer = ctypes.c_ssize_t, ctypes.c_void_p
    opened.down.argtypes = [pointer, length, length, pointer, pointer, length, length, pointer, length]
    opened.across.argtypes = [pointer, *[length] * 3, pointer, pointer, length, length, pointer, pointer, *[length] * 3]
    opened.look_up.argtypes = [pointer, *[length] * 4, pointer, pointer, length]
    opened.down.restype = opened.across.restype = opened.look_up.restype = None
    return opened


def across(old: np.ndarray, x: Weights, new: np.ndarray) -> None:
    """Resize the rows of [H, W, C]; `old` is in one piece."""
    height, width, channels = old.shape
    fits = new.shape == (height, len(x.first), channels) and x.side == width and channels <= MOST_CHANNELS
    if not (fits and old.flags.c_contiguous):
        raise ValueError(f"rows {old.shape} cannot become {new.shape}")
    turned = np.empty(width * channels * ROWS, np.uint8)
    tables = x.first.ctypes.data, x.weights.ctypes.data, x.weights.shape[1]
    sizes = width, height, channels
    library().across(old.ctypes.data, *sizes, *tables, len(x.first), turned.ctypes.data, new.ctypes.data, *new.strides)


def down(old: np.ndarray, y: Weights, new: np.ndarray) -> None:
    """Resize the columns of [H, W, C]. Either has pixels side by side, or the values of a channel."""
    height, width, channels = old.shape
    by_channel = old.strides[1] == new.strides[1] == 1
    packed = old.strides[1:] == new.strides[1:] == (channels, 1)
    if not (by_channel or packed) or new.shape != (len(y.first), width, channels) or y.side != height:
        raise ValueError(f"columns {old.shape} {old.strides} cannot become {new.shape} {new.strides}")
    tables = y.first.ctypes.data, y.weights.ctypes.data, y.weights.shape[1], len(y.first)
    length = width if by_channel else width * channels
    for start in range(channels) if by_channel else [0]:
        there, here = old[..., start:].ctypes.data, new[..., start:].ctypes.data
        library().down(there, old.strides[0], length, *tables, here, new.strides[0])


def look_up(table: np.ndarray, levels: np.ndarray, into: np.ndarray) -> None:
    """Write the values [H, W] of levels, which may lie apart, as float32 that lie side by side."""
    types = table.dtype, levels.dtype, into.dtype, table.shape
    if types != (np.float32, np.uint8, np.float32, (256,)) or levels.shape != into.shape or into.strides[1] != 4:
        raise ValueError(f"{levels.dtype}{levels.shape} cannot be looked up into {into.dtype}{into.shape}")
    height, width = levels.shape
    table = np.ascontiguousarray(table)
    there, here = levels.ctypes.data, into.ctypes.data
    library().look_up(there, *levels.strides, width, height, table.ctypes.data, here, into.strides[0] // 4)
