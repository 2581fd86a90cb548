"""Eager PyTorch, on the CPU unless the yaml names a GPU: the baseline that every converted model is compared with."""

from pathlib import Path

import numpy as np
import torch

from detport import checkpoints, networks
from detport.ascend import logs
from detport.backends import local
from detport.errors import UsageError
from detport.inputs import normalised


def infer(
    weights: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    """Run images one by one; no simulator."""
    local.infer(open_model(weights, model, backend, threads), model, inputs, write)
    return False


def measure(weights: Path, model: dict, backend: dict, threads: int) -> dict:
    """Speed of the network."""
    run, name = open_model(weights, model, backend, threads), local.device(backend)
    return local.measure(run, model, threads, f"{name} ({torch.cuda.get_device_name(name)})" if name else "")


def open_model(weights: Path, model: dict, backend: dict, threads: int) -> local.Run:
    """A function that runs the network on the input of one image."""
    torch.set_num_threads(threads)
    place = require_device(backend.get("device", "cpu"))
    if place.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = backend["tf32"]
    with place:  # what it makes by itself, such as anchors, is there too
        network = networks.build(model, backend["flavour"])
    checkpoints.load(network, weights)

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        image = feeds[model["input"]["name"]]
        if model["input"].get("on_device"):
            image = normalised(image, model["preprocess"])
        with torch.inference_mode(), place:
            outputs = network(torch.from_numpy(image).to(place))
            if place.type == "cuda":
                torch.cuda.synchronize(place)  # it computes behind our back, and the clock is about to stop
            return [output.cpu().numpy() for output in outputs]

    return run


def require_device(name: str) -> torch.device:
    """The device of this name, which must be there."""
    place = torch.device(name)
    if place.type == "cpu":
        return place
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (place.index or 0) >= count:
        has = f"GPUs cuda:0 to cuda:{count - 1}" if count else "no GPU that it can use"
        raise UsageError(
            f"device: {name}: PyTorch {torch.__version__} has {has} here; correct the backend's yaml, or install"
            " a build of PyTorch for this GPU"
        )
    return place


def read_log(text: str, backend: dict) -> dict | None:
    """The speed that a log of a GPU states, if it does."""
    return logs.performance(text, backend)


def versions(weights: Path) -> dict[str, str]:
    """What a report should name."""
    return {"torch": torch.__version__}
