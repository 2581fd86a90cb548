"""Images alone: a folder and the folders in it. There is nothing to score against."""

from pathlib import Path

from detport.datasets import listing
from detport.errors import UsageError

ANNOTATIONS = None
TURNED = False  # so that the sizes are those of the stored pixels, with which both decoders can do


def index_rows(dataset: dict) -> list[dict]:
    """One row per image; its name without the extension is the image id."""
    folder = Path(dataset["images"])
    found = listing.image_files(folder)
    if not found:
        raise UsageError(f"{folder}: holds no image; put JPEG, PNG, BMP or WebP files there or correct the path")
    return [{"image_id": image_id(file), "file": file} for file in found]


def image_id(file: str) -> str:
    """What an image without an id is called: its file, without the extension."""
    return str(Path(file).with_suffix(""))


def categories(dataset: dict) -> list[dict]:
    """Any: nothing is known."""
    return []


def truth(dataset: dict, rows: list[dict]) -> None:
    """There is none."""
    return None


def source(dataset: dict, rows: list[dict]) -> None:
    """There is none."""
    return None


def count(dataset: dict) -> int:
    """Number of images; FileNotFoundError without the folder."""
    Path(dataset["images"]).stat()
    return len(listing.image_files(Path(dataset["images"])))


def files(dataset: dict) -> list[str]:
    """The images themselves, because nothing else says which there are."""
    folder = Path(dataset["images"])
    return [str(folder / name) for name in listing.image_files(folder)]


def scored(dataset: dict) -> tuple[Path, list[str]]:
    """No file."""
    return Path(), []
