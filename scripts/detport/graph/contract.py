"""The contract of a graph: its inputs and outputs as the model's yaml declares them."""

import zipfile
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from detport.errors import Failure
from detport.files import stand_in

ONNX_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
}


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
        raise Failure(f"{path}: cannot be read with its external data ({error})") from error


def check(model: onnx.ModelProto, contract: dict, source: str) -> None:
    """Raise Failure unless the graph has exactly the declared input and outputs, in order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    wanted = contract["input"]
    shape = [1, 3, wanted["height"], wanted["width"]]
    compare(inputs, [{"name": wanted["name"], "shape": shape, "dtype": "float32"}], source, "input")
    compare(list(model.graph.output), contract["outputs"], source, "outputs")


def compare(values: list[onnx.ValueInfoProto], declared: list[dict], source: str, section: str) -> None:
    """Names and dtypes are the declared ones; dimensions too, where the graph states them."""
    names = [value.name for value in values]
    expected = [entry["name"] for entry in declared]
    if names != expected:
        raise Failure(
            f"{source}: {section}: the graph has {', '.join(map(str, names)) or 'none'}, the model's yaml declares"
            f" {', '.join(expected)}; correct {section} in the yaml, or the graph"
        )
    for value, entry in zip(values, declared, strict=True):
        tensor = value.type.tensor_type
        sizes = [dim.dim_value or None for dim in tensor.shape.dim]
        fits = len(sizes) == len(entry["shape"]) or not tensor.HasField("shape")
        fits = fits and all(size in (None, want) for size, want in zip(sizes, entry["shape"], strict=False))
        if tensor.elem_type != ONNX_TYPES[entry["dtype"]] or not fits:
            known = onnx.TensorProto.DataType.values()
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else "unknown"
            found = f"{kind} {sizes}"
            wanted = f"{entry['dtype']} {entry['shape']}"
            raise Failure(f"{source}: {entry['name']} is {found}; the yaml says {wanted}; correct one of them")
