"""Where an image lies on the network input, and its pixels there, as `preprocess.resize` and `place` say."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from detport import canvases, images, pillow_resize
from detport.images import BadImage, Pixels

ROUNDINGS = {"down": int, "nearest": lambda side: int(side + 0.5), "even": round, "up": math.ceil}
BY_OPENCV = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "lanczos": cv2.INTER_LANCZOS4,
}
BY_PILLOW = {
    "linear": Image.Resampling.BILINEAR,
    "cubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}
WARPS = ("warp_affine", "warp_perspective")


class Target(NamedTuple):
    """What an image is resized to: sides in pixels, and the factors of x and y that they come from."""

    width: int
    height: int
    factors: tuple[float, float]
    too_large: str | None  # what is done to an image that the rule makes larger than the network input


class Placed(NamedTuple):
    """Pixels, where they go on a tensor, and the tensor's sides."""

    pixels: Pixels
    left: int
    top: int
    width: int
    height: int
    canvas: np.ndarray | None = None  # [H, W, 3] of these sides, on which the pixels lie already


def fit(width: int, height: int, canvas_w: int, canvas_h: int, rounding: str = "down") -> tuple[int, int, float]:
    """Size inside the canvas with the same ratio, and its scale."""
    scale = min(canvas_w / width, canvas_h / height)
    return *sides(width, height, scale, rounding), scale


def sides(width: int, height: int, scale: float, rounding: str) -> tuple[int, int]:
    """The scaled sides in whole pixels; a very flat image keeps at least one.

    The product is of float64 and in this order: it decides whether a side becomes 1343 or 1344.
    """
    if rounding == "short_first":
        short, long = sorted((width, height))
        new = max(round(short * scale), 1), int(max(round(short * scale), 1) * long / short)
        return new if width <= height else new[::-1]
    whole = ROUNDINGS[rounding]
    return max(whole(width * scale), 1), max(whole(height * scale), 1)


def best_canvas(settings: dict, width: int, height: int) -> tuple[str, dict]:
    """Name and size of the canvas on which an image loses least: that of the largest scale, the first of equals."""
    known = canvases.by_name(settings)
    return max(known.items(), key=lambda item: fit(width, height, item[1]["width"], item[1]["height"])[2])


def method(settings: dict) -> str:
    """How the pixels are moved. Where the yaml does not say, OpenCV is given the factor of short_side."""
    usual = "factor" if (settings["rule"], settings["library"]) == ("short_side", "opencv") else "sides"
    return settings["by"] or usual


def target(width: int, height: int, settings: dict, canvas_w: int, canvas_h: int) -> Target:
    """What the rule makes of an image, before anything of it is cropped."""
    rule = settings["rule"]
    if rule == "stretch":
        return Target(canvas_w, canvas_h, (canvas_w / width, canvas_h / height), None)
    rounding = "even" if method(settings) == "factor" else settings["rounding"]  # OpenCV rounds by itself
    largest = min(canvas_w / width, canvas_h / height)
    scale = {"fit": largest, "keep": 1.0, "short_side": (settings.get("size") or 1) / min(width, height)}[rule]
    if settings["long_side"] is not None:
        scale = min(scale, settings["long_side"] / max(width, height))
    if not settings["enlarge"]:
        scale = min(scale, 1.0)
    new_w, new_h = sides(width, height, scale, rounding)
    too_large = None
    if rule != "fit" and (new_w > canvas_w or new_h > canvas_h):
        too_large = settings["too_large"]
        if too_large == "fit":
            scale = largest
            new_w, new_h = sides(width, height, scale, rounding)
    if too_large != "crop":  # a side that is rounded up can be a pixel too long
        new_w, new_h = min(new_w, canvas_w), min(new_h, canvas_h)
    if new_w * new_h > Image.MAX_IMAGE_PIXELS:  # a flat image with too_large: crop
        raise BadImage(f"is {width}x{height} pixels, which the resize rule enlarges beyond what fits in memory")
    return Target(new_w, new_h, (scale, scale), too_large)


def resize(pixels: Pixels, aim: Target, settings: dict, into: np.ndarray | None = None) -> Pixels:
    """The pixels in another size, by the library that the settings name: in `into` where there is one. Pillow filters
    over the larger area when it shrinks, OpenCV only with `area`."""
    kind = settings["interpolation"]
    old, new = images.sides(pixels), (aim.width, aim.height)
    if settings["library"] == "pillow":
        if pillow_resize.usable(kind, old, new):
            return pillow_resize.resize(np.asarray(pixels), new, kind, into)
        image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
        return put(image.resize(new, BY_PILLOW[kind]), into)
    (width, height), pixels = old, np.asarray(pixels)
    if kind == "area" and (aim.width > width or aim.height > height):
        kind = "linear"
    x, y = aim.factors
    if method(settings) == "factor" and (round(width * x), round(height * y)) == new:
        # The samples lie 1 / factor apart, not side / rounded side. A side of a very flat image has no such factor.
        return cv2.resize(pixels, None, dst=into, fx=x, fy=y, interpolation=BY_OPENCV[kind])
    return cv2.resize(pixels, new, dst=into, interpolation=BY_OPENCV[kind])


def put(pixels: Pixels, into: np.ndarray | None) -> Pixels:
    """The pixels, copied into an array if there is one."""
    if into is None:
        return pixels
    into[:] = np.asarray(pixels)
    return into


def cut(pixels: Pixels, left: int, top: int, width: int, height: int) -> Pixels:
    """What of them is on a tensor of these sides, where `left` and `top` are negative if they begin before it."""
    own_w, own_h = images.sides(pixels)
    if left >= 0 and top >= 0 and own_w <= width and own_h <= height:
        return pixels
    return np.asarray(pixels)[max(-top, 0) :, max(-left, 0) :][:height, :width]


def warp(
    pixels: np.ndarray, aim: Target, corner: tuple[float, float], settings: dict, size: tuple[int, int], border: list
) -> np.ndarray:
    """A whole canvas in one step: pixel i of the image lies at factor * i + corner, which may be between pixels."""
    (x, y), (left, top) = aim.factors, corner
    matrix = np.array([[x, 0, left], [0, y, top], [0, 0, 1]], np.float64)
    options = {"flags": BY_OPENCV[settings["interpolation"]], "borderMode": cv2.BORDER_CONSTANT, "borderValue": border}
    if method(settings) == "warp_affine":
        return cv2.warpAffine(pixels, matrix[:2], size, **options)
    return cv2.warpPerspective(pixels, matrix, size, **options)


def before(spare: int, place: str) -> int:
    """Pixels left of or above the image, of those that are spare; negative where the image is cropped."""
    if place == "top_left":
        return 0
    return spare // 2 if spare >= 0 else -round(-spare / 2)


def tensor_side(side: int, canvas: int, size: dict) -> int:
    """Pixels of a tensor along one side: the canvas, or the next multiple where every image has its own size."""
    multiple = size.get("multiple")
    return min(math.ceil((side + size["margin"]) / multiple) * multiple, canvas) if multiple else canvas


def place(pixels: Pixels, model: dict, border: list, on_canvas: bool = False) -> tuple[Placed, dict]:
    """The resized image, cut to its tensor, and the placement for shard.json; `border` is what a warp blends with.

    `resized` and `pad` are those before an image that is too large is cropped, whose padding is negative.
    """
    width, height = images.sides(pixels)
    size, settings, place = model["input"], model["preprocess"]["resize"], model["preprocess"]["place"]
    name, canvas = best_canvas(size, width, height)
    aim = target(width, height, settings, canvas["width"], canvas["height"])
    tensor_w, tensor_h = (
        tensor_side(side, canvas[key], size) for side, key in ((aim.width, "width"), (aim.height, "height"))
    )
    canvas = np.empty((tensor_h, tensor_w, 3), np.uint8) if on_canvas else None
    if method(settings) in WARPS:
        centred = place == "centre"
        left, top = (
            factor * (-side / 2) + 0.5 * whole if centred else 0
            for factor, side, whole in zip(aim.factors, (width, height), (tensor_w, tensor_h), strict=True)
        )
        pixels = warp(np.asarray(pixels), aim, (left, top), settings, (tensor_w, tensor_h), border)
        placed = Placed(put(pixels, canvas), 0, 0, tensor_w, tensor_h, canvas)
    else:
        left, top = before(tensor_w - aim.width, place), before(tensor_h - aim.height, place)
        inside = None if canvas is None else canvas[max(top, 0) :, max(left, 0) :][: aim.height, : aim.width]
        if inside is not None and inside.shape[:2] == (aim.height, aim.width):
            pixels = resize(pixels, aim, settings, inside)
        else:
            pixels = put(cut(resize(pixels, aim, settings), left, top, tensor_w, tensor_h), inside)
        placed = Placed(pixels, max(left, 0), max(top, 0), tensor_w, tensor_h, canvas)
    x, y = (aim.width / width, aim.height / height) if settings["scale"] == "sides" else aim.factors
    placement = {
        "width": width,
        "height": height,
        "canvas": name,
        "resized": [aim.width, aim.height],
        "scale": x if x == y else [x, y],
        "left": left,
        "top": top,
        "pad": [tensor_w - aim.width - left, tensor_h - aim.height - top],
    }
    if size.get("multiple"):
        placement["size"] = [tensor_w, tensor_h]
    if aim.too_large:
        placement["too_large"] = aim.too_large
    return placed, placement
