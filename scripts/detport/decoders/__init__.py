"""From output tensors to detections, one module for each kind of outputs."""

import importlib
from pathlib import Path
from types import ModuleType

from detport.classes import read_names
from detport.errors import UsageError
from detport.yamlfile import expectation

CATEGORIES = {
    # networks with one class per category, in the order of COCO's ids, which have gaps
    "coco80": [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)],
    "coco90": list(range(1, 91)),  # networks whose class numbers are COCO's ids, gaps included
    "voc20": list(range(1, 21)),  # Pascal VOC's classes, whose names the metric has, in alphabetical order
}


def load(kind: str) -> ModuleType:
    """The module of a kind; it has decode(outputs, image, options, categories)."""
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
