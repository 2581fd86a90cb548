"""COCO ground truth: a json file with images, annotations and categories.

Files in the wild are taken with what leaves no doubt: ids that are text or whole numbers with a point, an annotation
that names its category instead of giving the id, has no area or iscrowd, or no id of its own.
"""

import json
import logging
from pathlib import Path

import orjson

from detport import classes
from detport.datasets import annotations, listing
from detport.errors import UsageError
from detport.files import sha256, stand_in

log = logging.getLogger("detport")

ANNOTATIONS = "file"
TURNED = False  # COCO's are about the stored pixels


def read(path: Path) -> dict:
    """The annotation file, checked as far as index and metric rely on it, with ids and optional keys in one form."""
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; put the annotations there or correct the path") from error
    try:
        return checked(path, orjson.loads(text))
    except (ValueError, UsageError):  # Python's own reader has NaN and endless numbers, of which a complaint tells
        return checked(path, parsed(path, text))


def parsed(path: Path, text: bytes) -> object:
    """The JSON of a file, as Python reads it."""
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is {stand_in(path) or f'not valid JSON ({error})'}") from error


def checked(path: Path, truth: object) -> dict:
    """Annotations in one form, if they are that."""
    if not isinstance(truth, dict):
        raise UsageError(f"{path}: expected an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth.get(key), list):
            raise UsageError(f"{path}: the list {key!r} is missing; this is not a COCO annotation file")
    if not truth["images"]:
        raise UsageError(f"{path}: lists no images")
    require(path, truth["images"], "images", {"file_name": str})
    require(path, truth["categories"], "categories", {"name": str})
    require(path, truth["annotations"], "annotations", {"bbox": list})
    one_form(path, truth)
    unique(path, truth, "images", "file_name")
    for key in ("images", "categories"):
        unique(path, truth, key, "id")
    annotations.check(path, truth)
    fill(truth)
    return truth | {"source": str(path)}


def one_form(path: Path, truth: dict) -> None:
    """Ids and sizes as whole numbers where they are; annotations are numbered anew, because nothing refers to them, and
    for COCO's tools a match with number 0 is none."""
    for i, image in enumerate(truth["images"]):
        where = f"{path}: images[{i}]"
        image["id"] = annotations.identity(f"{where}.id", image.get("id"))
        for side in ("width", "height"):
            image[side] = annotations.whole(f"{where}.{side}", image.get(side))
    for i, category in enumerate(truth["categories"]):
        category["id"] = annotations.identity(f"{path}: categories[{i}].id", category.get("id"))
        classes.one_line(f"{path}: categories[{i}].name", category["name"])
    ids = {category["id"] for category in truth["categories"]}
    named: dict[str, list] = {}
    for category in truth["categories"]:
        named.setdefault(category["name"], []).append(category["id"])
    for i, annotation in enumerate(truth["annotations"]):
        annotation["id"] = i + 1
    images, kinds = ([entry.get(key) for entry in truth["annotations"]] for key in ("image_id", "category_id"))
    if annotations.are_identities(images) and annotations.are_identities(kinds) and ids.issuperset(kinds):
        return
    for i, annotation in enumerate(truth["annotations"]):
        where = f"{path}: annotations[{i}]"
        annotation["image_id"] = annotations.identity(f"{where}.image_id", annotation.get("image_id"))
        category = annotations.identity(f"{where}.category_id", annotation.get("category_id"))
        if category not in ids and len(named.get(category, [])) > 1:
            raise UsageError(f"{where}.category_id: several categories are called {category!r}; give the id")
        annotation["category_id"] = category if category in ids else named.get(category, [category])[0]


def fill(truth: dict) -> None:
    """What an annotation may leave out: the area is then its box's, and it is no crowd."""
    for annotation in truth["annotations"]:
        if annotation.get("area") is None:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)


def require(path: Path, entries: list, name: str, keys: dict[str, type]) -> None:
    """Every entry has these keys with these types."""
    if {*map(type, entries)} <= {dict} and all(
        {*map(type, (entry.get(key) for entry in entries))} <= {kind} for key, kind in keys.items()
    ):
        return
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UsageError(f"{path}: {name}[{i}] is not an object")
        for key, kind in keys.items():
            if not isinstance(entry.get(key), kind):
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
    if dataset.get("split"):
        return len(of_split(dataset, read(Path(dataset["annotations"]))))
    return Path(dataset["annotations"]).read_bytes().count(b'"file_name"')


def files(dataset: dict) -> list[str]:
    """Every file of the ground truth."""
    return [dataset["annotations"]]


def scored(dataset: dict) -> tuple[Path, list[str]]:
    """Folder and names of the files that detections are scored against."""
    path = Path(dataset["annotations"])
    return path.parent, [path.name]


def truth(dataset: dict, rows: list[dict]) -> dict:
    """The ground truth of the whole file."""
    return read(Path(dataset["annotations"]))


def source(dataset: dict, rows: list[dict]) -> dict[str, str]:
    """Name and digest of the ground truth."""
    path = Path(dataset["annotations"])
    return {"file": path.name, "sha256": sha256(path)}


def categories(dataset: dict) -> list[dict]:
    """Id and name of what the ground truth has objects of."""
    return read(Path(dataset["annotations"]))["categories"]


def of_split(dataset: dict, truth: dict) -> list[dict]:
    """The images of a dataset's split, or all of them if it names none."""
    split, found = dataset.get("split"), sorted({str(image["split"]) for image in truth["images"] if "split" in image})
    if split is None:
        if len(found) > 1:
            log.warning("%s: has the splits %s; all are taken", dataset["annotations"], ", ".join(found))
        return truth["images"]
    if split not in found:
        known = f"it has {', '.join(found)}" if found else "its images name none; remove the key"
        raise UsageError(f"{dataset['annotations']}: no image is of the split {split!r} (datasets.NAME.split); {known}")
    return [image for image in truth["images"] if str(image.get("split")) == split]


def index_rows(dataset: dict) -> list[dict]:
    """One row per image of the ground truth, sorted by image id, those that are text behind the numbers."""
    path = Path(dataset["annotations"])
    images = sorted(of_split(dataset, read(path)), key=lambda image: annotations.order(image["id"]))
    return [
        {
            "image_id": image["id"],
            "file": listing.within(image["file_name"], str(path), Path(dataset["images"])),
            "width": image["width"],
            "height": image["height"],
        }
        for image in images
    ]
