"""A bundle: one zip with a report and all that its figures rest on, each file under its name in the working directory.

MANIFEST.json lists the sha256 of every file. The ground truth lies under truth/, as its files stood to each other.
"""

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from detport import datasets, made
from detport.errors import Failure, UsageError
from detport.files import sha256

MANIFEST, README, TRUTH = "MANIFEST.json", "README.txt", "truth"
PLACES = ("images", "annotations", "image_set")  # keys of a dataset that are paths
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: the same files give the same bytes
LARGEST = 64 << 30  # bytes that a bundle may unpack to
KNOWN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def name_of(path: Path) -> str:
    """The name in the bundle: that in the working directory; what lies elsewhere is named by the end of its path."""
    parts = Path(os.path.relpath(path)).parts
    return "/".join(part for part in parts if part != "..")


def truth_files(dataset: dict) -> dict[str, Path]:
    """Files of the ground truth by their name in the bundle; none of a dataset without."""
    kind = datasets.load(dataset["kind"])
    if kind.ANNOTATIONS is None:
        return {}
    top = above(dataset)
    return {f"{TRUTH}/{relative(Path(file), top)}": Path(file) for file in kind.files(dataset)}


def moved(dataset: dict) -> dict:
    """The dataset as it is in the bundle."""
    top = above(dataset)
    return dataset | {key: f"{TRUTH}/{relative(Path(dataset[key]), top)}" for key in PLACES if key in dataset}


def above(dataset: dict) -> Path:
    """The folder that everything of a dataset is in."""
    return Path(os.path.commonpath([Path(dataset[key]).absolute().parent for key in PLACES if key in dataset]))


def relative(path: Path, top: Path) -> str:
    return Path(os.path.relpath(path.absolute(), top)).as_posix()


def with_records(files: Iterable[Path]) -> list[Path]:
    """Files and the records beside them."""
    found = [[path, made.record_file(path)] for path in files]
    return [path for pair in found for path in pair if path.is_file()]


def write(partial: Path, files: Mapping[str, Path], texts: Mapping[str, str], about: dict) -> None:
    """The zip: files and texts by name, and the manifest of them all."""
    digests = {}
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, path in sorted(files.items()):
            with path.open("rb") as source, bundle.open(entry(name), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)
            digests[name] = sha256(path)
        for name, text in texts.items():
            bundle.writestr(entry(name), text.encode())
        manifest = about | {"files": digests}
        bundle.writestr(entry(MANIFEST), json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def entry(name: str) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name, EPOCH)
    found.compress_type = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
    found.external_attr = (stat.S_IFREG | 0o644) << 16
    return found


def unpack(path: Path, folder: Path) -> dict:
    """Put a bundle's files into a folder, and give its manifest. What is no file inside it is refused."""
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = bundle.infolist()
            refuse_strange(path, entries)
            for each in entries:
                target = folder / each.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(each) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != 1 or not isinstance(manifest["files"], dict):
            raise ValueError("another schema")
    except (zipfile.BadZipFile, EOFError) as error:
        raise Failure(f"{path}: is damaged or no zip: {error}; have it sent again") from error
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path}: has no usable {MANIFEST} ({error}); expected what snakemake reports/MODEL.zip makes"
        ) from error
    return manifest


def refuse_strange(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """A bundle comes from somebody else: names that leave the folder, links, and bombs are refused before unpacking."""
    names = set()
    for each in entries:
        name = PurePosixPath(each.filename)
        form = stat.S_IFMT(each.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or "\\" in each.filename or each.is_dir() or "\0" in each.filename:
            raise UsageError(f"{path}: {each.filename!r} is no name of a file inside a bundle; do not trust it")
        if form not in (0, stat.S_IFREG):
            raise UsageError(f"{path}: {each.filename!r} is no plain file; do not trust it")
        if each.compress_type not in KNOWN_PACKING or each.flag_bits & 1 or each.filename in names:
            raise UsageError(f"{path}: {each.filename!r} is there twice, or packed in a way that no bundle is")
        names.add(each.filename)
    total = sum(each.file_size for each in entries)
    if total > LARGEST:
        raise UsageError(f"{path}: would unpack to {total / 1e9:.0f} GB, more than any bundle")
