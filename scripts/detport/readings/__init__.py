"""What the outputs of a detector are, read off their names, shapes and numbers: the `decode` section of a yaml."""

import numpy as np

from detport.readings import levels, rows, tables, values
from detport.readings.forms import Context, Reading

__all__ = ["Reading", "are_heat_maps", "likely"]

READERS = (rows.named, levels.of_maps, tables.apart, rows.vectors, tables.together, rows.matrix)


def likely(
    runs: list[dict[str, np.ndarray]], canvas: tuple[int, int], classes: int | None = None, told_size: bool = False
) -> list[Reading]:
    """All readings that fit the outputs of one run or several, the likeliest first.

    `classes` is how many the model has, if that is known; `told_size` is true where an input tells the graph the size
    of the original image, in whose pixels it then gives boxes.
    """
    found = values.outputs(runs)
    return [reading for read in READERS for reading in read(found, Context(canvas, classes, told_size))]


def are_heat_maps(runs: list[dict[str, np.ndarray]]) -> bool:
    """Whether outputs look like CenterNet's maps of centres, sides and offsets, which no decoder reads."""
    shapes = [array.shape for array in runs[0].values() if array.ndim == 4]
    return len(shapes) > 2 and len({shape[2:] for shape in shapes}) == 1 and [s[1] for s in shapes].count(2) > 1
