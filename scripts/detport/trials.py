"""Detections of a compiled graph on a few images, without shards and records: for stages that try many graphs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detport import backends, canvases, decoders, layers, outputs, shards
from detport.backends.local import Inputs


def prepare(folder: Path, rows: Sequence[dict], images: Path, model: dict) -> Inputs:
    """The .bin of each image of the index, and its entry as shard.json has it."""
    name, found = next(iter(canvases.by_name(model["input"]))), []
    folder.mkdir()
    for row in rows:
        tensor, placement = layers.tensor(images, row, model)
        path = folder / f"{shards.bin_stem(row['file'])}.bin"
        path.write_bytes(tensor.tobytes())
        entry = {"image_id": row["image_id"], "file": row["file"], "bin": path.name, "bytes": tensor.nbytes}
        found.append(({"canvas": name} | entry | placement, path))
    return found


def detections(
    compiled: Path, model: dict, backend: dict, inputs: Inputs, place: Path, threads: int
) -> tuple[list[list[dict]], list[str]]:
    """Detections of every image, in their order; and the outputs that hold NaN or infinity, of which there are none."""
    runs: dict[str, list[np.ndarray]] = {}

    def keep(image: dict, arrays: list[np.ndarray]) -> None:
        runs[image["bin"]] = arrays

    backends.load(backend["family"]).infer(compiled, model, backend, inputs, keep, place, threads)
    names = [output["name"] for output in model["outputs"]]
    strange = {
        name
        for arrays in runs.values()
        for name, array in zip(names, arrays, strict=True)
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    }
    if strange:
        return [], sorted(strange)
    settings, found = model["decode"], []
    decoder, categories = decoders.load(settings["kind"]), decoders.categories(settings["categories"])
    for image, _ in inputs:
        arrays = map(outputs.widened, runs[image["bin"]])
        rows = decoder.decode(dict(zip(names, arrays, strict=True)), image, settings, categories)
        found.append([row for row in rows if row["category_id"] is not None])
    return found, []
