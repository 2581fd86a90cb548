"""Detections by columns: what an evaluation works on, and the form in which a detections file holds them besides COCO
results. An object for each of half a million detections takes longer to read than to score.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import orjson

from detport import classes

KEYS = ("image_id", "category_id", "bbox", "score")  # of a COCO result, in the order in which decoders write them
MASK = "segmentation"
# What a file may hold a column as, by its name; a box by its corners where these are exact and its sides are not.
TYPES = {
    "image": ("|u1", "<u2", "<u4"),
    "category": ("|u1", "<u2", "<u4"),
    "sides": ("<f4", "<f8"),
    "corners": ("<f4",),
    "score": ("<f4", "<f8"),
    "size": ("|u1", "<u2", "<u4"),
    "end": ("|u1", "<u2", "<u4", "<u8"),
    "counts": ("|u1",),
}


class Columns(NamedTuple):
    """Detections; equal content in equal order, whatever file it comes from."""

    images: list  # ids
    image: np.ndarray  # of every detection, its image's place among them
    categories: list  # ids, or names of classes
    category: np.ndarray
    boxes: np.ndarray  # x, y, width, height: [N, 4]
    scores: np.ndarray
    masks: list | None  # run-length encoded, or whatever a file gives instead; None where no detection has one


def of(detections: "Columns | list[dict]") -> Columns:
    """COCO results, as `detections.are_results` has found them, by columns; columns are what they are."""
    if isinstance(detections, Columns):
        return detections
    count = len(detections)
    images, image = coded(map(itemgetter("image_id"), detections), count)
    categories, category = coded(map(itemgetter("category_id"), detections), count)
    boxes = np.fromiter(chain.from_iterable(map(itemgetter("bbox"), detections)), float, 4 * count).reshape(-1, 4)
    scores = np.fromiter(map(itemgetter("score"), detections), float, count)
    masks = [row.get(MASK) for row in detections] if any(MASK in row for row in detections) else None
    return Columns(images, image, categories, category, boxes, scores, masks)


def coded(values: Iterable, count: int) -> tuple[list, np.ndarray]:
    """The different values, in the order in which they come, and where among them each is."""
    values = list(values)
    places = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(places), np.fromiter(map(places.__getitem__, values), np.int64, count)


def rows(detections: "Columns | list[dict]") -> list[dict]:
    """COCO results again; rows are what they are."""
    if not isinstance(detections, Columns):
        return detections
    images, categories = detections.images, detections.categories
    found = [
        {"image_id": images[image], "category_id": categories[category], "bbox": box, "score": score}
        for image, category, box, score in zip(*(column.tolist() for column in plain(detections)), strict=True)
    ]
    if detections.masks is not None:
        for row, mask in zip(found, detections.masks, strict=True):
            if mask is not None:
                row[MASK] = mask
    return found


def count(detections: "Columns | list[dict]") -> int:
    """How many detections there are."""
    return len(detections.scores) if isinstance(detections, Columns) else len(detections)


def plain(found: Columns) -> tuple[np.ndarray, ...]:
    """The columns of numbers."""
    return found.image, found.category, found.boxes, found.scores


def joined(parts: Iterable["Columns | list[dict]"]) -> Columns:
    """The detections of several files, one behind the other."""
    parts = [part for part in map(of, parts) if len(part.scores)]
    images, image = together([(part.images, part.image) for part in parts])
    categories, category = together([(part.categories, part.category) for part in parts])
    boxes = np.concatenate([np.empty((0, 4)), *(part.boxes for part in parts)])
    scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
    masks = None
    if any(part.masks is not None for part in parts):
        masks = [*chain.from_iterable(part.masks or [None] * len(part.scores) for part in parts)]
    return Columns(images, image, categories, category, boxes, scores, masks)


def together(columns: Sequence[tuple[list, np.ndarray]]) -> tuple[list, np.ndarray]:
    """Values and places of several columns, as of one."""
    places = {value: i for i, value in enumerate(dict.fromkeys(chain.from_iterable(values for values, _ in columns)))}
    found = [np.array([places[value] for value in values], np.int64)[codes] for values, codes in columns]
    return list(places), np.concatenate([np.empty(0, np.int64), *found])


def with_ids(found: Columns, categories: list[dict]) -> tuple[Columns, dict[str, int]]:
    """As `classes.with_ids`, of columns."""
    names, codes = found.categories, found.category
    known = classes.ids_of(names, categories)
    numbers = {each: i for i, each in enumerate(dict.fromkeys(known.values()))}
    place = np.array([numbers[known[each]] if each in known else -1 for each in names], np.int64)
    found = found._replace(categories=list(numbers), category=place[found.category] if len(place) else found.category)
    kept = found.category >= 0
    if kept.all():
        return found, {}
    unscored = Counter(names[code] for code in codes[~kept].tolist())
    left = Columns(found.images, found.image[kept], found.categories, *(each[kept] for each in plain(found)[1:]), None)
    if found.masks is not None:
        left = left._replace(masks=[found.masks[i] for i in np.flatnonzero(kept)])
    return left, dict(sorted(unscored.items()))


def used(values: list, codes: np.ndarray) -> list:
    """Those of the images or categories that have a detection."""
    there = np.zeros(len(values), bool)
    there[codes] = True
    return [values[code] for code in np.flatnonzero(there)]


def pack(images: list, detections: list[dict], rest: dict) -> bytes | None:
    """Detections as bytes, and what else their file says; None where columns would not say quite the same: of numbers
    that are not floating point, keys that are none of a COCO result, images that are none of the file's."""
    if not packable(images, detections):
        return None
    found = of(detections)
    place = {image: i for i, image in enumerate(images)}
    if not place.keys() >= set(found.images):
        return None
    image = np.array([place[each] for each in found.images], np.int64)[found.image] if found.images else found.image
    columns = {"image": smallest(image), "category": smallest(found.category), **boxes(found.boxes)}
    columns["score"] = narrowed(found.scores)
    sizes: list = []
    if found.masks is not None:
        text = "".join(mask["counts"] for mask in found.masks)
        sizes, size = coded((tuple(mask["size"]) for mask in found.masks), len(found.masks))
        columns["size"] = smallest(size)
        columns["end"] = smallest(np.cumsum([len(mask["counts"]) for mask in found.masks]))
        columns["counts"] = np.frombuffer(text.encode("ascii"), np.uint8)
    said = {"images": images, **rest, "categories": found.categories, "detections": len(found.scores)}
    said["columns"] = [[name, column.dtype.str] for name, column in columns.items()]
    said |= {"sizes": sizes, "text": len(columns["counts"]) if found.masks is not None else 0}
    about = json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    return b"".join([len(about).to_bytes(8, "little"), about, *(column.tobytes() for column in columns.values())])


def packable(images: list, detections: list[dict]) -> bool:
    """Whether columns say all of these detections."""
    keys = set(map(tuple, detections))
    if not keys <= {KEYS} and not keys <= {(*KEYS, MASK)}:
        return False
    ids = chain(images, map(itemgetter("image_id"), detections), map(itemgetter("category_id"), detections))
    boxes = list(map(itemgetter("bbox"), detections))
    if not {*map(type, ids)} <= {int, str} or not {*map(type, boxes)} <= {list} or not {*map(len, boxes)} <= {4}:
        return False
    numbers = chain(chain.from_iterable(boxes), map(itemgetter("score"), detections))
    masks = [row[MASK] for row in detections] if keys == {(*KEYS, MASK)} else []
    return {*map(type, numbers)} <= {float} and all(map(is_runs, masks))


def is_runs(mask: object) -> bool:
    """Whether this is COCO's compressed run-length encoding, and nothing besides."""
    return (
        type(mask) is dict
        and tuple(mask) == ("size", "counts")
        and are_sides(mask["size"])
        and type(mask["counts"]) is str
        and mask["counts"].isascii()
    )


def are_sides(size: object) -> bool:
    """Whether this is a height and a width."""
    return type(size) is list and len(size) == 2 and all(type(side) is int and side >= 0 for side in size)


def boxes(sides: np.ndarray) -> dict[str, np.ndarray]:
    """The column of boxes that takes the least room and gives every one of them back."""
    if (narrow := narrowed(sides)).dtype == np.float32:
        return {"sides": narrow}
    with np.errstate(over="ignore", invalid="ignore"):
        corners = np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]]).astype("<f4")
        exact = from_corners(corners).tobytes() == sides.tobytes()
    return {"corners": corners} if exact else {"sides": narrow}


def from_corners(corners: np.ndarray) -> np.ndarray:
    """x, y, width and height of x1, y1, x2, y2."""
    sides = corners.astype(float)
    sides[:, 2:] -= sides[:, :2]
    return sides


def narrowed(values: np.ndarray) -> np.ndarray:
    """Floating point numbers in half the bytes, where that is exact."""
    with np.errstate(over="ignore"):
        narrow = values.astype("<f4")
    return narrow if narrow.astype(float).tobytes() == values.tobytes() else values.astype("<f8")


def smallest(values: np.ndarray) -> np.ndarray:
    """Whole numbers in as few bytes as take them all."""
    top = int(values.max(initial=0))
    return values.astype(next(kind for kind in TYPES["end"] if top < 256 ** np.dtype(kind).itemsize))


def unpack(held: bytes) -> dict | None:
    """What `pack` was given, with Columns as its detections; None of anything else."""
    start = 8 + int.from_bytes(held[:8], "little")
    try:
        said = orjson.loads(held[8:start])
        count, text, declared = said["detections"], said["text"], said["columns"]
        columns = arrays(memoryview(held)[start:], count, text, declared)
        found = read(said.pop("images"), said.pop("categories"), said.pop("sizes"), columns, count)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    rest = {key: value for key, value in said.items() if key not in ("columns", "text")}
    return rest | {"images": found.images, "detections": found}


def arrays(held: memoryview, count: int, text: int, declared: list) -> dict[str, np.ndarray]:
    """The columns as they lie one behind the other; ValueError unless they are that."""
    if not all(type(each) is int and each >= 0 for each in (count, text)):
        raise ValueError("counts that are none")
    found, place = {}, 0
    for name, kind in declared:
        if kind not in TYPES[name] or name in found:
            raise ValueError(f"{name} is no column, or twice")
        wide = 4 if name in ("sides", "corners") else 1
        each = text if name == "counts" else count * wide
        found[name] = np.frombuffer(held, kind, each, place) if each else np.empty(0, kind)
        found[name] = found[name].reshape(-1, wide) if wide > 1 else found[name]
        place += found[name].nbytes
    if place != len(held):
        raise ValueError("more bytes than the columns have")
    return found


def read(images: list, categories: list, sizes: list, columns: dict[str, np.ndarray], count: int) -> Columns:
    """Columns from what a file holds; ValueError where it cannot have been written so."""
    if type(images) is not list or type(categories) is not list:
        raise ValueError("no ids")
    ids = [*images, *categories]
    image, category = columns["image"], columns["category"]
    with np.errstate(invalid="ignore"):  # what is no number is looked for below
        sides = columns["sides"].astype(float) if "sides" in columns else from_corners(columns["corners"])
        scores = columns["score"].astype(float)
    inside = count == 0 or (int(image.max()) < len(images) and int(category.max()) < len(categories))
    if not ({*map(type, ids)} <= {int, str} and inside and np.isfinite(sides).all() and np.isfinite(scores).all()):
        raise ValueError("no detections")
    masks = runs(columns, sizes) if "counts" in columns else None
    return Columns(images, image.astype(np.int64), categories, category.astype(np.int64), sides, scores, masks)


def runs(columns: dict[str, np.ndarray], sizes: list) -> list[dict]:
    """Run-length encoded masks."""
    text, ends = str(columns["counts"], "ascii"), columns["end"].astype(np.int64)
    starts = [0, *ends.tolist()]
    if (ends.size and (np.diff(ends, prepend=0) < 0).any()) or starts[-1] != len(text):
        raise ValueError("masks that end before they begin")
    if not all(are_sides(size) for size in sizes) or int(columns["size"].max(initial=0)) >= len(sizes):
        raise ValueError("masks of no size")
    return [
        {"size": sizes[size], "counts": text[start:end]}
        for size, (start, end) in zip(columns["size"].tolist(), pairwise(starts), strict=True)
    ]
