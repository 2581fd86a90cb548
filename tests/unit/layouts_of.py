"""Outputs as families of detectors give them, small and seeded, and graphs that give what they are told."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detport import grids

CANVAS = (64, 96)  # height, width


def cells(strides: list[int], anchors: int = 1) -> np.ndarray:
    """Middles of the cells [N, 2] and their strides as a third column."""
    sizes = tuple((*size, anchors) for size in grids.sizes(CANVAS, strides))
    level, x, y, _ = grids.places(sizes, False)
    stride = np.array(strides)[level]
    return np.stack([(x + 0.5) * stride, (y + 0.5) * stride, stride], axis=1)


def boxes(strides: list[int], form: str, anchors: int = 1, seed: int = 0) -> np.ndarray:
    """A box [N, 4] around the middle of every cell, a little beside it, in pixels."""
    rng, middles = np.random.default_rng(seed), cells(strides, anchors)
    centre = middles[:, :2] + rng.uniform(-0.4, 0.4, (len(middles), 2)) * middles[:, 2:]
    sides = rng.uniform(0.5, 3, (len(middles), 2)) * middles[:, 2:]
    corners = {"cxcywh": (centre, sides), "xyxy": (centre - sides / 2, centre + sides / 2)}
    return np.hstack(corners[form]).astype(np.float32)


def scores(rows: int, classes: int, seed: int = 1) -> np.ndarray:
    """Probabilities [rows, classes], most of them small."""
    return (np.random.default_rng(seed).uniform(0, 1, (rows, classes)) ** 8).astype(np.float32)


def logits(rows: int, classes: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(-3, 2, (rows, classes)).astype(np.float32)


def kept(count: int = 20, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners [count, 4] in pixels, falling scores and labels from 0, as behind an NMS."""
    rng = np.random.default_rng(seed)
    place, sides = rng.uniform(0, 30, (count, 2)), rng.uniform(10, 30, (count, 2))
    found = np.sort(rng.uniform(0.05, 0.95, count))[::-1]
    return np.hstack([place, place + sides]).astype(np.float32), found.astype(np.float32), np.arange(count) % 3


def graph(outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """A graph with an image as its input that always gives these outputs."""
    nodes = [helper.make_node("ReduceMin", ["images"], ["low"], keepdims=0)]
    nodes.append(helper.make_node("Sub", ["low", "low"], ["zero"]))
    constants, values = [], []
    for name, array in outputs.items():
        constants.append(numpy_helper.from_array(array, f"{name}_is"))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes.append(helper.make_node("Cast", ["zero"], [f"{name}_zero"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_is", f"{name}_zero"], [name]))
        values.append(helper.make_tensor_value_info(name, kind, array.shape))
    image = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, *CANVAS])
    made = helper.make_model(
        helper.make_graph(nodes, "detector", [image], values, constants),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    helper.set_model_props(made, dict(metadata or {}))
    return made


def saved(path: Path, outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    onnx.save(graph(outputs, metadata), path)
    return path
