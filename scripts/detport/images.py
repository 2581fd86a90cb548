"""Image files: opened, checked and decoded, whatever is in them."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

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
Pixels = np.ndarray | Image.Image  # RGB of 8 bits: an array [H, W, 3], or the image while Pillow has it
TOO_MANY_PIXELS = "has far too many pixels for an image of a detection dataset"
# Pillow only warns of a bomb, and where threads share the filters a warning is no safe way to stop: see open_image.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class Picture(NamedTuple):
    """A decoded image, and whether its pixels are turned as its EXIF says."""

    pixels: Pixels
    turned: bool


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
    content = read(path)
    image = open_image(path, content)
    height, width = by_opencv(path, content, image).shape[:2]
    return (width, height) if turned else image.size


def wrong_size(pixels: Pixels, size: tuple[int, int], but: str = "") -> BadImage:
    """The complaint about an image of another size than the ground truth says."""
    width, height = sides(pixels)
    return BadImage(f"is {width}x{height} pixels, the annotations say {size[0]}x{size[1]}{but}")


def read(path: Path) -> bytes:
    """The file's content."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadImage("no such file") from error
    except OSError as error:
        raise BadImage(f"cannot be decoded ([Errno {error.errno}] {error.strerror})") from error


def open_image(path: Path, content: bytes, whole: bool = True) -> Image.Image:
    """The image, decoded if it is wanted `whole`, in the mode of the file."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise BadImage(TOO_MANY_PIXELS)
        if whole:
            image.load()
    except Image.DecompressionBombError as error:
        raise BadImage(TOO_MANY_PIXELS) from error
    except UnidentifiedImageError as error:
        reason = oddity(path) or f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
        raise BadImage(f"cannot be decoded: it is {reason}") from error
    except (BadImage, MemoryError):
        raise
    # For broken bytes Pillow raises nearly everything there is, depending on where they are broken.
    except Exception as error:
        raise BadImage(f"cannot be decoded ({error})") from error
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


def rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; of 16 bits the upper 8, where Pillow would take everything above 255 for white."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(path: Path, decoder: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """RGB uint8 [H, W, 3]. pillow keeps the stored orientation, opencv turns the image as EXIF says.

    With `size` (width, height) the image must have it; what opencv turns may also have it before.
    """
    return np.asarray(picture(path, decoder, size).pixels)


def picture(path: Path, decoder: str, size: tuple[int, int] | None = None, digest: str | None = None) -> Picture:
    """The same, of Pillow as its image. `digest` is the sha256 that the index has of a file which both decoders have
    read: OpenCV takes broken files for whole, so Pillow decodes all others too."""
    content = read(path)
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise Failure(f"{path}: has changed since it was indexed; run the same command again")
    image = open_image(path, content, whole=decoder == "pillow" or not digest)
    found = rgb(image) if decoder == "pillow" else by_opencv(path, content, image)
    if size is not None and sides(found) != size and (decoder == "pillow" or image.size != size):
        turned = decoder == "pillow" and orientation(image) in ROTATED and image.size[::-1] == size
        raise wrong_size(found, size, " as its EXIF turns it, which this decoder does not" if turned else "")
    return Picture(found, turned=decoder == "opencv" and orientation(image) != AS_STORED)


def sides(pixels: Pixels) -> tuple[int, int]:
    """Width and height."""
    return pixels.size if isinstance(pixels, Image.Image) else pixels.shape[1::-1]


def by_opencv(path: Path, content: bytes, image: Image.Image) -> np.ndarray:
    """The pixels as OpenCV decodes and turns them; `image` is the same file."""
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded by OpenCV ({error.err})") from error
    if pixels is None:
        reason = oddity(path)
        raise BadImage(f"cannot be decoded by OpenCV{f': it is {reason}' if reason else ''}")
    if sides(pixels) not in (image.size, image.size[::-1] if orientation(image) in ROTATED else None):
        height, width = pixels.shape[:2]
        raise BadImage(f"is {width}x{height} pixels to OpenCV, {image.width}x{image.height} to Pillow")
    return pixels
