"""The image among a graph's inputs, and a run of the graph to see what comes out."""

import math
import tempfile
from pathlib import Path

import numpy as np
import onnx

from detport import inputs, tensors
from detport.backends import onnxruntime
from detport.errors import Failure, UsageError
from detport.graph import contract
from detport.graph.describe import Facts, Tensor, form, image_size
from detport.graph.view import View
from detport.images import BadImage

USUAL_SIDE = 640
# Inputs beside the image by the names that exporters give them: words of input.more, by how many numbers they take.
BESIDE = {
    "orig_target_sizes": (["image_width", "image_height"], "RT-DETR's: width and height of the original"),
    "orig_size": (["image_width", "image_height"], "width and height of the original"),
    "image_shape": (["image_height", "image_width"], "YOLOv3's of the ONNX zoo: height and width of the original"),
    "im_shape": (["resized_height", "resized_width"], "Paddle's: height and width after the resize"),
    "scale_factor": (["scale_y", "scale_x"], "Paddle's: y before x"),
}
TELL_SIZE = ("orig_target_sizes", "orig_size", "image_shape", "scale_factor")  # boxes are then of the original image
PASSING = ("Cast", "Transpose", "Identity", "Unsqueeze", "Gather")
ARITHMETIC = ("Sub", "Div", "Mul", "Add", "BatchNormalization", "Resize")
CHANNELS = (1, 3)
VARIABLE = ("NonMaxSuppression", "NonZero", "Unique", "Compress")  # what makes the number of rows depend on the image


def image_of(found: Facts) -> Tensor:
    """The input that is the image."""
    fitting = [each for each in found.inputs if each.shape and contract.layout_of(each.shape)]
    if not fitting:
        own = ", ".join(f"{each.name} ({form(each)})" for each in found.inputs) or "none"
        raise UsageError(f"no input is an image, which has three or four axes and 1 or 3 channels; the graph has {own}")
    return max(fitting, key=lambda each: len(each.shape))


def image_section(image: Tensor, found: Facts, usual: tuple[int, int] | None) -> tuple[dict, dict, set[str]]:
    """The yaml's `input` for the image, why each key, and which are guesses. `usual` are height and width where nobody
    says them."""
    layout = contract.layout_of(image.shape)
    own = dict(zip(layout, image.shape, strict=True))
    if (own.get("N") or 1) != 1:
        raise Failure(f"{image.name}: {contract.takes_several(own['N'])}")
    section: dict = {"name": image.name}
    why = {"name": f"the graph's, {form(image)}"}
    guesses: set[str] = set()
    for axis, key, place in (("H", "height", 0), ("W", "width", 1)):
        told = image_size(found.metadata)
        section[key] = own[axis] or (told or usual or (USUAL_SIDE, USUAL_SIDE))[place]
        if own[axis]:
            why[key] = f"axis {layout.index(axis)} of {image.name}"
        elif told:
            why[key] = "the graph leaves it open; imgsz in its metadata"
        else:
            why[key] = "the graph leaves it open; " + ("the preset's" if usual else "the usual size")
            guesses.add(key)
    for key, value, usual_value in (
        ("dtype", image.dtype, "float32"),
        ("layout", layout, "NCHW"),
        ("channels", own["C"] or 3, 3),
    ):
        if value != usual_value:
            section[key], why[key] = value, f"{image.name} is {form(image)}"
    return section, why, guesses


def beside(image: Tensor, found: Facts) -> tuple[list[dict], list[str]]:
    """The yaml's `input.more`, and why each."""
    more, why = [], []
    for each in found.inputs:
        if each is image:
            continue
        values, reason = BESIDE.get(each.name, (None, ""))
        if values is None or each.dtype not in ("float32", "float16", "int32", "int64"):
            raise UsageError(
                f"input {each.name} ({form(each)}) is none that follows from an image as far as its name tells, such as"
                f" {', '.join(BESIDE)}; make it a constant of the graph, or write the yaml with input.more by hand"
            )
        entry = {"name": each.name, "dtype": each.dtype, "values": values, "shape": None}
        shape = [1 if size is None else size for size in each.shape or [1, 2]]
        if math.prod(shape) == len(values) and shape != [1, len(values)]:
            entry["shape"] = shape
        more.append(entry)
        why.append(reason)
    return more, why


def run(model: onnx.ModelProto, size: dict, feeds: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """What the graph makes of some inputs, by name; `size` is the yaml's `input`."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    contract.bind(bound, {"input": size})
    outputs = [{"name": output.name} for output in bound.graph.output]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(bound, path)
        try:
            go = onnxruntime.open_model(path, {"outputs": outputs}, {"session": {"graph_optimization": "all"}}, 1)
            runs = [go(feed) for feed in feeds]
        except Failure as error:
            raise Failure(str(error).replace(f"{path}: ", "")) from error
    return [dict(zip((output["name"] for output in outputs), arrays, strict=True)) for arrays in runs]


def feeds(model: dict, images: list[tuple[Path, tuple[int, int]]]) -> list[dict[str, np.ndarray]]:
    """Inputs of images, as far as they can be read."""
    found = []
    for path, size in images:
        try:
            tensor, placement = tensors.preprocess(path, model, size)
        except BadImage:
            continue
        tensor = inputs.batched(tensor, model["input"], placement)
        found.append(inputs.feeds(model["input"], tensor, placement))
    return found


def normalised_inside(model: onnx.ModelProto, name: str) -> list[str]:
    """What the graph does to its image before the first layer, in words: a normalisation of its own."""
    view, found = View(model), []
    readers = {source: node for node in reversed(model.graph.node) for source in node.input}
    node = readers.get(name)
    while node is not None and node.op_type in (*PASSING, *ARITHMETIC):
        if node.op_type in ARITHMETIC:
            constants = [view.constant(source) for source in node.input if source in view.constants]
            shown = [np.round(value.reshape(-1), 4).tolist() for value in constants[:1] if np.size(value) in CHANNELS]
            found.append(" ".join([node.op_type, *(str(value) for value in shown)]))
        node = readers.get(node.output[0])
    return found


def noise(size: dict, count: int = 2) -> list[dict[str, np.ndarray]]:
    """Inputs where there is no image: seeded random numbers."""
    return [inputs.random(size, seed) for seed in range(count)]


def variable(model: onnx.ModelProto) -> set[str]:
    """Outputs whose number of rows depends on the image."""
    tensors: set[str] = set()
    for node in model.graph.node:
        if node.op_type in VARIABLE or tensors & set(node.input):
            tensors.update(node.output)
    return {output.name for output in model.graph.output} & tensors
