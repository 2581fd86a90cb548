"""From an image file to the network's input tensor, as the model's `preprocess` section describes it."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from detport import canvases, jpeg
from detport.errors import Failure
from detport.files import stand_in

EXIF_ORIENTATION = 0x0112
AS_STORED = 1  # the orientation of an image that needs no turn
ROTATED = (5, 6, 7, 8)  # orientations that swap width and height
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # what both decoders read alike; others run code that few have ever looked at
TOO_MANY_PIXELS = "has far too many pixels for an image of a detection dataset"
# Pillow only warns of a bomb, and where threads share the filters a warning is no safe way to stop: see open_image.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class BadImage(Failure):
    """An image file that cannot be used; the text is the reason alone."""


def check(path: Path, width: int, height: int) -> None:
    """Decode the whole file by both decoders; raise BadImage unless one of them gives the size that the ground truth
    states."""
    for decoder in ("opencv", "pillow"):
        pixels = decode(path, decoder)
        if pixels.shape[:2] == (height, width):
            return
    raise wrong_size(pixels, (width, height))


def wrong_size(pixels: np.ndarray, size: tuple[int, int], but: str = "") -> BadImage:
    """The complaint about an image of another size than the ground truth says."""
    height, width = pixels.shape[:2]
    return BadImage(f"is {width}x{height} pixels, the annotations say {size[0]}x{size[1]}{but}")


def open_image(path: Path) -> Image.Image:
    """The decoded image, in the mode of the file."""
    try:
        image = Image.open(path, formats=FORMATS)
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise BadImage(TOO_MANY_PIXELS)
        image.load()
    except FileNotFoundError as error:
        raise BadImage("no such file") from error
    except Image.DecompressionBombError as error:
        raise BadImage(TOO_MANY_PIXELS) from error
    except UnidentifiedImageError as error:
        reason = oddity(path) or f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
        raise BadImage(f"cannot be decoded: it is {reason}") from error
    except (BadImage, MemoryError):
        raise
    # For broken bytes Pillow raises nearly everything there is, depending on where they are broken.
    except Exception as error:
        raise BadImage(f"cannot be decoded ({str(error).removesuffix(f' {str(path)!r}')})") from error
    return image


def oddity(path: Path) -> str | None:
    """What a file is that no decoder reads, and the remedy, if it is of a known kind."""
    return stand_in(path) or jpeg.oddity(path)


def orientation(image: Image.Image) -> int:
    """How EXIF says that the stored pixels are to be turned."""
    try:
        return image.getexif().get(EXIF_ORIENTATION, AS_STORED)
    except Exception:  # noqa: BLE001 - as in open_image; both decoders ignore EXIF that they cannot read
        return AS_STORED


def is_turned(path: Path) -> bool:
    """Whether an image's EXIF asks for its pixels to be turned."""
    return orientation(Image.open(path, formats=FORMATS)) != AS_STORED


def rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; of 16 bits the upper 8, where Pillow would take everything above 255 for white."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def decode(path: Path, decoder: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """RGB uint8 [H, W, 3]. pillow keeps the stored orientation, opencv turns the image as EXIF says.

    With `size` (width, height) the image must have it; what opencv turns may also have it before.
    """
    image = open_image(path)
    pixels = np.asarray(rgb(image)) if decoder == "pillow" else by_opencv(path, image)
    if size is not None and pixels.shape[1::-1] != size and (decoder == "pillow" or image.size != size):
        turned = decoder == "pillow" and orientation(image) in ROTATED and image.size[::-1] == size
        raise wrong_size(pixels, size, " as its EXIF turns it, which this decoder does not" if turned else "")
    return pixels


def by_opencv(path: Path, image: Image.Image) -> np.ndarray:
    """The pixels as OpenCV decodes and turns them; `image` is the same file."""
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded by OpenCV ({error.err})") from error
    if pixels is None:
        reason = oddity(path)
        raise BadImage(f"cannot be decoded by OpenCV{f': it is {reason}' if reason else ''}")
    if pixels.shape[1::-1] not in (image.size, image.size[::-1] if orientation(image) in ROTATED else None):
        height, width = pixels.shape[:2]
        raise BadImage(f"is {width}x{height} pixels to OpenCV, {image.width}x{image.height} to Pillow")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def fit(width: int, height: int, canvas_w: int, canvas_h: int) -> tuple[int, int, float]:
    """Size inside the canvas with the same ratio, and its scale.

    The sides are truncated, not rounded, in float64 and in this order of operations: it decides whether a side
    becomes 1343 or 1344. A very flat image keeps at least one pixel.
    """
    scale = min(canvas_w / width, canvas_h / height)
    return max(int(width * scale), 1), max(int(height * scale), 1), scale


def best_canvas(settings: dict, width: int, height: int) -> tuple[str, dict]:
    """Name and size of the canvas on which an image loses least: that of the largest scale, the first of equals."""
    known = canvases.by_name(settings)
    return max(known.items(), key=lambda item: fit(width, height, item[1]["width"], item[1]["height"])[2])


def resize(pixels: np.ndarray, width: int, height: int, library: str) -> np.ndarray:
    """Bilinear; Pillow filters over the larger area when it shrinks, OpenCV does not."""
    if library == "pillow":
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)


def resize_to_rule(
    pixels: np.ndarray, settings: dict, canvas_w: int, canvas_h: int
) -> tuple[np.ndarray, float, str | None]:
    """The resized pixels, their scale, and what was done to an image that is too large for the canvas."""
    height, width = pixels.shape[:2]
    if settings["rule"] == "fit":
        new_w, new_h, scale = fit(width, height, canvas_w, canvas_h)
        return resize(pixels, new_w, new_h, settings["library"]), scale, None
    scale, too_large = short_side_scale(width, height, settings["size"], canvas_w, canvas_h, settings["too_large"])
    return resize_by(pixels, scale), scale, too_large


def short_side_scale(
    width: int, height: int, size: int, canvas_w: int, canvas_h: int, too_large: str
) -> tuple[float, str | None]:
    """Scale that makes the shorter side `size`; with `too_large` (fit or crop) if that does not fit the canvas.

    "fit" lowers the scale to the largest that fits, "crop" leaves it.
    """
    scale = size / min(width, height)
    # As OpenCV sizes its result: half to even.
    if round(width * scale) <= canvas_w and round(height * scale) <= canvas_h:
        return scale, None
    return min(canvas_w / width, canvas_h / height) if too_large == "fit" else scale, too_large


def resize_by(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Bilinear by OpenCV with the factor itself: its samples lie 1 / scale apart, not size / rounded size."""
    height, width = pixels.shape[:2]
    if round(width * scale) * round(height * scale) > Image.MAX_IMAGE_PIXELS:  # a flat image with too_large: crop
        raise BadImage(f"is {width}x{height} pixels, which the resize rule enlarges beyond what fits in memory")
    if min(round(width * scale), round(height * scale)) < 1:  # a very flat image keeps at least one pixel
        return resize(pixels, max(round(width * scale), 1), max(round(height * scale), 1), "opencv")
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def tables(settings: dict) -> np.ndarray:
    """(value - mean) / std of all 256 values per channel [3, 256], in the given precision, rounded once to float32."""
    precision = np.dtype(settings["arithmetic"])
    values = np.arange(256, dtype=precision)
    mean, std = (np.array(settings[key], dtype=precision)[:, None] for key in ("mean", "std"))
    return ((values - mean) / std).astype(np.float32)


def preprocess(path: Path, model: dict, size: tuple[int, int] | None = None) -> tuple[np.ndarray, dict]:
    """The input of an image, and how its pixels got there (for shard.json): the tensor [3, H, W] or, where the compiled
    model normalises, the pixels [H, W, 3]."""
    pixels = decode(path, model["preprocess"]["decoder"], size)
    return to_pixels(pixels, model) if model["input"].get("on_device") else to_tensor(pixels, model)


def to_tensor(pixels: np.ndarray, model: dict) -> tuple[np.ndarray, dict]:
    """The normalised tensor [3, H, W] from RGB uint8 [H, W, 3], and where the image is on it."""
    settings = model["preprocess"]
    if settings["channels"] == "BGR":
        pixels = pixels[:, :, ::-1]
    # Looking values up is exact and twice as fast as computing them for every pixel.
    values = tables(settings)
    before = settings["normalise"] == "before_resize"
    if before:
        pixels = np.stack([table[pixels[:, :, channel]] for channel, table in enumerate(values)], axis=2)
    pixels, canvas_h, canvas_w, placement = place(pixels, model)
    new_h, new_w = pixels.shape[:2]
    tensor = np.zeros((3, canvas_h, canvas_w), np.float32)
    for channel, table in enumerate(values):
        if settings["fill"] is not None:
            tensor[channel] = table[settings["fill"][channel]]
        plane = pixels[:, :, channel]
        tensor[channel, :new_h, :new_w] = plane if before else table[plane]
    return tensor, placement


def to_pixels(pixels: np.ndarray, model: dict) -> tuple[np.ndarray, dict]:
    """The canvas [H, W, 3], RGB uint8, for a model that normalises by itself, and where the image is on it."""
    pixels, canvas_h, canvas_w, placement = place(pixels, model)
    canvas = np.empty((canvas_h, canvas_w, 3), np.uint8)
    canvas[:] = padding_colour(model["preprocess"])
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas, placement


def padding_colour(settings: dict) -> list[int]:
    """RGB right of and below the image. Without `fill` the nearest to the mean, which is not quite zero normalised."""
    colour = [round(mean) for mean in settings["mean"]] if settings["fill"] is None else settings["fill"]
    return colour[::-1] if settings["channels"] == "BGR" else colour


def place(pixels: np.ndarray, model: dict) -> tuple[np.ndarray, int, int, dict]:
    """The resized image, cut to its canvas; the canvas' height and width; and the placement.

    `resized`, `scale` and `pad` are those before an image that is too large is cropped, whose pad is negative.
    """
    height, width = pixels.shape[:2]
    name, canvas = best_canvas(model["input"], width, height)
    canvas_w, canvas_h = canvas["width"], canvas["height"]
    pixels, scale, too_large = resize_to_rule(pixels, model["preprocess"]["resize"], canvas_w, canvas_h)
    new_h, new_w = pixels.shape[:2]
    placement = {
        "width": width,
        "height": height,
        "canvas": name,
        "resized": [new_w, new_h],
        "scale": scale,
        "pad": [canvas_w - new_w, canvas_h - new_h],
    }
    if too_large:
        placement["too_large"] = too_large
    return pixels[:canvas_h, :canvas_w], canvas_h, canvas_w, placement
