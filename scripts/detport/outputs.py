"""Output tensors of an image on disk, as this project and Ascend's tools write them.

A file's name is the stem of the image's .bin and the number of the output: STEM_0.bin by the infer stage and by
ais_bench, STEM_output_0.bin by msame, in either case .txt for text. Files are asked for by their exact names, so that
image 25 never gets what belongs to 125.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detport.errors import Failure

NAMINGS = ("{stem}_{i}.bin", "{stem}_{i}.txt", "{stem}_output_{i}.bin", "{stem}_output_{i}.txt")
BENCHMARKS_TEXT = NAMINGS[1]  # if it is counted from 1
# Bytes of a number on disk, the declared type first: compiled models change the types of these integers.
WIDTHS = {"int32": (4, 8), "int64": (8, 4)}
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SHOWN = 40  # characters of a word that is no number
LARGEST_INTEGER = 2**29  # larger than any index of a tensor; as the bits of a float it is 1e-19
EXACT_FLOAT32 = 2**24  # from here on float32 has no odd numbers
SIMULATOR = "SIMULATOR"  # a file beside outputs that no device has made
REMEDY = "run inference for this shard again, or correct outputs in the model's yaml"


def size(contract: list[dict]) -> int:
    """Bytes of one image's outputs."""
    return sum(math.prod(declared["shape"]) * np.dtype(declared["dtype"]).itemsize for declared in contract)


def require(arrays: list[np.ndarray], contract: list[dict], file: str) -> None:
    """Refuse outputs of an image that break the contract or hold no numbers."""
    for array, declared in zip(arrays, contract, strict=True):
        name = declared["name"]
        if not fits(array.shape, declared) or array.dtype != declared["dtype"]:
            raise Failure(
                f"{file!r}: output {name} is {array.dtype} {list(array.shape)};"
                f" the model's yaml declares {declared['dtype']} {declared['shape']}"
            )
        require_finite(array, f"{file!r}: output {name}")


def write(folder: Path, stem: str, arrays: list[np.ndarray], contract: list[dict], file: str) -> dict[str, str]:
    """Write the outputs of an image, which must be those of the contract. Digests by file."""
    require(arrays, contract, file)
    digests = {}
    for i, array in enumerate(arrays):
        content = array.tobytes()  # tofile hides why a write fails
        path = folder / NAMINGS[0].format(stem=stem, i=i)
        path.write_bytes(content)
        digests[path.name] = hashlib.sha256(content).hexdigest()
    return digests


def fits(shape: tuple[int, ...], declared: dict) -> bool:
    """Whether a tensor has the declared shape, or no more along the axis that varies."""
    axis, wanted = declared.get("varies"), declared["shape"]
    return len(shape) == len(wanted) and all(
        size == want or (i == axis and size < want) for i, (size, want) in enumerate(zip(shape, wanted, strict=True))
    )


def widened(array: np.ndarray) -> np.ndarray:
    """The numbers in a type that decoders can compute in: the area of a box overflows float16."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def simulated(folder: Path) -> bool:
    """Whether a simulated tool has made the outputs of a folder."""
    return (folder / SIMULATOR).exists()


def naming(folder: Path, stems: Sequence[str], contract: list[dict]) -> str:
    """The naming that a folder follows: the one under which most outputs of these images are there.

    It is found for all images at once, because one file can be two things: a_output_0.bin is output 0 of image a to
    msame and of image a_output to ais_bench.
    """
    counts = {pattern: sum(len(files(folder, stem, pattern, contract)) for stem in stems) for pattern in NAMINGS}
    return max(NAMINGS, key=lambda pattern: counts[pattern])


def found(folder: Path, stem: str, contract: list[dict]) -> bool:
    """Whether there is any output of an image."""
    return any(files(folder, stem, pattern, contract) for pattern in NAMINGS)


def files(folder: Path, stem: str, pattern: str, contract: list[dict]) -> list[Path]:
    """The files of an image, whether the tool numbers them from 0 or from 1; one more than the contract has may be
    there where a model was compiled with an output that nobody reads."""
    paths = [folder / pattern.format(stem=stem, i=i) for i in range(len(contract) + 1)]
    return [path for path in paths if path.is_file()]


def read(folder: Path, stem: str, pattern: str, contract: list[dict], file: str) -> dict[str, np.ndarray]:
    """The outputs of an image by name, in the contract's shapes and types.

    Compilers have changed the order of outputs, so each takes the first file that has its size and, of several, one
    that holds its kind of number: integers read as floats are next to nothing, floats read as integers huge.
    """
    free = files(folder, stem, pattern, contract)
    if len(free) < len(contract):
        there = ", ".join(path.name for path in free) or f"no {pattern.format(stem=stem, i=0)}"
        raise Failure(f"{file!r}: {len(free)} of {len(contract)} outputs are in {folder} ({there}); {REMEDY}")
    binary = pattern.endswith(".bin")
    counted_from_1 = free[0] != folder / pattern.format(stem=stem, i=0)
    integers = any(np.dtype(declared["dtype"]).kind != "f" for declared in contract)
    if pattern == BENCHMARKS_TEXT and counted_from_1 and integers:
        raise Failure(
            f"{file!r}: {free[0].name} is text and counted from 1, as benchmark writes it, which takes integers for"
            " floats and loses them: bring -output_binary=True outputs"
        )
    content = {path: path.read_bytes() if binary else numbers(path, file) for path in free}
    if any(declared.get("varies") is not None for declared in contract):
        return in_order(content, contract, binary, file)
    arrays = {}
    for declared in contract:
        count = int(np.prod(declared["shape"]))
        widths = widths_of(declared["dtype"]) if binary else (1,)
        fitting = [path for width in widths for path in free if len(content[path]) == count * width]
        if not fitting:
            unit = "bytes" if binary else "numbers"
            sizes = ", ".join(f"{path.name} {len(data)}" for path, data in content.items())
            raise Failure(
                f"{file!r}: no file has the {count * widths[0]} {unit} of {declared['name']} {declared['shape']};"
                f" {unit} in {folder}: {sizes}; {REMEDY}"
            )
        path = next((path for path in fitting if holds(content[path], declared["dtype"])), fitting[0])
        free.remove(path)
        values = from_bytes(content[path], declared["dtype"], count) if binary else content[path]
        arrays[declared["name"]] = converted(values, declared, f"{file!r}: {path}")
    return arrays


def in_order(
    content: dict[Path, bytes | np.ndarray], contract: list[dict], binary: bool, file: str
) -> dict[str, np.ndarray]:
    """The outputs where sizes tell nothing, because an image may have fewer rows: each takes the file of its number."""
    arrays = {}
    for (path, data), declared in zip(content.items(), contract, strict=False):
        width = np.dtype(declared["dtype"]).itemsize if binary else 1
        count, odd = divmod(len(data), width)
        shape, axis = declared["shape"], declared.get("varies")
        if axis is not None:
            length, left = divmod(count, math.prod(shape[:axis] + shape[axis + 1 :]))
            shape, odd = [*shape[:axis], length, *shape[axis + 1 :]], odd or left
        if odd or math.prod(shape) != count or not fits(tuple(shape), declared):
            raise Failure(
                f"{file!r}: {path} has {len(data)} {'bytes' if binary else 'numbers'}, which are no"
                f" {declared['dtype']} {declared['shape']} of {declared['name']}; {REMEDY}"
            )
        values = np.frombuffer(data, np.dtype(declared["dtype"]).newbyteorder("<")) if binary else data
        arrays[declared["name"]] = converted(values, declared | {"shape": shape}, f"{file!r}: {path}")
    return arrays


def widths_of(dtype: str) -> tuple[int, ...]:
    """Bytes that a number of a declared type may take on disk."""
    return WIDTHS.get(dtype, (np.dtype(dtype).itemsize,))


def numbers(path: Path, file: str) -> np.ndarray:
    """All numbers of a text file, whatever its lines are."""
    words = path.read_bytes().split()
    strange = next((word for word in words if not NUMBER.fullmatch(word)), None)
    if strange is not None:
        raise Failure(f"{file!r}: {path} holds {strange[:SHOWN].decode(errors='replace')!r}, no number; {REMEDY}")
    return np.array(words, np.float64)


def holds(data: bytes | np.ndarray, dtype: str) -> bool:
    """Whether the numbers look like those of the type, an integer or a float; short ones have no look."""
    if isinstance(data, np.ndarray):  # of a text
        whole = bool((data == np.trunc(data)).all())
    elif np.dtype(dtype).itemsize < 4:
        return True
    else:
        whole = len(data) % 4 == 0 and are_integers(np.frombuffer(data, "<i4"))
    return whole == (np.dtype(dtype).kind != "f")


def are_integers(words: np.ndarray) -> bool:
    """Whether 32-bit words are integers rather than floats."""
    return words.size == 0 or bool(words.min() > -LARGEST_INTEGER and words.max() < LARGEST_INTEGER)


def from_bytes(data: bytes, dtype: str, count: int) -> np.ndarray:
    """The numbers of a file whose size fits. Four bytes of a declared integer may be an integer or a float."""
    if dtype not in WIDTHS:
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    if len(data) == 8 * count:
        return np.frombuffer(data, "<i8")
    integers = np.frombuffer(data, "<i4")
    return integers if are_integers(integers) else np.frombuffer(data, "<f4")


def converted(values: np.ndarray, declared: dict, source: str) -> np.ndarray:
    """The values in the declared type and shape; refuse what that type cannot hold."""
    dtype = np.dtype(declared["dtype"])
    if dtype.kind != "f":
        gaps = values[np.abs(values) >= EXACT_FLOAT32] if values.dtype == np.float32 else values[:0]
        if gaps.size:
            raise Failure(
                f"{source}: {declared['name']} holds {gaps[0]:.0f} as a float32, which is exact only below"
                f" {EXACT_FLOAT32}; compile the model so that this output stays an integer"
            )
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        # high + 1 is a power of two, exact in any float.
        whole = np.isfinite(values) & (values == np.trunc(values)) & (values >= low) & (values < float(high + 1))
        if not whole.all():
            raise Failure(f"{source}: {declared['name']} holds {values[~whole][0]}, no {dtype} number; {REMEDY}")
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
        result = values.astype(dtype)
    result = result.reshape(declared["shape"])
    require_finite(result, f"{source}: {declared['name']}")
    return result


def require_finite(array: np.ndarray, source: str) -> None:
    """Refuse NaN and infinity, by the place of the first one."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise Failure(f"{source} holds NaN or infinity, first at {place}; compare the earlier stages on this image")
