"""Kinds of datasets, one module each."""

import importlib
from types import ModuleType

from detport import classes


def load(kind: str) -> ModuleType:
    """The module of a dataset kind. It has

    index_rows(dataset): one row per image, after a check of the ground truth; without width and height where only the
    image itself knows them;
    categories(dataset): id and name of what the ground truth has objects of;
    truth(dataset, rows): the ground truth of the index's rows in COCO's form, or None where there is none;
    source(dataset, rows): name and digest of that ground truth;
    count(dataset): how many images there are;
    files(dataset): every file of the ground truth;
    scored(dataset): folder and names of those that detections are scored against.

    ANNOTATIONS says whether its annotations are a "file" or a "folder". TURNED says whether they are about an image
    as its EXIF turns it, or about the stored pixels.
    """
    return importlib.import_module(f"detport.datasets.{kind}")


def unpaired(dataset: dict, declared: str | list) -> list[str]:
    """What of a model's classes that it gives by name, as `decode.categories`, and of the dataset's categories has no
    partner, one line each; nothing where that is not known."""
    if isinstance(declared, str) or not any(isinstance(each, str) for each in declared):
        return []
    found = load(dataset["kind"]).categories(dataset)
    return classes.unpaired(declared, found, dataset["annotations"]) if found else []
