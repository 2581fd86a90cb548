"""Images for the page: made smaller, and masks as outlines."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from detport import images
from detport.analysis.matching import run_lengths

# Longest side in pixels and JPEG quality, from the best; the first with which all fits is taken.
STEPS = ((512, 76), (512, 60), (448, 55), (384, 50), (320, 45), (256, 40))
BUDGET = 2_600_000  # bytes of all images of a page as text, and of what is drawn on them
SIDE = STEPS[0][0]
COARSE = 0.8  # pixels that an outline may be off
# A licence that forbids what a smaller copy is; COCO's are told by name and address.
FORBIDS = re.compile(r"no.?deriv|/licenses/[a-z-]*nd\b|all rights reserved", re.IGNORECASE)


def may_be_shown(image: dict, licences: object, choice: str) -> bool:
    """Whether an image of the ground truth is shown, as `report.images` says: all, licensed or none. The list of
    licences is as it stands in the file, where nothing else relies on it."""
    if choice != "licensed":
        return choice == "all"
    known = [each for each in licences if isinstance(each, dict)] if isinstance(licences, list) else []
    own = next((each for each in known if "id" in each and each["id"] == image.get("license")), {})
    return not FORBIDS.search(f"{own.get('name', '')} {own.get('url', '')}")


def shown_size(width: int, height: int, side: int) -> tuple[int, int]:
    """The size of an image whose longest side is at most `side`."""
    scale = min(1.0, side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def embedded(files: Sequence[Path | None], turned: bool, budget: int = BUDGET) -> tuple[list[str | None], int]:
    """The images as JPEG in data addresses, in the best quality that fits into so many bytes, and their longest side.

    What cannot be decoded is None, as is what is not to be shown.
    """
    decoded = [None if path is None else pixels(path, turned) for path in files]
    for side, quality in STEPS:
        found = [None if each is None else address(each, side, quality) for each in decoded]
        if sum(len(each) for each in found if each) <= budget:
            break
    return found, side


def pixels(path: Path, turned: bool) -> np.ndarray | None:
    """The image in the orientation that the ground truth is about."""
    try:
        return images.decode(path, "opencv" if turned else "pillow")
    except images.BadImage:
        return None  # it was skipped then, which the report says


def address(image: np.ndarray, side: int, quality: int) -> str:
    """A data address of the image with a longest side of at most `side` pixels."""
    size = shown_size(image.shape[1], image.shape[0], side)
    file = io.BytesIO()
    Image.fromarray(image).resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def outline(segmentation: list | dict, size: tuple[int, int], scale: float) -> str:
    """The outline of a mask as the path of an SVG, on an image of that size (height, width) made smaller by `scale`."""
    mask = coco_mask.decode(run_lengths(segmentation, size))
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in contours:
        # A contour runs through the middles of its pixels.
        corners = cv2.approxPolyDP(((contour + 0.5) * scale).astype(np.float32), COARSE, True).reshape(-1, 2)
        if len(corners) > 2:
            parts.append(f"M{' '.join(f'{x:.0f},{y:.0f}' for x, y in corners)}Z")
    return "".join(parts)
