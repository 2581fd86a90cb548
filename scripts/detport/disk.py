"""How much disk a run takes: bytes of a shard, how many shards may be there at once, what a killed run left.

A shard's tensors live from preprocess until every backend has run on them; outputs that are too large to be kept live
until they are decoded. The limit bounds the sum of both over all models, and of the outputs that are kept.
"""

import base64
import math
import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detport import canvases, inputs, outputs
from detport.errors import UsageError
from detport.files import is_leftover, remove

BLOCK = 4096  # bytes to which file systems round the size of a file
DESCRIPTION = 2048  # bytes that shard.json and shard.info take for one image with a long name, copies included
GB = 1e9
TEXT = 4  # characters of a number as text, for each of its four bytes
SHARD = re.compile(r"[0-9]{4}")  # name of a shard's folder
STEP = 1000  # nanoseconds between two times that are put in order


class Budget(NamedTuple):
    """How the disk is shared out: everything by model."""

    shards: dict[str, int]  # bytes of one shard and its temporary outputs
    kept: dict[str, int]  # bytes of outputs, of the models whose outputs are kept
    windows: dict[str, int]  # shards that may be there at once


def budget(
    models: dict[str, dict],
    datasets: dict[str, dict],
    images: dict[str, int],
    backends: dict[str, dict],
    settings: dict,
) -> Budget:
    """Share out disk_limit_gb among the models of a run; `images` is the size of each dataset."""
    limit, most = settings["disk_limit_gb"] * GB, settings["keep_outputs_gb"] * GB
    outputs = {name: images[model["dataset"]] * len(backends) * output_bytes(model) for name, model in models.items()}
    kept = keeping(outputs, most * len(backends), limit)
    shards = {
        name: math.ceil(images[model["dataset"]] / datasets[model["dataset"]]["shards"])
        * image_bytes(model, backends, name in kept)
        for name, model in models.items()
    }
    kept_sizes = {name: outputs[name] for name in outputs if name in kept}
    return Budget(shards, kept_sizes, windows(shards, sum(kept_sizes.values()), limit))


def tensor_bytes(model: dict) -> int:
    """Bytes of an image's .bin on the model's largest canvas."""
    return max(inputs.image_bytes(model["input"] | canvas) for canvas in canvases.by_name(model["input"]).values())


def output_bytes(model: dict) -> int:
    """Bytes that the outputs of one image take on disk."""
    return outputs.size(model["outputs"]) + BLOCK * len(model["outputs"]) + DESCRIPTION


def image_bytes(model: dict, backends: dict[str, dict], kept: bool) -> int:
    """Most bytes that an image takes while its shard is being worked on, apart from outputs that are kept."""
    total = tensor_bytes(model) + BLOCK + DESCRIPTION
    for backend in backends.values():
        total += tool_bytes(model, backend) + (0 if kept else output_bytes(model))
    return total


def tool_bytes(model: dict, backend: dict) -> int:
    """Bytes of an image in the folder that a vendor's tool works in: the input, if it cannot be linked, and outputs."""
    if "runner" not in backend:
        return 0
    text = backend["runner"]["outfmt"] == "TXT"
    return tensor_bytes(model) + BLOCK + (TEXT if text else 1) * output_bytes(model)


def keeping(sizes: dict[str, int], most: float, limit: float) -> set[str]:
    """Models whose outputs are kept, from the bytes that they would take: each at most `most`, together at most half
    of the limit, in the order given."""
    found, taken = set(), 0
    for name, size in sizes.items():
        if size <= most and taken + size <= limit / 2:
            found.add(name)
            taken += size
    return found


def windows(sizes: dict[str, int], kept: int, total: float) -> dict[str, int]:
    """How many shards of each model may be there at once, from the bytes of one; at least one, all within the limit
    `total` less the bytes of kept outputs.

    Every model gets one shard, and then an equal part of what is left, because their jobs run side by side.
    """
    needed, limit = sum(sizes.values()), total - kept
    if needed > limit:
        each = ", ".join(f"{name} {size / GB:.3g}" for name, size in sizes.items())
        raise UsageError(
            f"disk_limit_gb: leaves {limit / GB:.6g} GB for shards, and one shard of every model takes"
            f" {math.ceil(needed / GB * 1e6) / 1e6:.6f} GB ({each}); set it to at least"
            f" {math.ceil((total + needed - limit) / GB * 1e6) / 1e6:.6f}, or cut the dataset into more shards"
        )
    spare = (limit - needed) / max(len(sizes), 1)
    return {name: 1 + int(spare // max(size, 1)) for name, size in sizes.items()}


def order_times(inputs: Sequence[Path], shards: Sequence[dict[str, Sequence[Path]]], results: Sequence[Path]) -> None:
    """Give the files of shards times that ascend with the shard's number.

    A shard waits for an earlier one, and Snakemake takes a newer input for a reason to make the output again. With
    times in order it finds none, whichever earlier shard another limit makes it wait for. Nothing is touched unless
    inputs, outputs, detections and results are older than each other in this order already: then no file is to be
    made again because of its time, and none will be afterwards. The time of a shard that is gone is that of its
    benchmark file.
    """
    files = [
        {kind: [stamped(path) for path in paths if path.exists()] for kind, paths in shard.items()} for shard in shards
    ]
    made = [path for shard in files for path in (*shard["outputs"], *shard["detections"])]
    first, last = min(map(time_of, made), default=0), max(map(time_of, made), default=0)
    in_order = (
        all(time_of(stamped(path)) <= first for path in inputs if path.exists())
        and all(
            max(map(time_of, shard["outputs"]), default=0) <= time_of(path)
            for shard in files
            for path in shard["detections"]
        )
        and all(time_of(path) >= max(last, first + 2 * STEP * len(files)) for path in results if path.exists())
    )
    if in_order:
        for k, shard in enumerate(files):
            for step, kind in enumerate(("benchmarks", "outputs", "detections")):
                moment = first + STEP * (2 * k + max(step - 1, 0))
                for path in shard[kind]:
                    os.utime(path, ns=(moment, moment))


def time_of(path: Path) -> int:
    return path.stat().st_mtime_ns


def stamped(path: Path) -> Path:
    """The file whose time Snakemake takes for that of an output."""
    return path / ".snakemake_timestamp" if path.is_dir() else path


def sizes(folder: str) -> Iterator[tuple[str, int]]:
    """Name and size of every file in a folder and the folders in it, each folder once, wherever links lead."""
    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        place = Path(top).stat()
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        for path in (Path(top, name) for name in names):
            if path.exists():  # else a link to nothing; what needs the file will say so
                yield str(path.relative_to(folder)), path.stat().st_size


def remove_used(folder: Path, needed_by: dict[Path, Sequence[Path]]) -> list[Path]:
    """Remove temporary folders that a killed run had used up but not deleted yet: all that they were needed for is
    there, and whole. Paths are relative to the working directory `folder`."""
    used = [
        path
        for path, results in needed_by.items()
        if (folder / path).exists() and all((folder / result).exists() and whole(folder, result) for result in results)
    ]
    for path in used:
        remove(folder / path)
    return used


def remove_strangers(folder: Path, tops: Iterable[Path], owned: Container[Path]) -> list[Path]:
    """Remove temporary folders that no shard of this run owns, and half-written files whose process is gone.

    `tops` are the folders that hold temporary folders and nothing else, with those of earlier runs; a model's shards
    are always temporary. What makes them may have gone from the configuration: then nobody else would ever do it.
    """
    tops = {*tops, *(path.relative_to(folder) for path in folder.glob("results/*/shards"))}
    strangers = [
        path.relative_to(folder)
        for top in sorted(tops)
        if (folder / top).is_dir()
        for path in sorted((folder / top).iterdir())
        if SHARD.fullmatch(path.name) and path.relative_to(folder) not in owned
    ]
    leftovers = [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"results/{depth}/.*.partial")]
    for path in [*(folder / path for path in strangers), *filter(is_leftover, leftovers)]:
        remove(path)
    return strangers


def whole(folder: Path, path: Path) -> bool:
    """Whether Snakemake has marked an output as finished; one with a name too long for its mark is taken as not."""
    mark = base64.urlsafe_b64encode(str(path).encode()).decode()
    return len(mark) < 255 and not (folder / ".snakemake" / "incomplete" / mark).exists()
