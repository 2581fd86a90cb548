"""ONNX Runtime: nothing to compile, but a proof that it loads the graph."""

import shutil
from pathlib import Path

from onnx import save

from detport.backends import local
from detport.backends.onnxruntime import open_session
from detport.errors import Failure
from detport.files import atomic
from detport.graph import contract, normalise

TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "int32": "tensor(int32)", "int64": "tensor(int64)"}


def compile_model(onnx: Path, model: dict, backend: dict, output: Path) -> None:
    """Prove that ONNX Runtime loads the graph with the model's contract, and take it as it is.

    ONNX Runtime optimises at load, for the processor it is on; a stored optimised graph would be tied to this one.
    """
    with atomic(output) as partial:
        if model["input"].get("on_device"):
            graph = contract.read(onnx)
            normalise.fold(graph, model["input"], model["preprocess"])
            save(graph, partial)
            require_contract(partial, model, backend)
        else:
            require_contract(onnx, model, backend)
            shutil.copyfile(onnx, partial)


def require_contract(onnx: Path, model: dict, backend: dict) -> None:
    """It loads, with the input and outputs that the yaml declares."""
    session = open_session(onnx, backend, threads=1)
    kind, shape = local.input_form(model["input"])
    declared = [(model["input"]["name"], TYPES[kind], shape)]
    declared += [(entry["name"], TYPES[entry["dtype"]], None) for entry in model["outputs"]]
    values = [*session.get_inputs(), *session.get_outputs()]
    found = [(value.name, value.type, value.shape) for value in values]
    fits = [
        name == n and kind == k and shape in (None, s)
        for (n, k, s), (name, kind, shape) in zip(found, declared, strict=False)
    ]
    if len(found) != len(declared) or not all(fits):
        raise Failure(f"{onnx}: input and outputs are {found}; the model's yaml declares {declared}")
