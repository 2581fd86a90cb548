"""From output tensors to detections, one module for each kind of outputs.

The yaml beside it is the schema of its options. `outputs` there are the tensors that it reads, by name and shape, where
a letter is the same number everywhere; `masks` is true where it makes masks. KIND_check.py, where there is one, has
problem(model): key and text of what the schema cannot say of a model's yaml, or None.
"""

import importlib
from types import ModuleType

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
    """Category id of every class of the network, in its order."""
    return CATEGORIES[declared] if isinstance(declared, str) else declared
