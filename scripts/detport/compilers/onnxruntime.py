"""ONNX Runtime: nothing to compile but the precision, and a proof that it loads the graph."""

import shutil
from pathlib import Path

from onnx import ModelProto, save

from detport import cli, config, inputs, precisions, results
from detport.backends.onnxruntime import open_session
from detport.errors import Failure
from detport.files import atomic
from detport.graph import contract, normalise

FLOATS = {"float32": "float", "float64": "double"}  # what ONNX Runtime calls otherwise than NumPy


def compile_model(onnx: Path, model: dict, backend: dict, output: Path, calibration: Path | None = None) -> None:
    """Prove that ONNX Runtime loads the graph with the model's contract, and take it as it is, or in the backend's
    precision.

    ONNX Runtime optimises at load, for the processor it is on; a stored optimised graph would be tied to this one.
    """
    lower = backend.get("precision", config.FLOAT32) != config.FLOAT32
    with atomic(output) as partial:
        if not model["input"].get("on_device") and not lower:
            require_contract(onnx, model, backend)
            shutil.copyfile(onnx, partial)
            return
        graph = as_fed(onnx, model)
        if lower:
            ranges = results.read(calibration, "calibration")["ranges"] if calibration else None
            graph = in_precision(graph, onnx, model, backend, ranges)
        save(graph, partial)
        require_contract(partial, model, backend)


def as_fed(onnx: Path, model: dict) -> ModelProto:
    """The graph for the inputs that the compiled model is fed."""
    graph = contract.read(onnx)
    if model["input"].get("on_device"):
        normalise.fold(graph, model["input"], model["preprocess"])
    return graph


def in_precision(graph: ModelProto, source: Path, model: dict, backend: dict, ranges: dict | None) -> ModelProto:
    """The graph in the backend's precision, but for the nodes that its yaml or the model's keeps in float32."""
    precision = backend["precision"]
    module = precisions.load(precision)
    graph = precisions.plain(module.prepared(graph, source))
    names = [*backend["keep_fp32"], *model["compile"].get("keep_fp32", {}).get(precision, [])]
    kept = precisions.to_keep(graph.graph, names, source)
    cli.log.info("in %s; of %d nodes %d kept in float32 by name", precision, len(graph.graph.node), len(kept))
    return module.lowered(graph, kept, backend, ranges)


def require_contract(onnx: Path, model: dict, backend: dict) -> None:
    """It loads, with the inputs, in any order, and the outputs that the yaml declares."""
    session = open_session(onnx, backend, threads=1)
    image, *more = inputs.declared(model["input"])
    if model["input"].get("on_device"):
        kind, layout = inputs.fed_form(model["input"])
        image = {"name": image["name"], "dtype": kind, "shape": inputs.shape(model["input"], layout)}
    fed = sorted((entry["name"], type_of(entry), entry["shape"]) for entry in (image, *more))
    made = [(entry["name"], type_of(entry)) for entry in model["outputs"]]
    own_fed = sorted((value.name, value.type, closed(value.shape)) for value in session.get_inputs())
    own_made = [(value.name, value.type) for value in session.get_outputs()]
    if (fed, made) != (own_fed, own_made):
        raise Failure(
            f"{onnx}: inputs and outputs are {own_fed}, {own_made}; the model's yaml declares {fed}, {made}; make the"
            " graph again, or correct the yaml"
        )


def type_of(entry: dict) -> str:
    """The type of an input or output as ONNX Runtime calls it."""
    return f"tensor({FLOATS.get(entry['dtype'], entry['dtype'])})"


def closed(shape: list[int | str | None]) -> list[int | None]:
    """Lengths; None where one is open, whatever its name is."""
    return [length if isinstance(length, int) else None for length in shape]
