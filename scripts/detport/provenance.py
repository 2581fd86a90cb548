"""What a report says of its origin: digests of files, versions of packages."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

import safetensors

from detport.files import sha256

PACKAGES = (
    "snakemake",
    "torch",
    "onnx",
    "onnxsim",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "hotcoco",
)


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


def versions() -> dict[str, str | None]:
    """Versions of what made the report; None for a package that this machine lacks."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
