"""From a patched graph to what a family of backends opens: one module per family that runs compiled graphs.

A module has compile_model(onnx, model, backend, output), and calibration, a calibration.json, where its backends have
one. The yaml beside it, where there is one, is the schema of a model's options for it, compile.FAMILY. Apart from
detport.backends, so that a change of how models are run compiles nothing again.
"""

import importlib
from pathlib import Path
from types import ModuleType

from detport import schemas


def load(family: str) -> ModuleType:
    """The compiler of a family of backends."""
    return importlib.import_module(f"detport.compilers.{family}")


def suffix(family: str) -> str:
    """What the name of a compiled model ends in."""
    return schemas.plugin("backends", family)["suffix"]


def steps(backend: dict) -> bool:
    """Whether the steps of a backend's compiled graph, in the precision that it states, are what is computed."""
    return schemas.plugin("backends", backend["family"]).get("steps", False)


def calibrates(backend: dict) -> bool:
    """Whether a backend's models are compiled with the ranges that their tensors have on images."""
    return backend.get("precision") == "int8"


def compile_graph(onnx: Path, model: dict, backend: dict, output: Path, calibration: Path | None) -> None:
    """Compile by the backend's family."""
    more = {"calibration": calibration} if calibrates(backend) else {}
    load(backend["family"]).compile_model(onnx, model, backend, output, **more)
