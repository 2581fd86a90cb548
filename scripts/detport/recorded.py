"""Detections that an earlier run or another tool has left in a file: ours, or a bare list of COCO results."""

import gzip
import json
import zlib
from pathlib import Path

from detport import attached, detections
from detport.errors import UsageError

SHOWN = 5  # image ids in a complaint


def read(path: Path, index: list) -> tuple[list, list[dict]]:
    """The images of the index that a file has detections of, in the index's order, and these detections.

    A bare list cannot say that an image has none: it counts as complete.
    """
    content = of_file(path)
    if not isinstance(content, dict | list):
        content = {}
    rows = content if isinstance(content, list) else content.get("detections")
    ours = isinstance(content, list) or all(isinstance(content.get(key), list) for key in ("images", "skipped"))
    if not ours or not isinstance(rows, list) or not detections.are_results(rows):
        raise UsageError(f"{path}: neither detections as decode.py writes them nor a list of COCO results")
    wanted = set(index)
    if isinstance(content, list):
        found = wanted
        if not any(row["image_id"] in wanted for row in rows):
            raise UsageError(f"{path}: has no detection in any of the {len(index)} images; is it of another dataset?")
    else:
        found, skipped = set(content["images"]), {image["image_id"] for image in content["skipped"]}
        if missing := [image for image in index if image not in found | skipped]:
            raise UsageError(
                f"{path}: lacks {len(missing)} of the {len(index)} images: {', '.join(map(str, missing[:SHOWN]))}"
                f"{', …' * (len(missing) > SHOWN)}; a recorded run of the same images is needed"
            )
    return [image for image in index if image in found], [row for row in rows if row["image_id"] in wanted]


def of_file(path: Path) -> object:
    """The JSON of a file that may be compressed."""
    try:
        packed = path.read_bytes()
        if path.suffix != ".gz":
            return json.loads(packed)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from error
    try:
        content = json.loads(gzip.decompress(attached.split(packed)[0]))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a whole gzip file of JSON ({error})") from error
    return content
