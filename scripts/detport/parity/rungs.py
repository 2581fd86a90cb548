"""The rungs of the ladder: the same preprocessed images through every form of a model on its way to a device."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detport import backends, canvases, decoders, inputs, outputs
from detport.backends import local, onnxruntime
from detport.errors import Complaint, Failure
from detport.files import scratch
from detport.graph import contract, foreign, running
from detport.parity import differences, pairs

Outputs = dict[str, np.ndarray]
# How the checkpoint and the graphs are run here.
CPU = {
    "flavour": "standard",
    "device": "cpu",
    "tf32": False,
    "session": running.UNOPTIMISED,
    "providers": ["CPUExecutionProvider"],
}


class Image(NamedTuple):
    """An image: its entry as in shard.json, and its tensor as a shard holds it, with the axis of the batch."""

    entry: dict
    tensor: np.ndarray


class Ran(NamedTuple):
    """What came out for every image, and whether a simulated device made it."""

    outputs: list[Outputs]
    simulator: bool = False


class Rung(NamedTuple):
    """A form of the model: who runs it, and what came out; or why it could not be run."""

    name: str
    runner: str
    ran: Ran | None
    reason: str | None = None


def measured(name: str, runner: str, run: Callable[[Mapping[str, Path]], Ran], files: Mapping[str, Path]) -> Rung:
    """The rung, or the reason why this machine cannot run it."""
    try:
        return Rung(name, runner, run(files))
    except Complaint as error:
        reason = str(error)
        for path in files.values():
            reason = reason.replace(f"{path}: ", "").replace(str(path), "the file")
        return Rung(name, runner, None, reason)


def eager(files: Mapping[str, Path], model: dict, images: Sequence[Image], threads: int) -> Ran:
    """The network itself with the weights of the checkpoint."""
    family = backends.load("pytorch")
    return each_canvas(images, model, lambda own, name: family.open_model(files[name], own, CPU, threads), pixels=True)


def graph(files: Mapping[str, Path], model: dict, images: Sequence[Image], threads: int) -> Ran:
    """A graph in ONNX Runtime as it is, without optimisations; `files` are those of the canvases."""
    for path in files.values():
        if problem := foreign.without_kernel(contract.read(path, external=False), onnxruntime.kernels()):
            raise Failure(problem)
    return each_canvas(
        images, model, lambda own, name: onnxruntime.open_model(files[name], own, CPU, threads), pixels=False
    )


def each_canvas(images: Sequence[Image], model: dict, open_one: Callable[[dict, str], local.Run], pixels: bool) -> Ran:
    """Run the images of every canvas by what opens for it; `pixels` says that it normalises by itself where the model
    is to do that on its device."""
    made: dict[int, Outputs] = {}
    for name, places in by_canvas(images).items():
        own = canvases.select(model, name)
        run = open_one(own, name)
        for i in places:
            entry, tensor = images[i]
            if own["input"].get("on_device") and not pixels:
                tensor = inputs.normalised(tensor, own["preprocess"])
            made[i] = named(run(inputs.feeds(own["input"], tensor, entry)), own)
    return Ran([made[i] for i in range(len(images))])


def by_canvas(images: Sequence[Image]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        found.setdefault(image.entry["canvas"], []).append(i)
    return found


def named(arrays: Sequence[np.ndarray], model: dict) -> Outputs:
    return {output["name"]: array for output, array in zip(model["outputs"], arrays, strict=True)}


def compiled(
    files: Mapping[str, Path], model: dict, backend: dict, images: Sequence[Image], place: Path, threads: int
) -> Ran:
    """What the backend opens, by its family's own runner over .bin files."""
    family, made, simulated = backends.load(backend["family"]), {}, False
    with scratch(place) as folder:
        for name, places in by_canvas(images).items():
            own = canvases.select(model, name)
            listed = []
            for i in places:
                path = folder / images[i].entry["bin"]
                path.write_bytes(images[i].tensor.tobytes())
                listed.append((images[i].entry, path))

            def keep(entry: dict, arrays: list[np.ndarray], own: dict = own) -> None:
                made[entry["bin"]] = named(arrays, own)

            simulated |= family.infer(files[name], own, backend, listed, keep, folder, threads)
    return Ran([made[image.entry["bin"]] for image in images], simulated)


def detections(rung: Rung, images: Sequence[Image], settings: dict) -> list[list[dict]]:
    """The detections of a rung in every image."""
    decoder, categories = decoders.load(settings["kind"]), decoders.categories(settings["categories"])
    found = []
    for image, arrays in zip(images, rung.ran.outputs, strict=True):
        widened = {name: outputs.widened(array) for name, array in arrays.items()}
        rows = decoder.decode(widened, image.entry, settings, categories)
        found.append([row for row in rows if row["category_id"] is not None])
    return found


def compared(rungs: Iterable[Rung], images: Sequence[Image], model: dict, score: float) -> Iterator[dict]:
    """What parity.json says of every rung: who ran it or why nobody did, and what changed from the `previous` and from
    the `first` of those that could be run. No more than these two are in memory beside it."""
    varying = {output["name"] for output in model["outputs"] if output.get("varies") is not None}
    first = previous = None
    for rung in rungs:
        entry = {"rung": rung.name, "runner": rung.runner, "reason": rung.reason}
        if rung.ran is None:
            yield entry
            continue
        found, problem = decoded(rung, images, model["decode"])
        own = (rung, found)
        yield entry | {
            "simulator": rung.ran.simulator,
            "strange": {
                name: differences.strange([arrays[name] for arrays in rung.ran.outputs]) for name in rung.ran.outputs[0]
            },
            "problem": problem,
            "detections": None if found is None else sum(row["score"] >= score for rows in found for row in rows),
            "previous": beside(*previous, *own, varying, score) if previous else None,
            "first": beside(*first, *own, varying, score) if first else None,
        }
        first, previous = first or own, own


def decoded(rung: Rung, images: Sequence[Image], settings: dict) -> tuple[list[list[dict]] | None, str | None]:
    """The detections, or why there are none: what the decoder says of outputs that do not fit it."""
    try:
        found = detections(rung, images, settings)
    except (Complaint, ValueError, IndexError) as error:  # NumPy complains of outputs of another form
        return None, f"its outputs cannot be decoded: {error}"
    for image, rows in zip(images, found, strict=True):
        if not all(math.isfinite(number) for row in rows for number in (*row["bbox"], row["score"])):
            return None, f"{image.entry['file']!r}: a detection is no number"
    return found, None


def beside(first: Rung, before: list | None, second: Rung, after: list | None, varying: set[str], score: float) -> dict:
    """What changed from one rung to another."""
    known = before is not None and after is not None
    return {
        "rung": first.name,
        "tensors": differences.tensors(first.ran.outputs, second.ran.outputs, varying),
        "detections": pairs.changes(before, after, score) if known else None,
    }
