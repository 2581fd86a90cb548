"""The contract of a graph: its inputs and outputs as the model's yaml declares them."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from detport import inputs
from detport.errors import Failure
from detport.files import stand_in

CHANNELS = (1, 3)


def external_files(path: Path) -> list[str]:
    """Names, relative to its folder, of the files in which an ONNX file keeps its large tensors."""
    tensors = read(path, external=False).graph.initializer
    entries = [entry for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    return sorted({entry.value for entry in entries})


def read(path: Path, external: bool = True) -> onnx.ModelProto:
    """An ONNX file, with its external data or without, or a one-line reason why it is none."""
    if reason := stand_in(path):
        raise Failure(f"{path}: is {reason}")
    try:
        return onnx.load(path, load_external_data=external)
    except DecodeError as error:
        if zipfile.is_zipfile(path):
            raise Failure(
                f"{path}: an archive of PyTorch, not ONNX; export it to ONNX, or name it under checkpoint.file"
            ) from error
        raise Failure(f"{path}: not an ONNX file, or truncated ({error}); make it again") from error
    except (ValueError, onnx.checker.ValidationError) as error:
        if lacking := [name for name in external_files(path) if not (path.parent / name).is_file()]:
            raise Failure(
                f"{path}: its weights are in {', '.join(lacking)}, which is not beside it; put it there"
            ) from error
        raise Failure(f"{path}: cannot be read with its external data ({error})") from error


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What the graph is fed; before IR version 4 the weights were listed among its inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def bind(model: onnx.ModelProto, contract: dict) -> None:
    """Give the axes of the inputs that the graph leaves open the lengths of the yaml, wherever the graph names them."""
    declared = {entry["name"]: entry["shape"] for entry in inputs.declared(contract["input"])}
    lengths: dict[str, set[int]] = {}
    for value in graph_inputs(model):
        tensor, wanted = value.type.tensor_type, declared.get(value.name, [])
        if not tensor.HasField("shape"):
            tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in wanted)
        if not fits(value, {"shape": wanted, "dtype": kind_of(value)}):
            continue  # check says why
        for dim, length in zip(tensor.shape.dim, wanted, strict=True):
            if dim.dim_value <= 0 and length is not None:
                lengths.setdefault(dim.dim_param, set()).add(length)
                dim.dim_value = length
    # One name may stand for several lengths where an exporter did not care.
    known = {name: found.pop() for name, found in lengths.items() if name and len(found) == 1}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in known:
                dim.dim_value = known[dim.dim_param]


def check(model: onnx.ModelProto, contract: dict, source: str) -> None:
    """Raise Failure unless the graph has exactly the declared inputs, and the outputs in order."""
    declared = inputs.declared(contract["input"])
    order = {entry["name"]: place for place, entry in enumerate(declared)}
    own = sorted(graph_inputs(model), key=lambda value: order.get(value.name, len(order)))  # they are fed by name
    names(own, declared, source, "input")
    for i, (value, entry) in enumerate(zip(own, declared, strict=True)):
        if not fits(value, entry):
            remedy = input_remedy(value, contract["input"]) if i == 0 else f"correct input.more.{i - 1}, or the graph"
            raise mismatch(source, value, entry, remedy)
    names(model.graph.output, contract["outputs"], source, "outputs")
    for value, entry in zip(model.graph.output, contract["outputs"], strict=True):
        if not fits(value, entry):
            raise mismatch(source, value, entry, "correct one of them")


def mismatch(source: str, value: onnx.ValueInfoProto, entry: dict, remedy: str) -> Failure:
    """The complaint about an input or output of another form."""
    declared = f"{entry['dtype']} {listed(entry['shape'])}"
    return Failure(f"{source}: {value.name} is {form_of(value)}; the yaml says {declared}; {remedy}")


def names(values: Iterable[onnx.ValueInfoProto], declared: list[dict], source: str, section: str) -> None:
    """The names are the declared ones."""
    if [value.name for value in values] != [entry["name"] for entry in declared]:
        own = ", ".join(f"{value.name} ({form_of(value)})" for value in values) or "none"
        more = "" if section == "outputs" else " (inputs beside the image are input.more)"
        raise Failure(
            f"{source}: {section}: the graph has {own}, the model's yaml declares"
            f" {', '.join(entry['name'] for entry in declared)}; correct {section} in the yaml{more}, or the graph"
        )


def kind_of(value: onnx.ValueInfoProto) -> str:
    """The type of a tensor as NumPy calls it."""
    kind = value.type.tensor_type.elem_type
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
    except KeyError:
        return "unknown"


def lengths_of(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """The dimensions of a tensor, None where one is open, or None if the graph does not even say how many."""
    tensor = value.type.tensor_type
    return (
        [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim] if tensor.HasField("shape") else None
    )


def fits(value: onnx.ValueInfoProto, entry: dict) -> bool:
    """Whether type and dimensions are the declared ones, as far as the graph states them."""
    sizes = lengths_of(value)
    same = sizes is None or len(sizes) == len(entry["shape"])
    same = same and all(size in (None, want) for size, want in zip(sizes or [], entry["shape"], strict=False))
    return same and kind_of(value) == entry["dtype"]


def form_of(value: onnx.ValueInfoProto) -> str:
    """Type and shape of an input or output in words."""
    sizes = lengths_of(value)
    return f"{kind_of(value)} {listed(sizes) if sizes is not None else 'of any shape'}"


def listed(sizes: list[int | None]) -> str:
    """A shape in words."""
    return f"[{', '.join('open' if size is None else str(size) for size in sizes)}]"


def input_remedy(value: onnx.ValueInfoProto, size: dict) -> str:
    """What to write into the yaml for the graph's image, or why the graph cannot be taken."""
    sizes, kind = lengths_of(value) or [], kind_of(value)
    layout = layout_of(sizes)
    if layout is None:
        return "an image has three or four axes, with 1 or 3 channels: is this its input?"
    own = dict(zip(layout, sizes, strict=True))
    if (own.get("N") or 1) != 1:
        return takes_several(own["N"])
    found = {"dtype": kind, "layout": layout, "channels": own["C"]}
    if not size.get("multiple"):
        found |= {"height": own["H"], "width": own["W"]}
    kept = {"dtype": "float32", "layout": "NCHW", "channels": 3} | size
    changes = [f"{key}: {new}" for key, new in found.items() if new is not None and new != kept[key]]
    if not changes:
        return "its height and width are fixed: remove input.multiple"
    return f"set input {', '.join(changes)}"


def takes_several(count: int) -> str:
    """Why a graph of a fixed batch cannot be taken."""
    return f"it takes {count} images at once, detport runs one: export it with a batch of 1 or an open one"


def layout_of(sizes: list[int | None]) -> str | None:
    """The order of the axes of an image, as far as they tell."""
    if len(sizes) not in (3, 4):
        return None
    first, last = sizes[-3], sizes[-1]
    if first in CHANNELS or (first is None and last not in CHANNELS):
        return "NCHW"[-len(sizes) :]
    return "NHWC"[-len(sizes) :] if last in CHANNELS else None
