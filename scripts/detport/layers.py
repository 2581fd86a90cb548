"""Where error enters a graph: what every node of a second rung adds by itself, and what has come together until there.

A node's own error is that of its output against what the first rung's node makes of the second rung's own inputs. What
has no partner in the second rung is computed by the first rung's node from what stands before it, so that its error is
told by the next node that has one.
"""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from detport import inputs
from detport.disk import GB
from detport.errors import Failure
from detport.graph.stepping import Arrays, Give, let_go, name_of, reads, runner
from detport.parity.rungs import Image

COLUMNS = (
    *("rank", "node", "operator", "tensor", "own_error", "error_in", "error_out", "least", "largest"),
    *("overflow_fp16", "underflow_fp16", "saturated_int8"),
)
FLOAT16 = np.finfo(np.float16)
# Numbers of a channel that are so much smaller than the whole tensor's are nothing that a next node could tell from 0.
SILENT = 1e-5
PIECE = 4_000_000  # numbers that are compared at once

Wrong = np.ndarray | float  # of a tensor on one image, see wrong


class Found(NamedTuple):
    """Of one image: a row for each tensor of floats that both rungs have, in the order of the graph; how wrong each
    tensor is that depends on the input; and the tensors of floats that the second rung lacks."""

    rows: list[dict]
    wrong: dict[str, Wrong]
    alone: list[str]


def measure(
    model: onnx.ModelProto,
    feeds: Arrays,
    pairs: Mapping[str, str],
    limits: Mapping[str, tuple[float, float]],
    second: Give,
    held: Arrays,
    threads: int,
    limit: float,
) -> Found:
    """Both rungs beside each other on one image.

    `second` gives tensors of the second rung and `held` is what it keeps meanwhile; `limit` is how many bytes the
    tensors of both may take.
    """
    run = runner(model, threads)
    left = Counter(name for node in model.graph.node for name in reads(node))
    own, other = dict(feeds), dict(feeds)
    found = Found([], dict.fromkeys(feeds, 0.0), [])
    for node in model.graph.node:
        needed = reads(node)
        entering = [name for name in needed if name in found.wrong]
        if not entering:  # a constant
            [made] = run(node, [own])
            keep(made, left, own)
            keep(made, left, other)
        else:
            made, expected = run(node, [own, other])
            paired = [name for name in made if name in pairs]
            given = second([pairs[name] for name in paired])
            seen = {name: given[pairs[name]].astype(made[name].dtype, copy=False) for name in paired}
            for name in made:
                found.wrong[name] = wrong(seen.get(name, expected[name]), made[name])
                if made[name].dtype.kind == "f" and name not in seen:
                    found.alone.append(name)
                elif made[name].dtype.kind == "f":
                    row = {"node": name_of(node), "operator": node.op_type, "tensor": name, "entering": entering}
                    row |= spread(made[name], expected[name], limits.get(pairs[name]))
                    found.rows.append(row | {"own": wrong(seen[name], expected[name])})
            keep(made, left, own)
            keep(expected | seen, left, other)
        arrays = {id(array): array for each in (own, other, held) for array in each.values()}  # some are in both rungs
        taken = sum(array.nbytes for array in arrays.values())
        if taken > limit:
            raise Failure(
                f"node {name_of(node)}: the tensors at hand take {taken / GB:.1f} GB, more than layers.memory_gb"
                f" {limit / GB:g}; raise it"
            )
        let_go(needed, left, own, other)
    return found


def keep(made: Arrays, left: Counter, values: Arrays) -> None:
    """Keep what some node is going to read."""
    values.update({name: array for name, array in made.items() if left[name] > 0})


def error(images: Sequence[Wrong]) -> float:
    """How much of a tensor is wrong over some images: 0 nothing, 1 all of it, infinite where it overflowed or is no
    number any more.

    Of floats it is sqrt(mean over channels of min(1, squared differences / squares)): every channel counts alike,
    because boxes and scores may stand beside each other. Squares are added up over the images, since what is next to
    nothing on one, as the scores of a class that is not there, says little.
    """
    sums: dict[int, np.ndarray] = {}
    for each in images:
        if not isinstance(each, float):
            sums[each.shape[1]] = sums.get(each.shape[1], 0) + each
    shares = [apart(*each) for each in sums.values()]
    return max([*shares, *(each for each in images if isinstance(each, float))])


def apart(difference: np.ndarray, power: np.ndarray) -> float:
    """The error from the mean squares of every channel."""
    floor = SILENT**2 * power.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(difference > 0, difference / np.maximum(power, floor), 0.0)
    return float(np.sqrt(np.minimum(shares, 1).mean()))


def wrong(found: np.ndarray, expected: np.ndarray) -> Wrong:
    """How wrong a tensor is on an image: of floats the mean squares [2, channels] of the differences and of what is
    expected, of other types the share that differs, of another shape all of it."""
    if found.shape != expected.shape:
        return 1.0
    if not found.size:
        return 0.0
    if expected.dtype.kind != "f":
        return float((found != expected).mean())
    if not np.isfinite(found[np.isfinite(expected)]).all():
        return math.inf
    axis = channels(expected.shape)
    a, b = (array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0) for array in (found, expected))
    some = max(1, PIECE * len(b) // b.size)
    return np.concatenate([squares(a[i : i + some], b[i : i + some]) for i in range(0, len(b), some)], axis=1)


def channels(shape: tuple[int, ...]) -> int | None:
    """The axis of the channels: of an image's features the second, of rows that whose length is least; None is none."""
    if len(shape) > 3:
        return 1
    return min(range(1, len(shape)), key=lambda axis: shape[axis], default=None)


def squares(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of each channel, the mean squares of the differences and of the values, as far as they are finite."""
    rows = (len(expected), -1)
    finite = np.isfinite(expected).reshape(rows)
    a, b = (np.where(finite, array.reshape(rows), 0).astype(np.float64) for array in (found, expected))
    return np.stack([np.square(a - b).mean(axis=1), np.square(b).mean(axis=1)])


def spread(array: np.ndarray, before: np.ndarray, limits: tuple[float, float] | None) -> dict:
    """The range of a tensor, the share of it that float16 has no number for, and of what was quantised the share that
    lies beyond what it can hold."""
    finite = array if np.isfinite(array).all() else array[np.isfinite(array)]
    most, tiny = float(FLOAT16.max), float(FLOAT16.smallest_subnormal)
    return {
        "least": float(finite.min()) if finite.size else 0.0,
        "largest": float(finite.max()) if finite.size else 0.0,
        "overflow_fp16": share(array > most) + share(array < -most),
        "underflow_fp16": share((array != 0) & (array < tiny) & (array > -tiny)),
        "saturated_int8": limits and share(before < limits[0]) + share(before > limits[1]),
    }


def share(found: np.ndarray) -> float:
    return float(found.mean()) if found.size else 0.0


def ranked(images: Sequence[Found]) -> list[dict]:
    """The table over all images, the largest own error first."""
    tensors: dict[str, list[dict]] = {}
    for row in (row for each in images for row in each.rows):
        tensors.setdefault(row["tensor"], []).append(row)

    def out(name: str) -> float:
        return error([each.wrong[name] for each in images if name in each.wrong])

    rows = []
    for name, own in tensors.items():
        worst = {key: reduce(larger, (row[key] for row in own)) for key in COLUMNS[8:]}
        errors = {"own_error": error([row["own"] for row in own]), "error_out": out(name)}
        errors["error_in"] = max(map(out, own[0]["entering"]))
        errors["least"] = min(row["least"] for row in own)
        rows.append({key: own[0][key] for key in COLUMNS[1:4]} | errors | worst)
    rows.sort(key=lambda row: -row["own_error"])  # equal ones stay in the order of the graph
    return [{"rank": i} | row for i, row in enumerate(rows, start=1)]


def larger(a: float | None, b: float | None) -> float | None:
    return a if b is None else b if a is None else max(a, b)


def feeds(image: Image, model: dict) -> tuple[Arrays, Arrays]:
    """What the float32 graph is fed of an image, and what the compiled one, which may normalise by itself."""
    size, tensor = model["input"], image.tensor
    exact = inputs.normalised(tensor, model["preprocess"]) if size.get("on_device") else tensor
    return inputs.feeds(size, exact, image.entry), inputs.feeds(size, tensor, image.entry)


def text(rows: list[dict], head: list[str]) -> str:
    """The table, behind lines that begin with #."""
    lines = [f"# {line}" for line in head]
    lines.append("\t".join(COLUMNS))
    lines += ["\t".join(shown(row[key]) for key in COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    """A cell; - is what does not apply."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def read(path: Path) -> list[dict]:
    """The rows of a table, numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("# ")]
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise Failure(f"{path}: not a table of layers; delete it and run its stage again")
    try:
        return [{key: parsed(key, value) for key, value in row.items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise Failure(
            f"{path}: a line has no number where one belongs ({error}); delete it and run its stage again"
        ) from error


def read_head(path: Path) -> list[str]:
    """The sentences above a table."""
    with path.open(encoding="utf-8") as file:
        return [line[2:].rstrip("\n") for line in file if line.startswith("# ")]


def parsed(key: str, value: str) -> object:
    return value if key in COLUMNS[1:4] else None if value == "-" else float(value)
