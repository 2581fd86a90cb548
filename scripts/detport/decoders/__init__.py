"""From output tensors to detections, one module for each kind of outputs."""

import importlib
from types import ModuleType

from detport.datasets.coco import COCO80

CATEGORIES = {
    "coco80": COCO80,  # networks with one class per category
    "coco90": list(range(1, 91)),  # networks whose class numbers are COCO's ids, gaps included
    "voc20": list(range(1, 21)),  # Pascal VOC's classes, whose names the metric has, in alphabetical order
}


def load(kind: str) -> ModuleType:
    """The module of a kind; it has decode(outputs, image, options, categories)."""
    return importlib.import_module(f"detport.decoders.{kind}")


def categories(declared: str | list) -> list:
    """Category id of every class of the network, in its order."""
    return CATEGORIES[declared] if isinstance(declared, str) else declared
