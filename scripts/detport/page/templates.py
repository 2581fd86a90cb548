"""Where the templates, styles, script and texts of the page are, and their digest: they are no code, but make it."""

import functools
import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("templates")


@functools.cache
def digest() -> str:
    """One digest of all files of the folder, with their names."""
    total = hashlib.sha256()
    for path in sorted(path for path in FOLDER.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(FOLDER).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]
