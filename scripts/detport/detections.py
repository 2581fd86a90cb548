"""Detections of one shard: COCO results, and which images they are complete for.

The file is gzipped JSON {"images": [ids], "skipped": [{image_id, file, reason}], "too_large": [{image_id, file,
too_large}], "simulator": whether a simulated device made them, "detections": [COCO results]}. An image without any
detection is in "images" all the same, which a bare list of results could not say. "too_large" are those of them that
were larger than the network input, "turned" ([{image_id, file}]) those that their EXIF turned, "readings" (lines) other
ways to read the outputs; these three and "simulator" may be missing.

Behind the JSON the same is there by columns, for the evaluation, which takes them only as long as the JSON is the one
that they were written with.
"""

import gc
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import orjson

from detport import attached, columns
from detport.errors import Failure, UsageError
from detport.files import atomic

SHOWN = 5  # image ids in a complaint
OPTIONAL = {"too_large": [], "turned": [], "readings": [], "simulator": False}


def write(
    path: Path,
    images: list[dict],
    skipped: list[dict],
    rows: list[dict],
    simulator: bool = False,
    readings: list[str] | None = None,
) -> None:
    """Write detections so that equal content has equal bytes; `images` and `skipped` are those of shard.json."""
    large = [{key: image[key] for key in ("image_id", "file", "too_large")} for image in images if "too_large" in image]
    ids = [image["image_id"] for image in images]
    rest = {
        "skipped": skipped,
        "too_large": large,
        "turned": [{key: image[key] for key in ("image_id", "file")} for image in images if "turned" in image],
        "readings": readings or [],
        "simulator": simulator,
    }
    text = json.dumps({"images": ids, **rest, "detections": rows}, ensure_ascii=False, allow_nan=False)
    packed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
    held = columns.pack(ids, rows, rest)
    with atomic(path) as partial:
        partial.write_bytes(packed if held is None else packed + attached.attach(packed, held))


def by_backend(names: Sequence[str], files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of every backend, out of those of all in its order."""
    if len(files) % len(names):
        raise UsageError(f"--detections: {len(files)} files are not equally many for {', '.join(names)}")
    count = len(files) // len(names)
    return {name: list(files[i * count : (i + 1) * count]) for i, name in enumerate(names)}


def read(path: Path) -> dict:
    """Detections as written above."""
    return of_json(path, attached.split(path.read_bytes())[0])


def of_json(path: Path, packed: bytes) -> dict:
    """The same from what is in the file before the columns."""
    try:
        content = orjson.loads(gzip.decompress(packed))
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise Failure(f"{path}: not a whole detections file ({error}); delete it and decode again") from error
    if not isinstance(content, dict) or not {"images", "skipped", "detections"} <= content.keys():
        raise Failure(f"{path}: expected an object with images, skipped and detections, as decode.py writes it")
    lists = [content[key] for key in ("images", "skipped", "detections")]
    if not all(isinstance(entries, list) for entries in lists) or not are_results(content["detections"]):
        raise Failure(f"{path}: holds something else than decode.py writes; delete it and decode again")
    if not are_named(content):
        raise Failure(f"{path}: an image has no name; delete the file and decode again")
    return OPTIONAL | content


def read_columns(path: Path) -> dict:
    """The same with `columns.Columns` as its detections; a file without them, or one that was edited, gives rows."""
    packed, held = attached.split(path.read_bytes())
    content = columns.unpack(held) if held is not None else None
    if content is None or not isinstance(content.get("skipped"), list) or not are_named(content):
        return of_json(path, packed)
    return OPTIONAL | content


def read_all(paths: Iterable[Path], how: Callable[[Path], dict] = read) -> list[dict]:
    """Detections of all shards. The collector of cycles would look through all of them again and again, for as long as
    it takes to read them, and there are none."""
    gc.disable()
    try:
        parts = [how(path) for path in paths]
        gc.freeze()
    finally:
        gc.enable()
    return parts


def require_all(index: list, scored: list, skipped: list) -> None:
    """Every indexed image is there exactly once, and no other."""
    found, expected = Counter(scored + skipped), set(index)
    problems = [
        ("missing", [image for image in index if image not in found]),
        ("there more than once", [image for image, count in found.items() if count > 1]),
        ("not in the index", [image for image in found if image not in expected]),
    ]
    if any(images for _, images in problems):
        text = "; ".join(
            f"{len(images)} images {what}: {', '.join(map(str, images[:SHOWN]))}{', …' * (len(images) > SHOWN)}"
            for what, images in problems
            if images
        )
        raise Failure(f"not scored, the index has {len(index)} images; {text}. Decode the missing shards again")


def are_results(rows: list) -> bool:
    """Whether rows are COCO results, their numbers being numbers. Asked of each key of all rows at once: an evaluation
    reads hundreds of thousands."""
    try:
        ids = (map(type, map(itemgetter(key), rows)) for key in ("image_id", "category_id"))
        given = list(map(itemgetter("bbox"), rows))
        if not {*chain.from_iterable(ids)} <= {int, str} or not {*map(type, given)} <= {list}:
            return False
        numbers = [*chain.from_iterable(given), *map(itemgetter("score"), rows)]
    except (TypeError, KeyError):  # no object, or one without the key
        return False
    return {*map(len, given)} <= {4} and {*map(type, numbers)} <= {int, float} and all(map(math.isfinite, numbers))


def are_named(content: dict) -> bool:
    """Whether all images have a name, the skipped ones with a reason."""
    named = all(isinstance(image, int | str) for image in content["images"])
    return named and all(map(is_skip, content["skipped"]))


def is_skip(image: object) -> bool:
    """Whether an entry says which image was skipped, and why."""
    return isinstance(image, dict) and image.keys() >= {"image_id", "file", "reason"}
