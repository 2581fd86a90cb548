"""COCO ground truth: a json file with images, annotations and categories."""

import json
from pathlib import Path

from detport.datasets import annotations
from detport.errors import UsageError
from detport.files import stand_in

ANNOTATIONS = "file"


def read(path: Path) -> dict:
    """The annotation file, checked as far as index and metric rely on it."""
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; put the annotations there or correct the path") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is {stand_in(path) or f'not valid JSON ({error})'}") from error
    if not isinstance(truth, dict):
        raise UsageError(f"{path}: expected an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth.get(key), list):
            raise UsageError(f"{path}: the list {key!r} is missing; this is not a COCO annotation file")
    if not truth["images"]:
        raise UsageError(f"{path}: lists no images")
    require(path, truth["images"], "images", {"id": int, "file_name": str, "width": int, "height": int})
    require(path, truth["categories"], "categories", {"id": int, "name": str})
    require(path, truth["annotations"], "annotations", {"id": int, "image_id": int, "category_id": int, "bbox": list})
    unique(path, truth, "images", "file_name")
    for key in ("images", "categories", "annotations"):
        unique(path, truth, key, "id")
    annotations.check(path, truth)
    return truth


def require(path: Path, entries: list, name: str, keys: dict[str, type]) -> None:
    """Every entry has these keys with these types."""
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UsageError(f"{path}: {name}[{i}] is not an object")
        for key, kind in keys.items():
            if not isinstance(entry.get(key), kind) or isinstance(entry.get(key), bool):
                raise UsageError(
                    f"{path}: {name}[{i}].{key}: expected {kind.__name__}, found {annotations.shown(entry.get(key))}"
                )


def unique(path: Path, truth: dict, name: str, key: str) -> None:
    """No two entries of a list share `key`."""
    seen = set()
    for i, entry in enumerate(truth[name]):
        if entry[key] in seen:
            raise UsageError(f"{path}: {name}[{i}].{key}: {annotations.shown(entry[key])} is there twice")
        seen.add(entry[key])


def count(dataset: dict) -> int:
    """Number of images, without parsing the file: fast enough for every start of the workflow."""
    return Path(dataset["annotations"]).read_bytes().count(b'"file_name"')


def files(dataset: dict) -> list[str]:
    """Every file of the ground truth."""
    return [dataset["annotations"]]


def scored(dataset: dict) -> tuple[Path, list[str]]:
    """Folder and names of the files that detections are scored against."""
    path = Path(dataset["annotations"])
    return path.parent, [path.name]


def index_rows(dataset: dict) -> list[dict]:
    """One row per image of the ground truth, sorted by image id."""
    images = sorted(read(Path(dataset["annotations"]))["images"], key=lambda image: image["id"])
    return [
        {"image_id": image["id"], "file": image["file_name"], "width": image["width"], "height": image["height"]}
        for image in images
    ]
