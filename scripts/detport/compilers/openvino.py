"""OpenVINO: it reads ONNX by itself, so there is nothing to compile but a proof that it does.

Its own form, an .xml with weights beside it, would open a second faster and be two files. OpenVINO compiles for the
device when it opens a model; what it compiles is tied to this machine and this version.
"""

from collections.abc import Container
from pathlib import Path

from onnx import save
from openvino import ConstOutput, PartialShape

from detport import inputs
from detport.backends import openvino
from detport.compilers import local
from detport.files import atomic


def compile_model(onnx: Path, model: dict, backend: dict, output: Path) -> None:
    """Prove that OpenVINO opens the graph on the backend's device, in its precision and with the model's contract, and
    take it as it is."""
    graph = local.as_fed(onnx, model)
    with atomic(output) as partial:
        save(graph, partial)
        require_contract(partial if model["input"].get("on_device") else onnx, model, backend)


def require_contract(onnx: Path, model: dict, backend: dict) -> None:
    """OpenVINO opens it, with the inputs and outputs that the yaml declares."""
    opened = openvino.open_compiled(onnx, backend, threads=1)
    names = {entry["name"] for entry in (*inputs.declared(model["input"]), *model["outputs"])}
    fed = [(name(port, names), kind(port), lengths(port.partial_shape)) for port in opened.inputs]
    local.require_contract(onnx, model, fed, [(name(port, names), kind(port)) for port in opened.outputs])


def name(port: ConstOutput, declared: Container[str]) -> str:
    """Of an input or output; a tensor has several where OpenVINO has removed what only hands it on."""
    return next((each for each in sorted(port.names) if each in declared), port.any_name)


def kind(port: ConstOutput) -> str:
    """The type of an input or output as NumPy calls it."""
    return port.element_type.to_dtype().name


def lengths(shape: PartialShape) -> list[int | None]:
    """Those of an input; None where one is open."""
    return [length.get_length() if length.is_static else None for length in shape]
