"""Eager PyTorch on the CPU: the baseline that every converted model is compared with."""

from pathlib import Path

import numpy as np
import torch

from detport import checkpoints, networks
from detport.ascend import logs
from detport.backends import local
from detport.inputs import normalised


def infer(
    weights: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    """Run images one by one; no simulator."""
    local.infer(open_model(weights, model, backend, threads), model, inputs, write)
    return False


def measure(weights: Path, model: dict, backend: dict, threads: int) -> dict:
    """Speed of the network."""
    return local.measure(open_model(weights, model, backend, threads), model, threads)


def open_model(weights: Path, model: dict, backend: dict, threads: int) -> local.Run:
    """A function that runs the network on the input of one image."""
    torch.set_num_threads(threads)
    network = networks.build(model, backend["flavour"])
    checkpoints.load(network, weights)

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        image = feeds[model["input"]["name"]]
        if model["input"].get("on_device"):
            image = normalised(image, model["preprocess"])
        with torch.inference_mode():
            return [output.numpy() for output in network(torch.from_numpy(image))]

    return run


def read_log(text: str, backend: dict) -> dict | None:
    """The speed that a log of a GPU states, if it does."""
    return logs.performance(text, backend)


def versions(weights: Path) -> dict[str, str]:
    """What a report should name."""
    return {"torch": torch.__version__}
