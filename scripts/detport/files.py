"""Files that are whole or not there, also after a power cut: a temporary name, everything on disk, then the rename.
Digests and JSON with stable bytes."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from detport.processes import started

NODE_DISK = "DETPORT_SCRATCH"  # of the environment: the folder for temporary files, where it is not beside the output
# What a file system answers that does not put folders to disk on demand, or takes no room in advance.
UNABLE = (errno.EINVAL, errno.ENOTSUP)
LFS = b"version https://git-lfs.github.com/"
LINK = re.compile(r"[^\x00-\x20\x7f<>{}\[\]\"',:]+")  # a relative or absolute path, in one line
LONGEST_STAND_IN = 1024  # bytes
FULL = (errno.ENOSPC, errno.EDQUOT)  # a full disk, or a user's part of it


@contextlib.contextmanager
def atomic(path: Path, directory: bool = False, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, else delete it.

    What is in it is on disk before the rename, which a file system may else put first: a power cut would then leave
    a whole name with half a content. What nobody uses after one need not be `durable`.

    The name carries host, process and the process's start, so that an orphan of a killed run and its successor never
    write to the same file; what dead processes of this host left behind is removed.
    """
    partial = partial_name(path)
    if directory:
        partial.mkdir()
    try:
        yield partial
        for each in (*partial.rglob("*"), partial) if durable else ():
            to_disk(each)
        if directory:
            remove(path)
        partial.replace(path)
        if durable:
            to_disk(path.parent)
    except OSError as error:
        remove(partial)
        # A write does not tell where it failed, and a copy to a full disk names its source.
        if error.filename is None or error.errno in FULL:
            error.filename = str(path)
        raise
    except BaseException:
        remove(partial)
        raise


def to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if not (path.is_dir() and error.errno in UNABLE):
            raise
    finally:
        os.close(number)


def reserve(file: IO[bytes], start: int, length: int) -> None:
    """Take room on disk for a part of a file before it is written, where the system can: a third less time than to find
    it block by block."""
    if length and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), start, length)
        except OSError as error:
            if error.errno not in UNABLE:
                raise


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder for a tool to work in, deleted when the block ends: beside `path`, on a cluster on the node's disk."""
    place = Path(os.environ.get(NODE_DISK, path.parent))
    folder = partial_name(place / f"{path.name}.scratch")
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


def partial_name(path: Path) -> Path:
    """A name of this process beside `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    pid = os.getpid()
    return path.with_name(f".{path.name}.{socket.gethostname()}.{pid}.{started(pid)}.partial")


def remove_leftovers(path: Path) -> None:
    """Delete partial files of `path` whose process on this host is gone, or a zombie nobody has waited for."""
    for sibling in path.parent.iterdir():
        if sibling.name.startswith(f".{path.name}.{socket.gethostname()}.") and is_leftover(sibling):
            remove(sibling)


def is_leftover(path: Path) -> bool:
    """Whether this is a partial file of a process of this host that is gone."""
    owner = re.fullmatch(r"\..+\." + re.escape(socket.gethostname()) + r"\.(\d+)\.(\d+)\.partial", path.name, re.DOTALL)
    return owner is not None and started(int(owner[1])) != int(owner[2])


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def stand_in(path: Path) -> str | None:
    """What lies at a path in place of the file itself, and the remedy; None unless it is such a thing."""
    with path.open("rb") as file:
        content = file.read(LONGEST_STAND_IN + 1)
    if content.startswith(LFS):
        return "a pointer of git-lfs, not the file itself; fetch that: git lfs pull"
    text = content.decode("utf-8", "replace").removesuffix("\n")
    if len(content) > LONGEST_STAND_IN or not LINK.fullmatch(text) or not ("/" in text or text.endswith(path.suffix)):
        return None
    return f"a link that was saved as text, {text!r}; put the file that it names in its place"


def write_json(path: Path, value: object) -> None:
    """Write JSON whose bytes depend on nothing but the value."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
