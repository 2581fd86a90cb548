"""What a report says of its origin: digests of files, and which of them a person brought from another machine."""

from collections.abc import Sequence
from pathlib import Path

import safetensors

from detport import made
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


def brought(files: Sequence[Path]) -> dict[str, dict]:
    """Of each measured file that rests on outputs or a log from another machine: how many files, and their digest."""
    return {
        f"{role} behind {path}": told
        for path in files
        for role, told in (made.read(path) or {}).get("brought", {}).items()
    }
