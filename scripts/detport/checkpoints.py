"""Checkpoints: opened as data only, converted once to safetensors, loaded strictly into a network."""

import pickle
import pickletools
import re
import struct
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from detport.errors import Failure, UsageError
from detport.files import atomic, sha256, stand_in

# What torch's restricted loader raises for broken bytes, depending on where they are broken.
MALFORMED = (
    *(
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
        OverflowError,
    ),
    *(struct.error, zipfile.BadZipFile, OSError),  # the last: a seek to where a broken table of contents points
)
COUNTER = "num_batches_tracked"  # a training counter of batch norms; some files hold it, inference never reads it
DTYPES = (  # what safetensors and NumPy hold alike
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)
PACKED = "._packed_params"  # in names of a state_dict: weights that PyTorch has quantized
QUANTIZED = (
    "quantized; name the float checkpoint that it was made from under checkpoint.file, or export the quantized model to"
    " ONNX and name that under onnx"
)
HEAD = 2**20  # bytes in which a plain pickle has named its first object
GROWTH, SPARE = 10, 2**20  # tensors take at most so many times the bytes of their file, and so many bytes more
SHOWN = 5  # keys of each kind in a complaint


def read(path: Path, wrapper: str | None, prefix: str) -> dict[str, Tensor]:
    """The tensors of a .pth file. Nothing but tensors and plain containers is ever built from it."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; put the checkpoint there or correct checkpoint.file")
    if reason := stand_in(path):
        raise Failure(f"{path}: is {reason}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        code = found[1] if found else first_global(path)
        if code is None:
            raise Failure(f"{path}: not a checkpoint of PyTorch, or damaged; fetch it again") from error
        raise Failure(
            f"{path}: refers to the Python object {code}, which could run code when it is loaded; refused."
            " Ask its author for a file of tensors"
        ) from error
    except MALFORMED as error:
        if "TorchScript" in str(error):  # torch's own advice is to load it without restriction
            raise Failure(
                f"{path}: a TorchScript archive, which is code. If you trust it, save its tensors,"
                " torch.save(torch.jit.load(FILE).state_dict(), NEW), and name that file under checkpoint.file"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Failure(f"{path}: not a readable checkpoint ({reason}); it may be truncated, fetch it again") from error
    return unwrap(path, content, wrapper, prefix)


def first_global(path: Path) -> str | None:
    """The first Python object that a plain pickle refers to, read without loading it; None if there is none."""
    texts: list[str] = []
    with path.open("rb") as file:
        head = file.read(HEAD)  # from a file, a text that says to be petabytes long would be given memory first
    try:
        for operation, argument, _ in pickletools.genops(head):
            if operation.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".")
            if operation.name == "STACK_GLOBAL":
                return ".".join(texts[-2:])
            if isinstance(argument, str):
                texts.append(argument)
    except (ValueError, IndexError, OverflowError, struct.error):
        return None  # not a pickle, or cut off before any
    return None


def unwrap(path: Path, content: object, wrapper: str | None, prefix: str) -> dict[str, Tensor]:
    """The state_dict inside `wrapper`, with `prefix` stripped from every key."""
    if wrapper is not None:
        if not isinstance(content, dict) or wrapper not in content:
            found = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, dict) else type(content).__name__
            raise UsageError(f"{path}: checkpoint.wrapper: no entry {wrapper!r}; the file holds {found}")
        content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{path}: checkpoint.wrapper: expected named tensors, found {type(content).__name__}")
    packed = next((key for key in content if PACKED in str(key)), None)
    if packed is not None:
        raise Failure(f"{path}: {packed!r} is {QUANTIZED}")
    strangers = [key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if strangers:
        raise UsageError(f"{path}: checkpoint.wrapper: {strangers[0]!r} is no tensor; name the entry that holds them")
    bare = [key for key in content if not key.startswith(prefix)]
    if bare:
        raise UsageError(f"{path}: checkpoint.prefix: {bare[0]!r} does not start with {prefix!r}")
    return {key.removeprefix(prefix): value for key, value in content.items()}


def convert(source: Path, settings: dict, output: Path) -> int:
    """Write a checkpoint as safetensors with its origin in the header; return the number of tensors."""
    tensors = read(source, settings["wrapper"], settings["prefix"])
    require_plain(source, tensors)
    digest = sha256(source)
    if settings["sha256"] not in (None, digest):
        raise Failure(f"{source}: sha256 is {digest}, checkpoint.sha256 says {settings['sha256']}; it is another file")
    broken = [key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise Failure(f"{source}: {broken[0]} holds NaN or infinity ({len(broken)} tensors do); the training diverged")
    # One file may give a tensor two names; safetensors wants a copy for each.
    copies = {key: value.contiguous().clone() for key, value in tensors.items()}
    with atomic(output) as partial:
        try:
            safetensors.torch.save_file(copies, partial, {"source": source.name, "source_sha256": digest})
        except safetensors.SafetensorError as error:
            raise Failure(
                f"{output}: cannot be written ({error}); is the disk full? Then make room and run again"
            ) from error
        partial.chmod(0o644)  # the library makes it private
    return len(copies)


def require_plain(source: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that are not plain numbers in memory, and names that no file can hold."""
    for key, value in tensors.items():
        if value.is_quantized:
            raise Failure(f"{source}: {key!r} is {QUANTIZED}")
        kinds = {
            "sparse or nested": value.layout != torch.strided or value.is_nested,
            f"without values (on device {value.device})": value.device.type != "cpu",
            f"of type {value.dtype}": value.dtype not in DTYPES,
        }
        kind = next((kind for kind, found in kinds.items() if found), None)
        if kind:
            raise Failure(f"{source}: {key!r} is {kind}; ask for a checkpoint of dense float32 tensors")
        if key.encode("utf-8", "replace").decode() != key:
            raise Failure(f"{source}: the key {key!r} is no valid text; ask for a checkpoint with other names")
    # A few bytes can stand for any number of equal values, and names can share a tensor.
    total, most = sum(value.nbytes for value in tensors.values()), GROWTH * source.stat().st_size + SPARE
    if total > most:
        key = max(tensors, key=lambda key: tensors[key].nbytes)
        raise Failure(
            f"{source}: its tensors would take {total} bytes, the file has {source.stat().st_size}; the largest is"
            f" {key!r}, {shape(tensors[key])}. Ask for a checkpoint whose tensors are stored whole"
        )


def load(network: nn.Module, path: Path) -> None:
    """Load converted weights; refuse the file unless every key and shape is the network's."""
    if not path.is_file():  # safetensors would not name it
        raise UsageError(f"{path}: no such file; convert the checkpoint first, or correct the path")
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError) as error:
        remedy = "delete it and convert again" if path.suffix == ".safetensors" else "convert_checkpoint.py makes one"
        raise Failure(f"{path}: not a whole safetensors file ({error}); {remedy}") from error
    expected = network.state_dict()
    missing = [key for key in expected if key not in tensors and not key.endswith(COUNTER)]
    unexpected = [key for key in tensors if key not in expected and not key.endswith(COUNTER)]
    shapes = [
        f"{key} is {shape(tensors[key])} instead of {shape(value)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes)]
    if any(keys for _, keys in problems):
        text = "; ".join(f"{len(keys)} {kind}: {short_list(keys)}" for kind, keys in problems if keys)
        raise Failure(f"{path}: does not fit the network of the model's yaml: {text}")
    network.load_state_dict(tensors, strict=False)


def short_list(keys: list[str]) -> str:
    more = f", … (+{len(keys) - SHOWN})" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
