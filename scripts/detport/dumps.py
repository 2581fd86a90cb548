"""Tensors that a device has written while it ran: a folder for each image, in it a file for each output of a node.

The folder of an image is called as its .bin without the ending. A file's name says the node, of whose name every
character but letters, digits, _ and - has become _, and which output it is:

    NODE.npy                                        the first output
    NODE.INDEX.TIMESTAMP.npy                        as tools for ONNX write it
    TYPE.NODE.TASK.STREAM.TIMESTAMP.output.INDEX.SHAPE.npy    as msaccucmp.py convert does, with or without the shape

.bin in place of .npy needs the SHAPE (1x64x56x56) at the end, or beside it a NAME.json with "shape" and "dtype"; else
numbers of two bytes are float16, of four float32. Files of inputs are passed over.
"""

import json
import math
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx

from detport import made, shards
from detport.errors import Failure, UsageError
from detport.graph.stepping import Arrays, Give, name_of
from detport.graph.view import Shapes

SHAPE = re.compile(r"\d+(x\d+)*")
FLOATS = {2: np.dtype("<f2"), 4: np.dtype("<f4"), 8: np.dtype("<f8")}


def images(dump: Path, rows: list[dict]) -> list[dict]:
    """The images of an index that a dump has tensors of."""
    found = [row for row in rows if (dump / stem(row)).is_dir()]
    if not found:
        raise UsageError(
            f"--from-dump {dump}: no folder in it is named as the .bin of an image of the index, as"
            f" {stem(rows[0]) if rows else 'STEM'}; put the tensors of each image into one"
        )
    return found


def stem(row: dict) -> str:
    return shards.bin_stem(row["file"])


def source(dump: Path) -> dict:
    """What a record says of a dump."""
    if not dump.is_dir():
        raise UsageError(f"--from-dump {dump}: no such folder; give the one with the tensors of the device")
    names = sorted(str(path.relative_to(dump)) for path in dump.rglob("*") if path.is_file())
    return made.source(dump, names) | {"listing": made.listing(dump)}


def open_folder(folder: Path, graph: onnx.ModelProto, shapes: Shapes) -> tuple[dict[str, str], Give, list[str]]:
    """Which tensors of a graph are in a folder, a function that reads them, and the files that are none of them."""
    outputs: dict[str, list[str]] = {}
    for node in graph.graph.node:
        if outputs.setdefault(safe(name_of(node)), list(node.output)) != list(node.output):
            raise Failure(f"two nodes are called {safe(name_of(node))} in names of files; give them other names")
    files, strange = {}, []
    for path in sorted(folder.iterdir()):
        place = which(path)
        if place == "input" or path.suffix == ".json":
            continue
        made_by = outputs.get(place[0], []) if place else []
        name = made_by[place[1]] if place and place[1] < len(made_by) else None
        if name is None or math.prod(shapes.get(name, shape_of(path))) != math.prod(shape_of(path)):
            strange.append(path.name)
        else:
            files[name] = path

    def give(names: Collection[str]) -> Arrays:
        return {name: read(files[name]).reshape(shapes.get(name, shape_of(files[name]))) for name in names}

    return {name: name for name in files}, give, strange


def safe(name: str) -> str:
    """A node's name as names of files have it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def which(path: Path) -> tuple[str, int] | str | None:
    """Node and number of the output that a file's name tells; "input" of an input, None of anything else."""
    parts = path.name.split(".")
    if path.suffix not in (".npy", ".bin"):
        return None
    if "input" in parts[1:]:
        return "input"
    if "output" in parts[1:]:
        at = parts.index("output", 1)
        number = parts[at + 1]
        return (parts[0 if at == 1 else 1], int(number)) if number.isdecimal() else None
    return parts[0], int(parts[1]) if len(parts) > 3 and parts[1].isdecimal() else 0


def shape_of(path: Path) -> tuple[int, ...]:
    """The shape of a file's tensor."""
    if path.suffix == ".npy":
        return loaded(path).shape
    told = path.with_suffix(".json")
    if told.is_file():
        return tuple(json.loads(told.read_text(encoding="utf-8"))["shape"])
    last = path.name.split(".")[-2]
    if not SHAPE.fullmatch(last):
        raise UsageError(f"{path}: its name does not end in a shape as .1x64x56x56.bin; name it so, or add {told.name}")
    return tuple(map(int, last.split("x")))


def loaded(path: Path) -> np.ndarray:
    """An .npy file, of which only what is read takes memory."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Failure(f"{path}: not a whole .npy file ({error}); write it again") from error


def read(path: Path) -> np.ndarray:
    """The numbers of a file."""
    if path.suffix == ".npy":
        return np.array(loaded(path))
    count, size = math.prod(shape_of(path)), path.stat().st_size
    told = path.with_suffix(".json")
    kind = json.loads(told.read_text(encoding="utf-8")).get("dtype") if told.is_file() else None
    kind = np.dtype(kind) if kind else FLOATS.get(size // max(count, 1))
    if kind is None or kind.itemsize * count != size:
        raise Failure(f"{path}: {size} bytes are no {count} numbers; correct the shape, or write it again")
    return np.fromfile(path, kind)
