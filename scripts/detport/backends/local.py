"""What families share that run a model in this process: one input after the other, and timing."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detport import inputs, timing
from detport.errors import Failure

CPU = "CPUExecutionProvider"  # of ONNX Runtime
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
Inputs = list[tuple[dict, Path]]
Write = Callable[[dict, list[np.ndarray]], None]


def device(backend: dict) -> str:
    """What a backend computes on, by its yaml; nothing for the CPU, and for a family that has devices of its own."""
    found = ", ".join([backend["device"]] if "device" in backend else backend.get("providers", []))
    return "" if found in ("cpu", "CPU", CPU) else found


def infer(run: Run, model: dict, images: Inputs, write: Write) -> None:
    """Run the images one by one. Nothing of one is in memory any more when the next is read."""
    for image, path in images:
        write(image, run_one(run, model, image, path))


def run_one(run: Run, model: dict, image: dict, path: Path) -> list[np.ndarray]:
    """The outputs of an image."""
    tensor = read_tensor(path, image, model["input"])
    try:
        return run(inputs.feeds(model["input"], tensor, image))
    except Failure as error:
        raise Failure(f"{image['file']!r}: {error}") from error


def read_tensor(path: Path, image: dict, size: dict) -> np.ndarray:
    """The tensor of an image."""
    kind, layout = inputs.fed_form(size)
    shape = inputs.shape(size, layout, image["size"][::-1] if size.get("multiple") else None)
    tensor = np.fromfile(path, kind)
    expected = int(np.prod(shape)) * tensor.itemsize
    if tensor.nbytes != expected:
        raise Failure(f"{image['file']!r}: {path} has {path.stat().st_size} bytes, the model's input takes {expected}")
    return tensor.reshape(shape)


def measure(run: Run, model: dict, threads: int, device: str = "") -> dict:
    """Speed on random inputs, with the keys of performance.json. `device` is what it runs on if not on the CPU."""
    settings, size = model["benchmark"], model["input"]
    feeds = inputs.random(size, settings["seed"], size.get("on_device", False))
    busy = os.getloadavg()[0]
    seconds = timing.time_runs(
        lambda: run(feeds), settings["warmup_runs"], settings["min_runs"], settings["min_seconds"]
    )
    return {
        "fps": round(len(seconds) / sum(seconds), 4),
        "fps_is": "batch / mean latency, one model on one machine",
        "latency_ms": timing.latency_ms(seconds),
        **timing.over_time(seconds),
        "batch": 1,
        "threads": threads,
        "runs": len(seconds),
        "seconds": round(sum(seconds), 3),
        "warmup_runs": settings["warmup_runs"],
        "timed": "the model's run alone, from an input in host memory to outputs in host memory",
        "input": f"random, seed {settings['seed']}",
        "machine": ({"device": device} if device else {}) | timing.machine() | {"load_before": round(busy, 2)},
    }
