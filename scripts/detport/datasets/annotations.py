"""Annotations of a COCO file, checked before any evaluator sees them: what the evaluators would stumble over, or
silently leave out, is refused by its place in the file.

Tolerated: boxes and polygons that reach over the image's edge, or lie outside it; boxes of no area; images without
annotations. COCO's tools score them as they are.
"""

import math
import re
from itertools import chain
from pathlib import Path

from detport import shards
from detport.errors import UsageError

FARTHEST = 1e5  # pixels; COCO's rasteriser needs memory in proportion to a polygon's length
LARGEST_ID = 2**53  # up to here every tool, and every reader of JSON, has the same integers
LONGEST_SIDE = 65_535  # pixels: JPEG's; the pixels of a mask must fit in 32 bits
LARGEST_RUN = 60  # bits, far more than any; a text of one endless number would take quadratic time
LARGEST = 1e15  # a whole number that floating point has exactly
CROWD_TYPES = {int, float, bool, type(None)}
POLYGON = 6  # numbers of the smallest polygon
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # Python's own also take 1_0 and ٣


def check(path: Path, truth: dict) -> None:
    """Raise UsageError for the first annotation that no evaluator could score."""
    images, categories = {image["id"] for image in truth["images"]}, {entry["id"] for entry in truth["categories"]}
    for i, image in enumerate(truth["images"]):
        where = f"{path}: images[{i}]"
        if not all(1 <= image[side] <= LONGEST_SIDE for side in ("width", "height")):
            size = f"{shown(image['width'])}x{shown(image['height'])}"
            raise UsageError(f"{where}: is {size} pixels; correct width and height, 1 to {LONGEST_SIDE}")
        if not writable(image["file_name"]):
            raise UsageError(f"{where}.file_name: {image['file_name']!r} cannot be the name of a file; correct it")
    if are_scorable(truth["annotations"], images, categories):
        return
    for i, annotation in enumerate(truth["annotations"]):
        where = f"{path}: annotations[{i}]"
        if annotation["image_id"] not in images:
            raise UsageError(
                f"{where}.image_id: there is no image {shown(annotation['image_id'])}; remove it or add the image"
            )
        if annotation["category_id"] not in categories:
            raise UsageError(
                f"{where}.category_id: there is no category {shown(annotation['category_id'])}; remove it or add one"
            )
        box = annotation["bbox"]
        if len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) < 0:
            raise UsageError(f"{where}.bbox: {shown(box)}; expected x, y, width and height, the last two not negative")
        area, crowd = annotation.get("area"), annotation.get("iscrowd")
        if area is not None and (not is_number(area) or area < 0):
            raise UsageError(f"{where}.area: {shown(area)}; expected the area in pixels")
        if crowd is not None and crowd not in (0, 1):
            raise UsageError(f"{where}.iscrowd: {shown(crowd)}; expected 0 or 1")


def are_scorable(entries: list[dict], images: set, categories: set) -> bool:
    """Whether nothing is wrong with any annotation, asked of each key of all at once: one by one they would take longer
    to check than to score, and few files have one to complain about."""
    boxes = [entry["bbox"] for entry in entries]
    areas = [entry.get("area") for entry in entries]
    numbers = [*chain.from_iterable(boxes), *(area for area in areas if area is not None)]
    crowds = [entry.get("iscrowd") for entry in entries]
    if not (are_numbers(numbers, LARGEST) and {*map(len, boxes)} <= {4} and {*map(type, crowds)} <= CROWD_TYPES):
        return False
    sizes = chain(numbers[2 : 4 * len(boxes) : 4], numbers[3 : 4 * len(boxes) : 4], numbers[4 * len(boxes) :])
    known = {entry["image_id"] for entry in entries} <= images and {e["category_id"] for e in entries} <= categories
    return known and min(sizes, default=0) >= 0 and {*crowds} <= {0, 1, None}


def check_masks(path: Path | str, truth: dict) -> None:
    """Raise UsageError for the first annotation without a mask that can be drawn."""
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    masks = [annotation.get("segmentation") for annotation in truth["annotations"]]
    drawn = are_polygons([mask for mask in masks if isinstance(mask, list)])
    for i, (annotation, mask) in enumerate(zip(truth["annotations"], masks, strict=True)):
        if drawn and isinstance(mask, list):
            continue
        if isinstance(mask, list):
            problem = polygons_problem(mask)
        elif isinstance(mask, dict):
            problem = runs_problem(mask, sizes[annotation["image_id"]])
        else:
            problem = f"{shown(mask)}; expected polygons or run-length encoding"
        if problem:
            where = annotation.get("where", f"{path}: annotations[{i}]")
            raise UsageError(f"{where}.segmentation: {problem}. Correct it, or leave segm out of metric.iou_types")


def are_polygons(masks: list[list]) -> bool:
    """Whether nothing is wrong with any mask of polygons, asked of all at once."""
    polygons = [*chain.from_iterable(masks)]
    if [] in masks or not {*map(type, polygons)} <= {list}:
        return False
    lengths = {*map(len, polygons)}
    numbers = [*chain.from_iterable(polygons)]
    return all(count >= POLYGON and count % 2 == 0 for count in lengths) and are_numbers(numbers, FARTHEST)


def polygons_problem(polygons: list) -> str | None:
    """What is wrong with a mask of polygons."""
    if not polygons:
        return "holds no polygon"
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < POLYGON or len(polygon) % 2:
            return f"{shown(polygon)}; a polygon is a list of x, y, x, y, … of three corners at least"
        if not all(is_number(value) and abs(value) <= FARTHEST for value in polygon):
            return f"{shown(polygon)}; expected pixels"
    return None


def runs_problem(mask: dict, size: list[int]) -> str | None:
    """What is wrong with a run-length encoded mask."""
    counts, stated = mask.get("counts"), mask.get("size")
    if stated != size or not all(type(side) is int for side in stated):
        return f"size {shown(stated)} is not the image's height and width, {size}"
    if isinstance(counts, str):
        counts = decoded(counts)
        if counts is None:
            return "counts are not COCO's run-length encoding"
    pixels = size[0] * size[1]
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= pixels for count in counts):
        return f"counts {shown(counts)}; expected a list of lengths or COCO's text"
    if sum(counts) != pixels:
        return f"counts add up to {sum(counts)} pixels, the image has {pixels}"
    return None


def decoded(text: str) -> list[int] | None:
    """Lengths of the runs in COCO's text: six bits per character, least significant first, differences to the last
    but one from the fourth on; None if it is not of that kind."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > LARGEST_RUN:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return None if shift else counts


def identity(where: str, value: object) -> int | str:
    """An id as the index has it: digits are a number, whatever their type, and all other text is itself."""
    if isinstance(value, str) and value.strip() and writable(value):
        return shards.image_id(value)
    return whole(where, value, LARGEST_ID, " or text")


def are_identities(values: list) -> bool:
    """Whether all are ids in the index's form already, as whole numbers are."""
    return {*map(type, values)} <= {int} and min(values, default=0) >= 0 and max(values, default=0) <= LARGEST_ID


def order(identity: int | str) -> tuple[bool, int | str]:
    """Sorts ids: numbers first, then text."""
    return isinstance(identity, str), identity


def whole(where: str, value: object, largest: int | None = None, other: str = "") -> int:
    """A whole number, also one that is written as 3.0."""
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"{where}: expected a whole number{other}, found {shown(value)}")
    if largest is not None and not 0 <= number <= largest:
        raise UsageError(f"{where}: {shown(value)}; expected 0 to {largest}{other}")
    return number


def is_number(value: object) -> bool:
    """A finite number; JSON as Python reads it also has NaN, Infinity and integers of any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST


def are_numbers(values: list, most: float) -> bool:
    """Whether all are numbers, none of them larger than `most`."""
    if not {*map(type, values)} <= {int, float}:
        return False
    # NaN, which no comparison finds wherever it is, is what the sum is then too.
    return not values or (max(values) <= most and min(values) >= -most and not math.isnan(sum(values)))


def writable(name: str) -> bool:
    """Whether a file may have this name at all."""
    return bool(name) and "\0" not in name and name.encode("utf-8", "replace") == name.encode("utf-8", "surrogatepass")


def shown(value: object) -> str:
    """The beginning of a value, for a complaint."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
