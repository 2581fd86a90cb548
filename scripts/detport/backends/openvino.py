"""OpenVINO, on the processor unless the yaml names another of the devices that it lists.

Left alone, OpenVINO computes in bfloat16 wherever the processor has it. What a backend computes in is what its yaml
says, and what the compiled model tells of its nodes is read back.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import openvino

from detport import cli
from detport.backends import local
from detport.errors import Failure, UsageError

# What a device calls its precisions among its capabilities.
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
REFUSALS = (RuntimeError, TypeError, ValueError)  # OpenVINO's exceptions have no type of their own
DIVISION = "nonconvertable_divide_0"  # the attribute, so spelt, of a division that OpenVINO leaves alone
FRAME = re.compile(r"Exception from .*|Check '.*' failed at .*:|\s*")  # of a message, where in OpenVINO it comes from
TOLD = ("layerType", "runtimePrecision")  # of a node, as it was compiled
MOST = 300  # characters of a message


def infer(
    compiled: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    """Run images one by one; no simulator."""
    opened = open_compiled(compiled, backend, threads)
    local.infer(runner(compiled, opened, model), model, inputs, write)
    return False


def measure(compiled: Path, model: dict, backend: dict, threads: int) -> dict:
    """Speed of the compiled model, and how many of its nodes compute in which type."""
    opened, name = open_compiled(compiled, backend, threads), local.device(backend)
    device = f"{name} ({openvino.Core().get_property(name, 'FULL_DEVICE_NAME')})" if name else ""
    used = opened.get_property("INFERENCE_NUM_THREADS") if backend["device"] == "CPU" else threads
    return local.measure(runner(compiled, opened, model), model, used, device) | {"nodes_in": nodes_in(opened)}


def runner(compiled: Path, opened: openvino.CompiledModel, model: dict) -> local.Run:
    """A function that runs the model on the inputs of one image, given by name."""
    request = opened.create_infer_request()
    outputs = [opened.output(output["name"]) for output in model["outputs"]]

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            found = request.infer(feeds, share_inputs=True)  # no copy of an image beside it
        except REFUSALS as error:
            raise Failure(f"{compiled}: OpenVINO does not run it: {told(error)}") from error
        return [found[output] for output in outputs]

    return run


def open_compiled(path: Path, backend: dict, threads: int) -> openvino.CompiledModel:
    """The model for the backend's device, in the backend's precision and no other."""
    core = openvino.Core()
    require_device(core, backend)
    try:
        opened = core.compile_model(read(core, path), backend["device"], settings(backend, threads))
        counts = nodes_in(opened)
    except REFUSALS as error:
        raise Failure(f"{path}: OpenVINO does not load it: {told(error)}") from error
    require_precision(path, backend, counts)
    cli.log.info("OpenVINO computes %s", ", ".join(f"{count} nodes in {kind}" for kind, count in counts.items()))
    return opened


def read(core: openvino.Core, source: Path | bytes) -> openvino.Model:
    """A graph in which every division is one. OpenVINO would multiply by the reciprocal of a constant, which rounds
    otherwise: the edge of a bin (R-FCN's pooling) then falls into the next cell."""
    model = core.read_model(source)
    for node in model.get_ops():
        if node.get_type_name() == "Divide":
            node.get_rt_info()[DIVISION] = ""
    return model


def require_device(core: openvino.Core, backend: dict) -> None:
    """Refuse a device that is not there, or one without units for the backend's precision: it would emulate it, or
    silently take another one."""
    device, precision = backend["device"], backend["precision"]
    if device not in core.available_devices:
        has = ", ".join(core.available_devices) or "none"
        raise UsageError(
            f"device: this OpenVINO {version()} lists no {device}; it lists {has}. Correct the yaml of backend"
            f" {backend['name']}, or install the device's driver"
        )
    able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if CAPABILITIES[precision] not in able:
        raise UsageError(
            f"{backend['name']}: {core.get_property(device, 'FULL_DEVICE_NAME')} has no {precision}"
            f" (OPTIMIZATION_CAPABILITIES of {device}: {', '.join(able)}); use a backend of another precision, or a"
            " machine that has it"
        )


def settings(backend: dict, threads: int) -> dict[str, object]:
    """What OpenVINO is told. Jobs run beside each other, each with threads of its own: with pinned ones all would wait
    for the same cores."""
    found = {"PERFORMANCE_HINT": backend["hint"].upper(), "INFERENCE_PRECISION_HINT": backend["precision"]}
    if backend["device"] == "CPU":
        found |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False, "ENABLE_HYPER_THREADING": True}
    return found


def nodes_in(opened: openvino.CompiledModel) -> dict[str, int]:
    """How many nodes of a model, as the device has compiled it, compute in each type of floats; constants aside."""
    kinds: Counter[str] = Counter()
    for node in opened.get_runtime_model().get_ops():
        about = {key: str(value.astype(str)) for key, value in node.get_rt_info().items() if key in TOLD}
        if not about.get("layerType", "").startswith("Const"):
            kinds[about.get("runtimePrecision", "")] += 1
    return {kind: kinds[kind] for kind in CAPABILITIES if kinds[kind]}


def require_precision(path: Path, backend: dict, counts: dict[str, int]) -> None:
    """Refuse a model that computes in a lower precision than the backend's, or not in it at all."""
    asked = backend["precision"]
    lower = [kind for kind in counts if kind not in ("f32", asked)]
    if lower or asked not in counts:
        raise Failure(
            f"{path}: {backend['name']} asks OpenVINO for {asked}, and it computes {counts or 'nothing'} (nodes by"
            " type); use another device or precision"
        )


def told(error: Exception) -> str:
    """What an exception of OpenVINO says, without where in OpenVINO it comes from."""
    lines = [line.strip() for line in str(error).splitlines()]
    found = " ".join(line for line in lines if not FRAME.fullmatch(line)) or " ".join(lines)
    return found[:MOST] + "…" * (len(found) > MOST)


def version() -> str:
    """That of OpenVINO, without the build's."""
    return openvino.__version__.split("-")[0]


def versions(compiled: Path) -> dict[str, str]:
    """What a report should name."""
    return {"openvino": version()}
