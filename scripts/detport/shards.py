"""The dataset's index, its shards, and how an image is found again in either."""

import csv
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path

from detport.errors import Failure, UsageError
from detport.files import atomic

INDEX_COLUMNS = ("image_id", "file", "width", "height", "bytes", "sha256")
# A stem that shard.info and the Ascend tools can take as it is: no white space, no control character, not too long.
PLAIN_STEM = re.compile(r"[^\s\x00-\x1f\x7f]+")
SIZE, NUMBER = re.compile(r"[0-9]{1,18}"), re.compile(r"0|[1-9][0-9]{0,18}")
MOST = 9999  # shards: their folders have names of four digits
MANY, FEW = 100, 4  # shards, and images of each, from which on a dataset is cut too small
LONGEST_STEM = 120  # bytes; a file system takes 255, tools append their own endings


def write_index(path: Path, rows: list[dict]) -> None:
    """Write index.tsv; the rows are one per image of the ground truth, in order."""
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, INDEX_COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_index(path: Path) -> list[dict]:
    """Rows of index.tsv with numbers as numbers."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            columns = tuple(next(reader, ()))
            if columns not in (INDEX_COLUMNS, INDEX_COLUMNS[:-1]):  # the last one may be left out
                raise UsageError(f"{path}: not an index; the first line must hold {', '.join(INDEX_COLUMNS)}")
            lines = [line for line in reader if line]
        if not {*map(len, lines)} <= {len(columns)}:
            raise UsageError(f"{path}: a line has not {len(columns)} columns; make the index again")
        kinds = [READ.get(column, str) for column in columns]
        rows = [{column: kind(text) for column, kind, text in zip(columns, kinds, line, strict=True)} for line in lines]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}: not a whole index ({error}); make it again") from error
    return rows


def size(text: str) -> int:
    """A number of pixels or bytes."""
    if not SIZE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no size")
    return int(text)


def image_id(text: str) -> int | str:
    """COCO's ids are numbers; VOC's are names, often digits with leading zeros."""
    return int(text) if NUMBER.fullmatch(text) else text


READ = {"image_id": image_id, "width": size, "height": size, "bytes": size}  # columns that are not text


def sizes(dataset: dict, images: int, sample: int | None) -> tuple[int, int | str]:
    """Images and shards of a dataset of so many images, or of its sample; a number of shards in the configuration is
    for all of them."""
    return (images, dataset["shards"]) if sample is None or sample >= images else (sample, "auto")


def advice(images: int, shards: int | str) -> str | None:
    """What is wrong with a number of shards that works all the same."""
    if not images or shards == "auto":  # not known yet
        return None
    if shards > images:
        problem = f"{shards - images} will be empty"
    elif shards >= MANY and images < FEW * shards:
        problem = "so many jobs take longer to start than to run"
    else:
        return None
    return f"{shards} shards of {images} images: {problem}; without the key they suit the backend"


def part(rows: list, shard: int, shards: int) -> list:
    """Shard `shard` of 0 .. shards-1: contiguous, sizes that differ by one at most."""
    return rows[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]


def parse_shard(text: str) -> tuple[int, int]:
    """K and N of a shard given as K/N, K from 0."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UsageError(f"--shard {text}: expected K/N with 0 <= K < N, for example 0/4")
    return int(match[1]), int(match[2])


def bin_stem(file: str) -> str:
    """Name of an image's .bin without the extension: the image's own stem behind its folders, wherever tools can read
    it."""
    stem = "__".join(Path(file).with_suffix("").parts)
    if PLAIN_STEM.fullmatch(stem) and len(stem.encode()) <= LONGEST_STEM and not stem.startswith((".", "-")):
        return stem
    return f"image_{hashlib.sha256(file.encode()).hexdigest()[:16]}"


def write_info(path: Path, images: list[dict], folder: Path) -> None:
    """shard.info: `INDEX PATH.bin WIDTH HEIGHT` per line, for the tools of the guides."""
    lines = [f"{i} {folder / image['bin']} {image['width']} {image['height']}\n" for i, image in enumerate(images)]
    path.write_text("".join(lines), encoding="utf-8")


def read_shard(folder: Path, needed: Iterable[str] = ()) -> dict:
    """shard.json of a shard folder, checked as far as names and sizes go; every image has what is `needed`."""
    path = folder / "shard.json"
    try:
        shard = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; {folder} is not a shard (make it with preprocess.py)") from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path}: not valid JSON ({error}); make the shard again") from error
    whole = isinstance(shard, dict) and isinstance(shard.get("images"), list) and isinstance(shard.get("skipped"), list)
    if not whole or not all(is_entry(image) and is_image(image) for image in shard["images"]):
        raise Failure(f"{path}: not what preprocess.py writes; make the shard again")
    for image in shard["images"]:
        if missing := [key for key in needed if key not in image]:
            raise Failure(f"{path}: {image['file']!r} has no {', '.join(missing)}; make the shard again")
    if not all(is_entry(image) and isinstance(image.get("reason"), str) for image in shard["skipped"]):
        raise Failure(f"{path}: an entry of skipped is not what preprocess.py writes; make the shard again")
    return shard


def is_entry(image: object) -> bool:
    """Whether an entry of shard.json says which image it is."""
    known = isinstance(image, dict) and isinstance(image.get("file"), str)
    return known and isinstance(image.get("image_id"), int | str) and not isinstance(image["image_id"], bool)


def is_image(image: dict) -> bool:
    """Whether an entry of shard.json names a file in its own folder, and sizes that are sizes."""
    name = image.get("bin")
    scale = image.get("scale", 1)
    pairs = [scale if isinstance(scale, list) else [scale, scale]]
    pairs += [image[key] for key in ("resized", "size") if key in image]
    sizes = [image[key] for key in ("width", "height", "bytes") if key in image]
    corner = [image[key] for key in ("left", "top") if key in image]
    return (
        isinstance(name, str)
        and Path(name).name == name
        and "\0" not in name
        and isinstance(image.get("canvas", ""), str)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        and all(isinstance(value, int | float) and 0 < value < math.inf for value in (*sizes, *itertools.chain(*pairs)))
        and all(isinstance(value, int | float) and math.isfinite(value) for value in corner)
    )
