"""Image files: opened, checked and decoded, whatever is in them."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from detport import jpeg
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


def size(path: Path, turned: bool) -> tuple[int, int]:
    """Width and height as the image is stored, or as its EXIF turns it; raise BadImage unless both decoders read it."""
    image = open_image(path)
    height, width = by_opencv(path, image).shape[:2]
    return (width, height) if turned else image.size


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
