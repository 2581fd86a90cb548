"""What the outputs of a detector are, read off their names, shapes and numbers: the `decode` section of a yaml.

A reading never stands for more than it is: `guesses` names what the outputs do not tell.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Reading(NamedTuple):
    """One way to take the outputs."""

    form: str  # a word for it, by which presets are found
    decode: dict  # kind, and the options of its layout
    classes: int  # that the outputs have scores of, background included; 0 where that does not show
    why: dict[str, str]  # of each key of decode
    guesses: frozenset[str] = frozenset()  # keys of decode that nothing in the outputs tells


def likely(
    runs: list[dict[str, np.ndarray]], canvas: tuple[int, int], classes: int | None = None, told_size: bool = False
) -> list[Reading]:
    """All readings that fit the outputs of one run or several, the likeliest first.

    `classes` is how many the model has, if that is known; `told_size` is true where an input tells the graph the size
    of the original image, in whose pixels it then gives boxes.
    """
    from detport.readings import levels, rows, tables, values

    found = values.outputs(runs)
    context = Context(canvas, classes, told_size)
    readers = (rows.named, levels.of_maps, tables.apart, rows.vectors, tables.together, rows.matrix)
    readings: list[Reading] = []
    for read in readers:
        readings += list(read(found, context))
    return readings


def are_heat_maps(runs: list[dict[str, np.ndarray]]) -> bool:
    """Whether outputs look like CenterNet's maps of centres, sides and offsets, which no decoder reads."""
    shapes = [array.shape for array in runs[0].values() if array.ndim == 4]
    return len(shapes) > 2 and len({shape[2:] for shape in shapes}) == 1 and [s[1] for s in shapes].count(2) > 1


class Context(NamedTuple):
    """What is known besides the outputs."""

    canvas: tuple[int, int]
    classes: int | None
    told_size: bool


Readings = Iterator[Reading]
