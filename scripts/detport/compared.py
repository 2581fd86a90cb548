"""Which figures are resampled, because a gate compares them by statistics or the dataset is a sample."""

import re
from collections.abc import Iterable
from pathlib import Path

from detport import config, made, schemas

LONGEST = 60  # characters of a name


def measures(model: dict, dataset: dict, backends: Iterable[str], sample: int | None) -> dict[str, list[str]]:
    """The figures that are resampled, by whose detections: a backend by its name, a file by its path."""
    backends = list(backends)
    found: dict[str, set[str]] = {name: set() for name in backends}
    for gate in model["gates"]:
        for name in backends:
            if gate["margin"] is not None and asked(gate, name, backends):
                found[name].add(gate["measure"])
                found.setdefault(gate["against"], set()).add(gate["measure"])
    if config.sample_size(dataset, sample) is not None:
        about = schemas.plugin("metrics", model["metric"]["kind"])
        measures = [gate["measure"] for gate in model["gates"]]
        gated = [each for each in measures if "resampled" in about and re.fullmatch(about["resampled"], each)]
        for name in backends:
            found[name].update(gated, about.get("intervals", ()))
    kinds = model["metric"].get("iou_types")  # of COCO, what overlaps are measured of
    there = {
        name: sorted(each for each in wanted if kinds is None or each.split(".")[0] in kinds)
        for name, wanted in found.items()
    }
    return {name: wanted for name, wanted in there.items() if wanted}


def asked(gate: dict, backend: str, backends: list[str]) -> bool:
    """Whether a gate is judged for a backend in a run of these backends: both of its sides must be in the run, and be
    two."""
    for_this = backend != gate["against"] and (gate["backends"] is None or backend in gate["backends"])
    return for_this and (gate["against"] is None or config.recorded(gate) is not None or gate["against"] in backends)


def places(model: str, wanted: Iterable[str], backends: Iterable[str]) -> dict[str, str]:
    """Where the resamples of these backends and files of recorded detections are."""
    backends = set(backends)
    return {
        name: f"results/{model}/{name}/resampled.json"
        if name in backends
        else f"results/{model}/recorded/{short(name)}.json"
        for name in wanted
    }


def short(file: str) -> str:
    """A name for a file, which any file may have: its own one, and a part of the digest of its path."""
    own = re.sub(r"[^A-Za-z0-9_]", "_", Path(file).name.split(".")[0])[:LONGEST] or "_"
    return f"{own}-{made.digest_of(file)[:8]}"
