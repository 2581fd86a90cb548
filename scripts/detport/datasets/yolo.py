"""YOLO ground truth: a folder of images, a text file of labels for each, and a data.yaml with the classes' names.

The labels of images/a/b.jpg are labels/a/b.txt, `images` being the last folder of that name on the way; where there is
none, they lie beside the image. A line is the class's number and either a box (centre x and y, width, height) or a
polygon (x y x y …), in fractions of the image as its EXIF turns it. An image without a file of labels has no objects.
"""

import hashlib
import logging
from pathlib import Path, PurePosixPath

from detport import classes
from detport.datasets import annotations, listing
from detport.datasets.folder import image_id
from detport.errors import UsageError
from detport.files import sha256

log = logging.getLogger("detport")

ANNOTATIONS = "file"
TURNED = True
OVER = 0.01  # part of a side by which a label may reach over the image's edge
LARGE = annotations.LONGEST_SIDE
BOX, CORNER = 4, 2  # numbers of a box, and of a polygon's corner
SPLITS = ("train", "val", "valid", "test")


def index_rows(dataset: dict) -> list[dict]:
    """One row per image, in the order of their names; the name without the extension is the image id. Every label is
    checked."""
    rows = [{"image_id": image_id(file), "file": file} for file in image_files(dataset)]
    if not truth(dataset, rows)["annotations"]:
        first = label_file(dataset["images"], rows[0]["file"])
        raise UsageError(
            f"{dataset['images']}: none of its {len(rows)} images has a label, the first would be in {first}; correct"
            " datasets.NAME.images, or use kind: folder for images alone"
        )
    return rows


def categories(dataset: dict) -> list[dict]:
    """Id and name of what the ground truth has objects of; the id is the number of the class."""
    return [{"id": i, "name": name} for i, name in enumerate(classes.read_names(Path(dataset["annotations"])))]


def image_files(dataset: dict) -> list[str]:
    """The images of the image set or of the split, or else all of the folder."""
    folder, described = Path(dataset["images"]), Path(dataset["annotations"])
    if "image_set" in dataset:
        found = listed(Path(dataset["image_set"]), folder)
    elif "split" in dataset:
        found = [file for place in places(described, dataset["split"]) for file in images_at(place, folder, described)]
    else:
        splits = [name for name in SPLITS if any(holds(folder, place) for place in places(described, name, False))]
        if len(splits) > 1:
            raise UsageError(
                f"{folder}: holds the splits {', '.join(splits)} of {described}; choose one: datasets.NAME.split, or"
                " let datasets.NAME.images name its folder"
            )
        found = listing.image_files(folder)
    if not found:
        raise UsageError(f"{folder}: holds no image of the dataset; put them there or correct the path")
    return sorted(set(found))


def holds(folder: Path, place: Path) -> bool:
    """Whether a split lies inside the folder and is not all of it."""
    return listing.relative(place, folder) not in (None, ".")


def places(described: Path, split: str, required: bool = True) -> list[Path]:
    """The folders, or files that list images, of a split of data.yaml, which names them relative to its `path` or to
    itself; exporters write ../ too many, and the path of another machine."""
    content = classes.read_yaml(described)
    entry = content.get(split)
    entries = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
    top = content.get("path")
    bases = [described.parent / top, described.parent] if isinstance(top, str) else [described.parent]
    found = []
    for each in map(str, entries):
        tried = [base / name for base in bases for name in (each, each.removeprefix("../"))]
        found += [path for path in tried if path.exists()][:1]
        if required and not any(path.exists() for path in tried):
            raise UsageError(
                f"{described}: {split}: there is no {each!r}, tried {tried[0]}; correct it, or leave"
                " datasets.NAME.split out and let datasets.NAME.images name the folder"
            )
    if required and not entries:
        known = [key for key in content if key in SPLITS]
        raise UsageError(f"{described}: {split}: no such split; it has {', '.join(known) or 'none'}")
    return found


def images_at(place: Path, folder: Path, described: Path) -> list[str]:
    """The images of a split, which is a folder or a file that lists them."""
    if not place.is_dir():
        return listed(place, folder)
    top = listing.relative(place, folder)
    if top is None:
        raise UsageError(
            f"{described}: {place} is not inside {folder}; let datasets.NAME.images name a folder above it"
        )
    return [str(PurePosixPath(top) / name) for name in listing.image_files(place)]


def listed(path: Path, folder: Path) -> list[str]:
    """The images that a file lists, one path per line, relative to the file or to the folder of the images."""
    names = []
    for number, line in enumerate(classes.text_of(path).split("\n"), start=1):
        if line.strip():
            paths = [top / line.strip() for top in (path.parent, folder)]
            inside = [listing.relative(each, folder) for each in paths if each.is_file()]
            if not inside or inside[0] is None:
                raise UsageError(
                    f"{path}:{number}: {line.strip()!r} is no file inside {folder}; correct the list or"
                    " datasets.NAME.images"
                )
            names.append(inside[0])
    return names


def label_file(folder: str | Path, file: str) -> Path:
    """Where the labels of an image are."""
    parts = (Path(folder) / file).with_suffix(".txt").parts
    at = max((i for i, part in enumerate(parts[:-1]) if part == "images"), default=None)
    return Path(*parts) if at is None else Path(*parts[:at], "labels", *parts[at + 1 :])


def truth(dataset: dict, rows: list[dict]) -> dict:
    """The ground truth of the index's rows in COCO's form. Where a row has no size yet, boxes are in fractions, and the
    image counts as large."""
    known, found = categories(dataset), []
    for row in rows:
        path = label_file(dataset["images"], row["file"])
        for each in labels(path, len(known)):
            own = {"id": len(found) + 1, "image_id": row["image_id"], "where": str(path)}
            found.append(own | annotation(each, row.get("width", 1), row.get("height", 1)))
    return {
        "source": dataset["annotations"],
        "images": [{"width": LARGE, "height": LARGE} | row | {"id": row["image_id"]} for row in rows],
        "categories": known,
        "annotations": found,
    }


def labels(path: Path, count: int) -> list[tuple[float, ...]]:
    """The class and the fractions of every line, each line once; `count` is the number of classes."""
    if not path.exists():
        return []
    found = [
        label(f"{path}:{number}", line.split(), count)
        for number, line in enumerate(classes.text_of(path).split("\n"), start=1)
        if line.strip()
    ]
    return list(dict.fromkeys(found))


def label(where: str, words: list[str], count: int) -> tuple[float, ...]:
    """The class and the fractions of a line, checked."""
    numbers = [float(word) if annotations.NUMBER.fullmatch(word) else None for word in words]
    if None in numbers:
        raise UsageError(f"{where}: {words[numbers.index(None)][:40]!r} is no number; expected CLASS X Y WIDTH HEIGHT")
    kind, *fractions = numbers
    if len(fractions) != BOX and (len(fractions) < annotations.POLYGON or len(fractions) % CORNER):
        raise UsageError(
            f"{where}: has {len(numbers)} numbers; expected CLASS X Y WIDTH HEIGHT, or CLASS X Y X Y X Y …"
        )
    if not (kind.is_integer() and 0 <= kind < count):
        raise UsageError(f"{where}: class {words[0][:40]} has no name; names has {count}, from 0")
    wrong = next((value for value in fractions if not -OVER <= value <= 1 + OVER), None)
    if len(fractions) == BOX and min(fractions[2:]) < 0:
        wrong = min(fractions[2:])
    if wrong is not None:
        raise UsageError(f"{where}: {wrong:g} is no fraction of the image; divide pixels by its width and height")
    return kind, *fractions


def annotation(label: tuple[float, ...], width: int, height: int) -> dict:
    """Category, box and, of a polygon, mask of a label in pixels."""
    kind, *fractions = label
    if len(fractions) == BOX:
        x, y, w, h = fractions
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        mask = {}
    else:
        xs, ys = [x * width for x in fractions[::2]], [y * height for y in fractions[1::2]]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        mask = {"segmentation": [[each for corner in zip(xs, ys, strict=True) for each in corner]]}
    return {"category_id": int(kind), "bbox": box, "area": box[2] * box[3], "iscrowd": 0, **mask}


def source(dataset: dict, rows: list[dict]) -> dict[str, str]:
    """Name and digest of the ground truth."""
    return {"file": Path(dataset["annotations"]).name, "sha256": digest(dataset, [row["file"] for row in rows])}


def digest(dataset: dict, images: list[str]) -> str:
    """sha256 of the lines that sha256sum prints for data.yaml and the labels of these images, in this order."""
    described = Path(dataset["annotations"])
    total = hashlib.sha256(f"{sha256(described)}  {described.name}\n".encode())
    for file in images:
        path = label_file(dataset["images"], file)
        name = Path(file).with_suffix(".txt").as_posix()
        total.update(f"{sha256(path) if path.is_file() else 'missing'}  {name}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def count(dataset: dict) -> int:
    """Number of images; FileNotFoundError where what names them is not there."""
    for key in ("images", "annotations", "image_set"):
        Path(dataset.get(key, ".")).stat()
    return len(image_files(dataset))


def files(dataset: dict) -> list[str]:
    """Every file of the ground truth, and where one of labels may be."""
    return [*([dataset["image_set"]] if "image_set" in dataset else []), *scored(dataset)[1]]


def scored(dataset: dict) -> tuple[Path, list[str]]:
    """Folder and names of the files that detections are scored against."""
    labels = [str(label_file(dataset["images"], file)) for file in image_files(dataset)]
    return Path(), [dataset["annotations"], *labels]
