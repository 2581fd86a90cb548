"""The images of the ladder: drawn by a seed, and preprocessed as shards are; the rung of preprocessing itself."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from detport import canvases, images, inputs, shards, tensors
from detport.errors import Failure
from detport.files import sha256
from detport.parity import preprocessed, reference
from detport.parity.rungs import Image


def drawn(rows: Sequence[dict], seed: int) -> list[dict]:
    """The rows of an index in an order that the seed decides, the same on every machine."""

    def lot(row: dict) -> bytes:
        return hashlib.sha256(f"{seed} {row['image_id']!r}".encode("utf-8", "surrogatepass")).digest()

    return sorted(rows, key=lot)


def prepare(
    rows: Sequence[dict], folder: Path, model: dict, count: int, seed: int
) -> tuple[list[Image], list[dict], list[dict]]:
    """The first images of that order that can be used, in the order of the index; beside them what the reference says
    of each, and those that cannot be used."""
    found, bad = [], []
    for row in drawn(rows, seed):
        if len(found) == count:
            break
        try:
            found.append((rows.index(row), *preprocess(row, folder, model)))
        except images.BadImage as error:
            bad.append({"image_id": row["image_id"], "file": row["file"], "reason": str(error)})
    if not found:
        raise Failure(f"{folder}: no image can be used; {bad[0]['file'] if bad else 'the index is empty'}")
    found.sort(key=lambda each: each[0])
    return [image for _, image, _ in found], [levels for *_, levels in found], bad


def preprocess(row: dict, folder: Path, model: dict) -> tuple[Image, dict | None]:
    """An image as its shard has it, and how far that is from the reference, where there is one."""
    path = folder / row["file"]
    tensor, placement = tensors.preprocess(path, model, (row["width"], row["height"]))
    digest = sha256(path)
    if row.get("sha256") and row["sha256"] != digest:
        raise Failure(f"{path}: has changed since it was indexed; run the same command again")
    entry = {"image_id": row["image_id"], "file": row["file"], "sha256": digest} | placement
    entry["bin"] = f"{shards.bin_stem(row['file'])}.bin"
    entry["bytes"] = tensor.nbytes
    size = canvases.select(model, entry["canvas"])["input"]
    tensor, levels = inputs.batched(tensor, size, entry), None
    if reference.unknown(model) is None:
        levels = preprocessed.difference(tensor, reference.decoded(path, model["preprocess"]["decoder"]), model)
    return Image(entry, tensor), levels


def rung(levels: Sequence[dict | None], found: Sequence[Image], model: dict) -> dict:
    """What parity.json says of the preprocessing."""
    told = {"rung": "preprocess", "runner": "beside a reference in float64", "reason": reference.unknown(model)}
    if told["reason"] is None:
        farthest = max(range(len(levels)), key=lambda i: levels[i]["largest"])
        told |= {"levels": preprocessed.worst(levels), "file": found[farthest].entry["file"]}
    return told
