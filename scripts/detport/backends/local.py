"""What families share that run a model in this process: one input after the other, and timing."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detport import timing
from detport.errors import Failure

Run = Callable[[np.ndarray], list[np.ndarray]]
Inputs = list[tuple[dict, Path]]
Write = Callable[[dict, list[np.ndarray]], None]


def infer(run: Run, model: dict, inputs: Inputs, write: Write) -> None:
    """Run the images one by one."""
    for image, path in inputs:
        tensor = read_tensor(path, image, model["input"])
        try:
            arrays = run(tensor)
        except Failure as error:
            raise Failure(f"{image['file']!r}: {error}") from error
        write(image, arrays)


def input_form(size: dict) -> tuple[str, list[int]]:
    """Type and shape of what a model is fed: the tensor [1, 3, H, W], or pixels [1, H, W, 3] that it normalises."""
    if size.get("on_device"):
        return "uint8", [1, size["height"], size["width"], 3]
    return "float32", [1, 3, size["height"], size["width"]]


def read_tensor(path: Path, image: dict, size: dict) -> np.ndarray:
    """The input of an image."""
    kind, shape = input_form(size)
    tensor = np.fromfile(path, kind)
    expected = int(np.prod(shape)) * tensor.itemsize
    if tensor.nbytes != expected:
        raise Failure(f"{image['file']!r}: {path} has {path.stat().st_size} bytes, the model's input takes {expected}")
    return tensor.reshape(shape)


def measure(run: Run, model: dict, threads: int) -> dict:
    """Speed on a random input, with the keys of performance.json."""
    settings = model["benchmark"]
    random = timing.random_pixels if model["input"].get("on_device") else timing.random_image
    image = random(model, settings["seed"])
    busy = os.getloadavg()[0]
    seconds = timing.time_runs(
        lambda: run(image), settings["warmup_runs"], settings["min_runs"], settings["min_seconds"]
    )
    return {
        "fps": round(len(seconds) / sum(seconds), 4),
        "fps_is": "batch / mean latency, one model on one machine",
        "latency_ms": timing.latency_ms(seconds),
        "batch": 1,
        "threads": threads,
        "runs": len(seconds),
        "seconds": round(sum(seconds), 3),
        "warmup_runs": settings["warmup_runs"],
        "timed": "the model's run alone, from an input in host memory to outputs in host memory",
        "input": f"random, seed {settings['seed']}",
        "machine": timing.machine() | {"load_before": round(busy, 2)},
    }
