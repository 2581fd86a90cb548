"""How much disk a run takes: bytes of a shard while a job works on it, and of the outputs that are kept.

A shard's tensors and outputs lie in a scratch folder for as long as its job lasts, so the jobs at work bound them; the
workflow starts no more than fit. Outputs small enough are kept, so that a new way of decoding needs no inference.
"""

import math
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import NamedTuple

from detport import canvases, inputs, outputs
from detport.errors import UsageError
from detport.files import is_leftover

BLOCK = 4096  # bytes to which file systems round the size of a file
DESCRIPTION = 2048  # bytes that shard.json, shard.info and the record take for one image with a long name
GB, MB = 1e9, 1e6
TEXT = 4  # characters of a number as text, for each of its four bytes
SHARD = re.compile(r"[0-9]{4}")  # name of a shard's folder


class Budget(NamedTuple):
    """How the disk is shared out."""

    kept: dict[str, int]  # bytes of outputs by model, of those whose outputs are kept
    job_mb: dict[tuple[str, str], int]  # what a shard of a model takes while it is worked on for a backend
    scratch_mb: int  # what all jobs at work may take together


def budget(
    models: Mapping[str, dict],
    images: Mapping[str, int],
    largest: Mapping[tuple[str, str], int],
    backends: Mapping[str, dict],
    settings: dict,
) -> Budget:
    """Share out disk_limit_gb; `images` is the size of each dataset, `largest` that of a model's largest shard on a
    backend."""
    limit, most = settings["disk_limit_gb"] * GB, settings["keep_outputs_gb"] * GB
    sizes = {name: images[model["dataset"]] * len(backends) * output_bytes(model) for name, model in models.items()}
    kept = keeping(sizes, most * len(backends), limit)
    left = limit - sum(kept.values())
    jobs = {}
    for name, model in models.items():
        for key, backend in backends.items():
            jobs[name, key] = largest[name, key] * image_bytes(model, backend, name in kept)
    (name, key), most = max(jobs.items(), key=lambda job: job[1])
    if most > left:
        raise UsageError(
            f"disk_limit_gb: leaves {left / GB:.6g} GB for the shard that a job works on, and one of {name} on {key}"
            f" takes {math.ceil(most / MB) / 1000:.3f} GB; set it to at least"
            f" {math.ceil((limit - left + most) / MB + 1) / 1000:.3f}, or cut the dataset into more shards"
        )
    return Budget(kept, {job: max(1, math.ceil(size / MB)) for job, size in jobs.items()}, max(1, int(left / MB)))


def tensor_bytes(model: dict) -> int:
    """Bytes of an image's .bin on the model's largest canvas."""
    return max(inputs.image_bytes(model["input"] | canvas) for canvas in canvases.by_name(model["input"]).values())


def output_bytes(model: dict) -> int:
    """Bytes that the outputs of one image take on disk."""
    return outputs.size(model["outputs"]) + BLOCK * len(model["outputs"]) + DESCRIPTION


def image_bytes(model: dict, backend: dict, kept: bool) -> int:
    """Most bytes that an image takes while its shard is being worked on, apart from outputs that are kept."""
    own = tensor_bytes(model) + BLOCK + DESCRIPTION
    return own + tool_bytes(model, backend) + (0 if kept else output_bytes(model))


def tool_bytes(model: dict, backend: dict) -> int:
    """Bytes of an image in the folder that a vendor's tool works in: the input, if it cannot be linked, and outputs."""
    if "runner" not in backend:
        return 0
    text = backend["runner"]["outfmt"] == "TXT"
    return tensor_bytes(model) + BLOCK + (TEXT if text else 1) * output_bytes(model)


def keeping(sizes: Mapping[str, int], most: float, limit: float) -> dict[str, int]:
    """Of the bytes that the outputs of each model would take, those that are kept: each at most `most`, together at
    most half of the limit, in the order given."""
    found: dict[str, int] = {}
    for name, size in sizes.items():
        if size <= most and sum(found.values()) + size <= limit / 2:
            found[name] = size
    return found


def is_shard(path: str | Path) -> bool:
    """Whether a path is of the folder of a shard's tensors or outputs."""
    return SHARD.fullmatch(Path(path).name) is not None


def leftovers(folder: Path, models: Container[str], kept: Container[str], alone: bool = False) -> list[Path]:
    """What earlier runs in a working directory left and nothing will use: scratch folders, half-written files whose
    process is gone, and outputs of these models that are not among the folders that are `kept` any more. If a run on a
    cluster is `alone` here, half-written files of every host are nobody's."""
    scratch = filter(is_shard, folder.glob("results/*/*/scratch/*"))
    outputs = [
        path
        for path in folder.glob("results/*/*/outputs/*")
        if is_shard(path) and path.parents[2].name in models and str(path.relative_to(folder)) not in kept
    ]
    partial = [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"results/{depth}/.*.partial")]
    return [*scratch, *outputs, *(partial if alone else filter(is_leftover, partial))]
