"""Families of backends, one module each.

The yaml beside it has the keys that a backend of the family has in addition, each with the `stages` that read it: these
run again when it changes. `suffix` there is what the name of a compiled model ends in, `environment` the one of envs
that runs models, run unless given; `own_memory` is true where models are not in the memory of the process of infer;
`memory` is what a job takes, see memory.py; `steps` is true where those of the compiled graph, in the precision that it
states, are what is computed, so that they can be looked into.

A module has infer(compiled, model, backend, inputs, write, place, threads), which runs every image of `inputs`, pairs
of its entry in shard.json and its .bin, hands its outputs to write(image, arrays), may work in the folder `place`, and
says whether a simulator did it; measure(compiled, model, backend, threads), which gives the speed;
versions(compiled); and, where its tools run on other machines too, read_log(text, backend), the speed that a log
states.
"""

import importlib
from types import ModuleType


def load(family: str) -> ModuleType:
    """The module of a family of backends."""
    return importlib.import_module(f"detport.backends.{family}")
