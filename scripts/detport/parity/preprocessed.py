"""The rung of preprocessing: what shards hold beside what the yaml's words ask for, in grey levels."""

from collections.abc import Sequence

import numpy as np

from detport import inputs
from detport.errors import Failure
from detport.parity import reference

FIGURES = ("largest", "far", "mean", "padding")
FAR = 1.0  # level from which on a difference is more than rounding to 8 bits


def levels(tensor: np.ndarray, model: dict) -> np.ndarray:
    """A tensor of a shard as grey levels [channels, height, width]; pixels for a device are levels already."""
    size, words = model["input"], model["preprocess"]
    _, layout = inputs.fed_form(size)
    axes = layout.replace("N", "")
    found = tensor.astype(np.float64)[0] if axes != layout else tensor.astype(np.float64)
    found = found if axes == "CHW" else found.transpose(2, 0, 1)
    if size.get("on_device"):
        return found
    mean, std = (np.array(words[key], np.float64)[:, None, None] for key in ("mean", "std"))
    return (found * std + mean) * words["divide_by"]


def difference(tensor: np.ndarray, pixels: np.ndarray, model: dict) -> dict:
    """How far an image's tensor is from the reference's of its decoded pixels: `largest`, the share that is `far`, the
    `mean` difference of the channel where it is largest, with its sign, and the largest one in the `padding`."""
    found = levels(tensor, model)
    readings = [apart(found, expected) for expected in reference.canvases(pixels, model)]
    return min(readings, key=lambda each: each["largest"])


def apart(found: np.ndarray, expected: reference.Canvas) -> dict:
    """The same of levels."""
    if found.shape != expected.levels.shape:
        raise Failure(f"the tensor is {list(found.shape)}, its yaml describes {list(expected.levels.shape)}")
    differences = found - expected.levels
    picture, padding = differences[:, expected.picture], differences[:, ~expected.picture]
    means = picture.mean(axis=1)
    return {
        "largest": float(np.abs(picture).max()),
        "far": float((np.abs(picture) > FAR).mean()),
        "mean": float(means[np.abs(means).argmax()]),
        "padding": float(np.abs(padding).max(initial=0)),
    }


def worst(found: Sequence[dict]) -> dict:
    """Of several images, the largest of each; the mean keeps its sign."""
    return {key: max((each[key] for each in found), key=abs) for key in FIGURES}
