"""Pascal VOC ground truth: a list of image names, one XML file per image, one image of that name.

Without the list, every XML file of the folder counts.
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from detport import classes
from detport.datasets import annotations, listing
from detport.errors import UsageError
from detport.files import sha256, stand_in

ANNOTATIONS = "folder"
TURNED = False  # VOC's are about the stored pixels
FARTHEST = 1e9  # pixels; nothing in an image is farther away
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def index_rows(config: dict) -> list[dict]:
    """One row per image, in the order of the image set; the VOC name is the image id."""
    folder, images = Path(config["annotations"]), Path(config["images"])
    entries = {name: read_annotation(folder / f"{name}.xml") for name in names_of(config)}
    return [
        {"image_id": name, "file": image_file(images, name), "width": entry["width"], "height": entry["height"]}
        for name, entry in entries.items()
    ]


def image_file(folder: Path, name: str) -> str:
    """The file of an image: a JPEG as VOC's are, else what there is of that name."""
    endings = (ending for suffix in listing.SUFFIXES for ending in (suffix, suffix.upper()))
    return next((f"{name}{ending}" for ending in endings if (folder / f"{name}{ending}").exists()), f"{name}.jpg")


def names_of(config: dict) -> list[str]:
    """Names of a dataset's images: those of its image set, or else of all its annotations."""
    if "image_set" in config:
        return image_names(Path(config["image_set"]))
    folder = Path(config["annotations"])
    names = sorted(
        name.removesuffix(".xml") for name in listing.walk(folder) if name.endswith(".xml") and "/" not in name
    )
    if not names:
        raise UsageError(f"{folder}: holds no .xml file; put the annotations there or correct the path")
    return names


def count(config: dict) -> int:
    """Number of images; FileNotFoundError without what names them."""
    if "image_set" not in config:
        Path(config["annotations"]).stat()
        return len(names_of(config))
    return sum(bool(line.strip()) for line in Path(config["image_set"]).read_bytes().splitlines())


def files(config: dict) -> list[str]:
    """Every file of the ground truth."""
    folder, names = scored(config)
    return [*(config[key] for key in ("image_set",) if key in config), *(str(folder / name) for name in names)]


def scored(config: dict) -> tuple[Path, list[str]]:
    """Folder and names of the files that detections are scored against."""
    return Path(config["annotations"]), [f"{name}.xml" for name in names_of(config)]


def categories(config: dict) -> list[dict]:
    """Id and name of what the ground truth has objects of."""
    return truth(config, [{"image_id": name} for name in names_of(config)])["categories"]


def truth(config: dict, rows: list[dict]) -> dict:
    """The ground truth of the index's rows in COCO's form: classes have no numbers, so a category's id is its name;
    boxes begin at 0, and a difficult object is a crowd, which nobody has to find."""
    folder = Path(config["annotations"])
    objects = ground_truth(folder, [str(row["image_id"]) for row in rows])
    boxes = []
    for row, found in zip(rows, objects.values(), strict=True):
        for each in found:
            x1, y1, x2, y2 = each["box"]
            box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "where": str(folder / f"{row['image_id']}.xml"),
                    "image_id": row["image_id"],
                    "category_id": each["name"],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(each["difficult"]),
                }
            )
    names = sorted({each["category_id"] for each in boxes})
    return {
        "source": config["annotations"],
        "images": [row | {"id": row["image_id"]} for row in rows],
        "categories": [{"id": name, "name": name} for name in names],
        "annotations": boxes,
    }


def source(config: dict, rows: list[dict]) -> dict[str, str]:
    """Name and digest of the ground truth."""
    folder = Path(config["annotations"])
    return {"file": folder.name, "sha256": digest(folder, (str(row["image_id"]) for row in rows))}


def digest(folder: Path, names: Iterable[str]) -> str:
    """sha256 of the lines that sha256sum prints for the annotations of these images, in this order."""
    total = hashlib.sha256()
    for name in names:
        path = folder / f"{name}.xml"
        total.update(f"{sha256(path) if path.is_file() else 'missing'}  {path.name}\n".encode())
    return total.hexdigest()


def ground_truth(folder: Path, names: Iterable[str]) -> dict[str, list[dict]]:
    """Objects of these images: name, box (1-based corners), difficult."""
    return {name: read_annotation(folder / f"{name}.xml")["objects"] for name in names}


def image_names(path: Path) -> list[str]:
    """Names of an image set: one per line, each once."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; put the image set there or correct image_set") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8; an image set has one image name per line") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise UsageError(f"{path}: names no images")
    seen = set()
    for name in names:
        if Path(name).name != name or "\0" in name:
            reason = stand_in(path)
            raise UsageError(
                f"{path}: {name!r} is not the name of an image; use names without folder and extension"
                + (f". The file is {reason}" if reason else "")
            )
        if name in seen:
            raise UsageError(f"{path}: {name!r} is there twice; remove one")
        seen.add(name)
    return names


def read_annotation(path: Path) -> dict:
    """width, height and objects of one annotation file."""
    root = parse(path)
    size = child(path, root, "size")
    width, height = (number(path, size, key) for key in ("width", "height"))
    if min(width, height) < 1 or not isinstance(width, int) or not isinstance(height, int):
        raise UsageError(f"{path}: the image is {width}x{height} pixels; correct <size> to whole positive numbers")
    return {"width": width, "height": height, "objects": [read_object(path, node) for node in root.findall("object")]}


def read_object(path: Path, node: ElementTree.Element) -> dict:
    """One <object>; without <difficult> it is not difficult."""
    corners = child(path, node, "bndbox")
    x1, y1, x2, y2 = box = [number(path, corners, key) for key in CORNERS]
    if x2 < x1 or y2 < y1:
        raise UsageError(f"{path}: box {box} ends before it starts; correct its corners (xmin ymin xmax ymax)")
    difficult = node.find("difficult") is not None and number(path, node, "difficult") != 0
    name = classes.one_line(f"{path}: <name>", text(path, node, "name"))
    return {"name": name, "box": box, "difficult": difficult}


def child(path: Path, node: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = node.find(tag)
    if found is None:
        raise UsageError(f"{path}: <{node.tag}> has no <{tag}>; this is not a VOC annotation, or it is incomplete")
    return found


def text(path: Path, node: ElementTree.Element, tag: str) -> str:
    return (child(path, node, tag).text or "").strip()


def number(path: Path, node: ElementTree.Element, tag: str) -> int | float:
    """Whole numbers as integers; some files of later VOC years have fractions."""
    found = text(path, node, tag)
    value = float(found) if annotations.NUMBER.fullmatch(found) else math.inf
    if abs(value) > FARTHEST:
        raise UsageError(f"{path}: <{tag}> is {found[:40]!r}; correct it to a number of pixels")
    return int(value) if value.is_integer() else value


def parse(path: Path) -> ElementTree.Element:
    """The XML tree. A document type is refused: only there can entities be declared, which may grow without bound or
    name other files, and no VOC annotation has one."""

    def refuse(*_: object) -> None:
        raise UsageError(f"{path}: declares a document type (DOCTYPE), which a VOC annotation never has; remove it")

    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; add the annotation or take the image out of the set") from error
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding it cannot read
        reason = stand_in(path) or f"not well-formed XML ({error}); replace the file"
        raise UsageError(f"{path}: is {reason}") from error
    return builder.close()
