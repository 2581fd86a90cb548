"""Image files in the folder of a dataset, named as the index names them: relative to the folder, with slashes."""

import os
from collections.abc import Iterator
from pathlib import Path

from detport.errors import UsageError

# The last ones are images too, which cannot be decoded here: they are named as bad images and not passed over.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2", ".jxl")


def image_files(folder: Path) -> list[str]:
    """Every image in a folder and the folders in it, in the order of their names; hidden ones are none."""
    names = (name for name in walk(folder) if name.lower().endswith(SUFFIXES))
    return sorted(name for name in names if not any(part.startswith(".") for part in Path(name).parts))


def walk(folder: Path) -> Iterator[str]:
    """Every file in a folder and the folders in it, each folder once, wherever links lead."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; put it there or correct the path")
    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        place = Path(top).stat()
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        yield from ((Path(top) / name).relative_to(folder).as_posix() for name in names)


def relative(path: Path, folder: Path) -> str | None:
    """The name of a file or folder in `folder`, or None outside of it, wherever links lead."""
    as_written = [Path(os.path.normpath(each.absolute())) for each in (path, folder)]
    for wanted, top in (as_written, (path.resolve(), folder.resolve())):
        if wanted.is_relative_to(top):
            return wanted.relative_to(top).as_posix()
    return None


def within(name: str, where: str, folder: Path) -> str:
    """The name of an image as annotations state it, with slashes where they have backslashes and no such file."""
    if "\\" in name and not (folder / name).exists():
        name = name.replace("\\", "/")
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UsageError(f"{where}: {name!r} leads out of {folder}, the folder of the images; name it relative to that")
    return name
