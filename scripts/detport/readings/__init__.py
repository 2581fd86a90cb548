"""What the outputs of a detector are, read off their names, shapes and numbers: the `decode` section of a yaml."""

import numpy as np

from detport.readings import levels, rows, tables, values
from detport.readings.forms import Context, Reading

__all__ = ["Reading", "are_heat_maps", "likely"]

# Of outputs that one group can read, the next ones are not asked.
READERS = ((rows.named,), (levels.of_maps,), (rows.vectors,), (tables.apart,), (tables.together, rows.matrix))


def likely(
    runs: list[dict[str, np.ndarray]], canvas: tuple[int, int], classes: int | None = None, told_size: bool = False
) -> list[Reading]:
    """All readings that fit the outputs of one run or several, the likeliest first.

    `classes` is how many the model has, if that is known; `told_size` is true where an input tells the graph the size
    of the original image, in whose pixels it then gives boxes.
    """
    found, context = values.outputs(runs), Context(canvas, classes, told_size)
    groups = ([reading for read in group for reading in read(found, context)] for group in READERS)
    return next((group for group in groups if group), [])


def are_heat_maps(runs: list[dict[str, np.ndarray]]) -> bool:
    """Whether outputs look like CenterNet's maps of centres, sides and offsets, which no decoder reads."""
    shapes = [array.shape for array in runs[0].values() if array.ndim == 4]
    return len(shapes) > 2 and len({shape[2:] for shape in shapes}) == 1 and [s[1] for s in shapes].count(2) > 1
