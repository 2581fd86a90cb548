"""How much memory a job takes that holds a model, and how much this machine has.

An estimate, made before anything runs: Python with its packages, copies of the weights, and the tensors that are in
memory at once, which grow with the canvas and, where a network works on every box, with the outputs. What a family of
backends or a network has of each is in the yaml beside its module, under `memory`; docs/memory.md tells what was
measured. A model's own `memory_mb` goes before it.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detport import canvases, outputs, schemas
from detport.disk import MB

WEIGHTS = 250_000_000  # bytes, where the file is not there yet
PIXEL, OUTPUT = 640, 3  # bytes of tensors for each pixel and each byte of outputs, of a graph that nobody has measured
SHARE = 0.9  # of the machine's memory is for jobs: the rest is the system's and Snakemake's
AGAIN = 1.5  # times as much where a job is started again


class Need(NamedTuple):
    """What a stage has in memory: megabytes of code, copies of the weights, and times the tensors of one image, as
    `tensor_bytes` tells them."""

    fixed_mb: float
    weights: float
    pixels: float
    outputs: float


# Stages that are the same whatever the backend; of all others it is the backend's family that tells.
STAGES = {
    "convert_checkpoint": Need(250, 2.1, 0, 0),
    "export": Need(350, 5, 0.6, 1.25),
    "simplify": Need(400, 5, 2.8, 1.55),  # it runs the graph as it is before and after
    "patch": Need(110, 3.3, 0, 0),
    "calibrate": Need(400, 5, 2.8, 1.55),
    "compile": Need(180, 3.2, 0, 0),
    "parity": Need(450, 4, 2, 1.55),
    "layers": Need(400, 5, 2.8, 1.55),
    "mixed": Need(400, 5, 2.8, 1.55),
    "doctor": Need(250, 2.3, 1, 1),
}
LARGE = ("export", "simplify", "parity", "infer")  # of every model one of these takes most
FAMILY = Need(400, 3, 1.5, 1.5)  # of a family that does not say


def job_mb(stage: str, model: dict, backend: dict | None = None, more_mb: float = 0) -> int:
    """Megabytes that a job of a stage takes for a model, on a backend where it has one; `more_mb` is what it keeps
    beside the model."""
    return model["memory_mb"].get(stage) or math.ceil(held_mb(need(stage, model, backend), model) + more_mb)


def need(stage: str, model: dict, backend: dict | None) -> Need:
    """What a stage has in memory; a network may know better."""
    own = of_network(model).get("stages", {}).get(stage, {})
    return usual(stage, model, backend)._replace(**own)


def usual(stage: str, model: dict, backend: dict | None) -> Need:
    """The same of most networks."""
    if stage == "patch" and (model["patches"].get(backend["name"]) or model["patches"].get(backend["family"])):
        return STAGES["simplify"]  # a lossy one is measured in the same way
    if stage in STAGES:
        return STAGES[stage]
    own = schemas.plugin("backends", backend["family"]).get("memory")
    return Need(**own) if own else FAMILY


def held_mb(need: Need, model: dict) -> float:
    """Megabytes for a model. The tensors of a backbone are gone when heads are at work on boxes."""
    pixels, boxes = tensor_bytes(model)
    return need.fixed_mb + (need.weights * weight_bytes(model) + max(need.pixels * pixels, need.outputs * boxes)) / MB


def weight_bytes(model: dict) -> int:
    """Bytes of the file that holds a model's weights."""
    path = Path(model["onnx"] if "onnx" in model else model["checkpoint"]["file"])
    return path.stat().st_size if path.is_file() else WEIGHTS


def tensor_bytes(model: dict) -> tuple[float, float]:
    """Bytes of the tensors that are in memory at once while an image of the largest canvas is run: of those that grow
    with the canvas, and with the outputs."""
    own = {"pixel": PIXEL, "output": OUTPUT} | of_network(model)
    pixels = max(size["height"] * size["width"] for size in canvases.by_name(model["input"]).values())
    channels = model["network"][own["of"]] if "of" in own else 1
    return own["pixel"] * pixels, own["output"] * channels * outputs.size(model["outputs"])


def of_network(model: dict) -> dict:
    """What a network's yaml says of memory; nothing for a graph that somebody brings."""
    return schemas.plugin("networks", model["network"]["architecture"]).get("memory", {}) if "network" in model else {}


def machine_mb(root: Path = Path("/")) -> int:
    """Megabytes that jobs may take together: of the machine's memory or, in a container, of what that may have."""
    return int(SHARE * min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *limits(root)]) / MB)


def limits(root: Path) -> Iterator[int]:
    """Bytes that control groups leave this process, its own and those around it; of version 2 and of version 1."""
    told = root / "proc/self/cgroup"
    for line in told.read_text(encoding="utf-8").splitlines() if told.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = ("sys/fs/cgroup", "memory.max")
        if controllers:
            top, name = ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        own = Path(path.lstrip("/"))
        for folder in (own, *own.parents):
            file = root / top / folder / name
            text = file.read_text(encoding="utf-8").strip() if file.is_file() else "max"
            if text != "max":
                yield int(text)


def advice(name: str, model: dict, key: str, backend: dict, limit_mb: int) -> str | None:
    """What is wrong with a model on a machine that may not hold it; its jobs run alone all the same."""
    needed, stage = max((job_mb(stage, model, backend), stage) for stage in LARGE)
    if needed <= limit_mb:
        return None
    return (
        f"{stage} of {name} on {key} takes about {needed / 1000:.1f} GB of memory, and jobs may take"
        f" {limit_mb / 1000:.1f} GB here: it runs alone, and may be killed or swap; use a larger machine, or set"
        f" memory_mb in config/models/{name}.yaml if it takes less"
    )
