"""Families of backends, one module each.

A module has infer(compiled, model, backend, inputs, write, place, threads), which runs every image of `inputs`, pairs
of its entry in shard.json and its .bin, hands its outputs to write(image, arrays), may work in the folder `place`, and
says whether a simulator did it; measure(compiled, model, backend, threads), which gives the speed; and
versions(compiled).
"""

import importlib
from types import ModuleType


def load(family: str) -> ModuleType:
    """The module of a family of backends."""
    return importlib.import_module(f"detport.backends.{family}")
