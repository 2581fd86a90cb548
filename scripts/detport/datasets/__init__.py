"""Formats of ground truth, one module each."""

import importlib
from types import ModuleType


def load(kind: str) -> ModuleType:
    """The module of a dataset kind.

    It has index_rows(dataset), one row per image, after a check of the ground truth; count(dataset), how many images
    there are; watched(dataset), the one file of the ground truth whose changes Snakemake itself sees; and
    signatures(dataset), two texts that tell changes in the rest of the ground truth: of what the index depends on, and
    of everything. ANNOTATIONS says whether its annotations are a "file" or a "folder".
    """
    return importlib.import_module(f"detport.datasets.{kind}")
