"""Formats of ground truth, one module each."""

import importlib
from types import ModuleType


def load(kind: str) -> ModuleType:
    """The module of a dataset kind.

    It has index_rows(dataset), one row per image, after a check of the ground truth; count(dataset), how many images
    there are; files(dataset), every file of the ground truth; and scored(dataset), folder and names of those that
    detections are scored against. ANNOTATIONS says whether its annotations are a "file" or a "folder".
    """
    return importlib.import_module(f"detport.datasets.{kind}")
