"""ONNX Runtime: nothing to compile but the precision, and a proof that it loads the graph."""

import shutil
from pathlib import Path

from onnx import ModelProto, save
from onnxruntime import NodeArg

from detport import cli, config, precisions, results
from detport.backends.onnxruntime import open_session
from detport.compilers import local
from detport.files import atomic

NUMPY_NAMES = {"float": "float32", "double": "float64"}  # of what ONNX Runtime calls otherwise


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
        graph = local.as_fed(onnx, model)
        if lower:
            ranges = results.read(calibration, "calibration")["ranges"] if calibration else None
            graph = in_precision(graph, onnx, model, backend, ranges)
        save(graph, partial)
        require_contract(partial, model, backend)


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
    """ONNX Runtime opens it, with the inputs and outputs that the yaml declares."""
    session = open_session(onnx, backend, threads=1)
    fed = [(value.name, type_of(value), closed(value.shape)) for value in session.get_inputs()]
    local.require_contract(onnx, model, fed, [(value.name, type_of(value)) for value in session.get_outputs()])


def type_of(value: NodeArg) -> str:
    """The type of an input or output as NumPy calls it; of no tensor as ONNX Runtime does."""
    inner = value.type.removeprefix("tensor(").removesuffix(")")
    return NUMPY_NAMES.get(inner, inner)


def closed(shape: list[int | str | None]) -> list[int | None]:
    """Lengths; None where one is open, whatever its name is."""
    return [length if isinstance(length, int) else None for length in shape]
