"""Images alone: a folder and the folders in it. There is nothing to score against."""

from pathlib import Path

from detport.datasets import files
from detport.errors import UsageError

ANNOTATIONS = None
TURNED = False  # so that the sizes are those of the stored pixels, with which both decoders can do


def index_rows(dataset: dict, masks: bool = False) -> list[dict]:
    """One row per image; its name without the extension is the image id."""
    folder = Path(dataset["images"])
    found = files.image_files(folder)
    if not found:
        raise UsageError(f"{folder}: holds no image; put JPEG, PNG, BMP or WebP files there or correct the path")
    return [{"image_id": image_id(file), "file": file} for file in found]


def image_id(file: str) -> str:
    """What an image without an id is called: its file, without the extension."""
    return str(Path(file).with_suffix(""))


def truth(dataset: dict, rows: list[dict]) -> None:
    """There is none."""
    return None


def source(dataset: dict, rows: list[dict]) -> None:
    """There is none."""
    return None


def count(dataset: dict) -> int:
    """Number of images; FileNotFoundError without the folder."""
    return len(files.image_files(Path(dataset["images"])))


def watched(dataset: dict) -> list[str]:
    """Nothing; the workflow watches the images of every dataset."""
    return []


def signatures(dataset: dict) -> tuple[str, str]:
    """Nothing changes beside the images."""
    return "", ""
