"""ONNX Runtime, on the CPU unless the yaml names other providers: the embedded default."""

import functools
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from detport import schemas
from detport.backends import local
from detport.errors import Failure, UsageError
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
CPU, CUDA = local.CPU, "CUDAExecutionProvider"
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
    return local.measure(open_model(compiled, model, backend, threads), model, threads, local.device(backend))


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
    """A session with the backend's settings, on its providers and no others."""
    providers = require_providers(backend)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    asked = defaults() | backend["session"]
    options.graph_optimization_level = LEVELS[asked["graph_optimization"]]
    options.enable_cpu_mem_arena = asked["arena"]
    options.enable_mem_pattern = asked["memory_pattern"]
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(asked["spinning"])))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except REFUSALS as error:
        graph = contract.read(path, external=False)
        if problem := foreign.without_kernel(graph, kernels()):
            raise Failure(f"{path}: {problem}") from error
        raise Failure(f"{path}: ONNX Runtime does not load it: {str(error).splitlines()[0]}") from error
    session.disable_fallback()  # after an error on a device it would go on on the CPU
    refuse_fallback(path, [name for name, _ in providers], session.get_providers())
    return session


@functools.cache
def defaults() -> dict:
    """Settings of a session that nobody has asked for another way."""
    keys = schemas.plugin("backends", "onnxruntime")["properties"]["session"]["properties"]
    return {key: part["default"] for key, part in keys.items()}


def require_providers(backend: dict) -> list[tuple[str, dict]]:
    """The providers that a backend asks for, each with its options; the CPU where it says nothing."""
    names, available = backend.get("providers", [CPU]), onnxruntime.get_available_providers()
    for name in names:
        if name not in available:
            raise UsageError(
                f"providers: this ONNX Runtime {onnxruntime.__version__} has no {name}; it has {', '.join(available)}."
                " Correct the backend's yaml, or install a build that has it"
            )
    return [(name, {"use_tf32": str(int(backend["tf32"]))} if name == CUDA else {}) for name in names]


def refuse_fallback(path: Path, asked: list[str], found: list[str]) -> None:
    """Refuse a session without a provider that was asked for: it would run on the CPU, and nobody would know."""
    if lacking := [name for name in asked if name not in found]:
        raise Failure(
            f"{path}: ONNX Runtime has made a session without {', '.join(lacking)}, on {', '.join(found)} instead; its"
            " libraries or its device cannot be used here: ONNX Runtime says why in its own lines above"
        )


def kernels() -> set[tuple[str, str]]:
    """Domain and name of every operator that the CPU has a kernel for, standard or not."""
    return {(kernel.domain, kernel.op_name) for kernel in onnxruntime_pybind11_state.get_all_opkernel_def()}


def versions(compiled: Path) -> dict[str, str]:
    """What a report should name."""
    return {"onnxruntime": onnxruntime.__version__}
