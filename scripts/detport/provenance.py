"""What a report says of its origin: digests of files, and which of them a person brought from another machine."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import safetensors

from detport import made, schemas
from detport.files import sha256


def digests(files: Sequence[Path]) -> dict[str, str]:
    """sha256 by path; converted weights also tell the checkpoint that they came from."""
    found = {}
    for path in files:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="numpy") as weights:
                header = weights.metadata()
            found[header["source"]] = header["source_sha256"]
        found[str(path)] = sha256(path)
    return found


def measured_with(files: Sequence[Path], annotations: Iterable[str]) -> dict[str, str]:
    """sha256 of the checkpoint or ready onnx that files were made from, by their records, and of the ground truth."""
    found = dict.fromkeys(("annotations",), next(iter(annotations), None))
    for path in files:
        sources = (made.read(path) or {}).get("sources", {})
        for role in ("checkpoint", "onnx"):
            for _, _, digest in sources.get(role, {"files": {}})["files"].values():
                found[role] = digest
    return {role: digest for role, digest in found.items() if digest}


def mismatch(references: Iterable[dict], own: Mapping[str, str]) -> str | None:
    """The first reference whose figures were measured with something else than this run's, in words."""
    for i, reference in enumerate(references):
        for role, digest in reference["digests"].items():
            if own.get(role, digest) != digest:
                return (
                    f"references.{i}: {reference['name']!r} was measured with {role} {digest[:12]}…, this run has"
                    f" {own[role][:12]}…; record it again (record_reference.py), or take it out"
                )
    return None


def took(files: Sequence[Path]) -> list[dict]:
    """Of every stage that made one of these files: its jobs, their seconds in all, and the most memory that one took.

    A job that made several files has a record beside each, which differ by little: the last one counts.
    """
    jobs: dict[tuple, dict] = {}
    for path in dict.fromkeys(files):
        record = made.read(path)
        if record is not None:
            jobs[record["identity"], path.parent] = record
    found: dict[str, dict] = {}
    for record in jobs.values():
        for stage, seconds in record["seconds"].items():
            entry = found.setdefault(stage, {"stage": stage, "jobs": 0, "seconds": 0.0, "peak_bytes": 0})
            entry["jobs"] += 1
            entry["seconds"] = round(entry["seconds"] + seconds, 3)
            entry["peak_bytes"] = max(entry["peak_bytes"], record.get("memory", {}).get(stage, 0))
    return list(found.values())


def memory(files: Iterable[Path]) -> int | None:
    """Most memory of a process of infer, by the records of what was made from its outputs; None where another machine
    ran the model, or a device with a memory of its own, and where the records are of before it was kept."""
    found = []
    for record in filter(None, map(made.read, files)):
        taken = record.get("memory", {}).get("infer")
        if taken is None or "outputs" in record["brought"]:
            continue
        about = schemas.plugin("backends", record["recipes"]["infer"]["settings"]["backend"]["family"])
        devices = [step["device"] for step in record["trail"] if step["stage"] == "infer" and "device" in step]
        if not devices and not about.get("own_memory"):
            found.append(taken)
    return max(found, default=None)


def brought(files: Sequence[Path]) -> dict[str, dict]:
    """Of each measured file that rests on outputs or a log from another machine: how many files, and their digest."""
    return {
        f"{role} behind {path}": told
        for path in files
        for role, told in (made.read(path) or {}).get("brought", {}).items()
    }
