"""ONNX Runtime on the CPU: the embedded default."""

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from detport.backends import local
from detport.errors import Failure
from detport.graph import contract, foreign

# ONNX Runtime's exceptions have no base of their own but Exception, and no public names.
REFUSALS = (
    *(
        kind
        for kind in vars(onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    RuntimeError,
    ValueError,
)
CPU = "CPUExecutionProvider"
LEVELS = {
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def infer(
    compiled: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    """Run images one by one; no simulator."""
    local.infer(open_model(compiled, model, backend, threads), model, inputs, write)
    return False


def measure(compiled: Path, model: dict, backend: dict, threads: int) -> dict:
    """Speed of the compiled model."""
    return local.measure(open_model(compiled, model, backend, threads), model, threads)


def open_model(compiled: Path, model: dict, backend: dict, threads: int) -> local.Run:
    """A function that runs the model on the inputs of one image, given by name."""
    session = open_session(compiled, backend, threads)
    names = [output["name"] for output in model["outputs"]]

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return session.run(names, feeds)
        except REFUSALS as error:
            raise Failure(f"{compiled}: ONNX Runtime does not run it: {str(error).splitlines()[0]}") from error

    return run


def open_session(path: Path, backend: dict, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU with the backend's settings."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.graph_optimization_level = LEVELS[backend["session"]["graph_optimization"]]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[CPU])
    except REFUSALS as error:
        graph = contract.read(path, external=False)
        if problem := foreign.without_kernel(graph, kernels()):
            raise Failure(f"{path}: {problem}") from error
        raise Failure(f"{path}: ONNX Runtime does not load it: {str(error).splitlines()[0]}") from error


def kernels() -> set[tuple[str, str]]:
    """Domain and name of every operator that the CPU has a kernel for, standard or not."""
    return {(kernel.domain, kernel.op_name) for kernel in onnxruntime_pybind11_state.get_all_opkernel_def()}


def versions(compiled: Path) -> dict[str, str]:
    """What a report should name."""
    return {"onnxruntime": onnxruntime.__version__}
