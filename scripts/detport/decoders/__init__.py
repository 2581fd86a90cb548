"""From output tensors to detections, one module for each kind of outputs.

The yaml beside it is the schema of its options. `outputs` there are the tensors that it reads, by name and shape, where
a letter is the same number everywhere; `masks` is true where it makes masks; `parts` are files of parts/ with keys that
it shares; `placement: plain` says that it knows only images at the top left with one scale. KIND_check.py, or the
module of the library that `check` names, has problem(model): key and text of what the schema cannot say of a model's
yaml, or None.
"""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from detport.classes import read_names
from detport.errors import Failure, UsageError
from detport.yamlfile import expectation

COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORIES = {
    # networks with one class per category, in the order of COCO's ids, which have gaps
    "coco80": [i for i in range(1, 91) if i not in COCO_GAPS],
    # networks whose class numbers are COCO's ids, gaps included, which no object was ever of
    "coco90": [i if i not in COCO_GAPS else None for i in range(1, 91)],
    # the same from 0, which no object was of either
    "coco91": [None, *(i if i not in COCO_GAPS else None for i in range(1, 91))],
    "voc20": list(range(1, 21)),  # Pascal VOC's classes, whose names the metric has, in alphabetical order
}


def load(kind: str) -> ModuleType:
    """The module of a kind.

    It has decode(outputs, image, options, categories), and NEEDS, what decode reads of an image's entry in shard.json.
    """
    return importlib.import_module(f"detport.decoders.{kind}")


def categories(declared: str | list) -> list:
    """Category of every class of the network, in its order: an id, a name, or None for a class that does not count."""
    return CATEGORIES[declared] if isinstance(declared, str) else declared


def declared_categories(declared: str | list | dict) -> str | list:
    """`decode.categories` of a yaml as stages read it: the name of a list above, or the list itself.

    A table says of every class, by the network's own name and in its order, which category it is. Any other text is the
    path of a file with names.
    """
    if isinstance(declared, dict):
        return list(declared.values())
    if isinstance(declared, list):
        given = [each for each in declared if each is not None]
        if twice := [each for each in given if given.count(each) > 1]:
            raise UsageError(
                f"{twice[0]!r} is there twice; for two classes of one category write a table, NAME: category"
            )
        return declared
    if declared in CATEGORIES:
        return declared
    if not Path(declared).is_file():
        raise UsageError(f"{declared!r} is no file of names; {expectation(declared, list(CATEGORIES))}")
    return read_names(Path(declared))


def classes(categories: list, background: str) -> list:
    """Category id of every class of the network; None also for the background, where decode.background says which."""
    return {"none": categories, "first": [None, *categories], "last": [*categories, None]}[background]


def require_finite(boxes: np.ndarray, rows: np.ndarray, output: str, image: dict) -> None:
    """Refuse boxes [N, 4] that are no numbers, although the output that they come from is; `rows` are theirs in it."""
    strange = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if strange.size:
        raise Failure(
            f"{image['file']!r}: row {rows[strange[0]]} of {output} becomes the box {boxes[strange[0]].tolist()};"
            " compare the earlier stages on this image"
        )
