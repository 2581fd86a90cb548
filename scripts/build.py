"""Compile what preprocessing has in C, into the environment of the Python that runs this.

Nothing needs it: without a C compiler Pillow resizes by itself, to the same bytes, which takes longer. CC names another
compiler than cc, CFLAGS is more for it. `make` runs this; after another way to install, run it once.

Example: python scripts/build.py
"""

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detport import cli, loops, pillow_resize
from detport.files import atomic

OPTIONS = ("-std=gnu99", "-O3", "-funroll-loops", "-fPIC", "-shared")
WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()
ATTEMPTS = (WIDE, ("-DONE_VARIANT",))  # the second for compilers that make no variants by processor
WITHOUT = "Pillow resizes by itself, which takes longer and changes nothing else"


def main(argv: Sequence[str] | None = None) -> None:
    cli.parser(__doc__, makes=False).parse_args(argv)
    library = loops.library_file()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / library.name
        problem = compiled(found)
        if problem:
            print(f"{problem}: {WITHOUT}")
            return
        with atomic(library) as partial:
            shutil.copyfile(found, partial)
    proven = all(pillow_resize.proven(kind) for kind in pillow_resize.RADIUS)
    print(f"{library}: {'gives what Pillow gives' if proven else f'is not used; {WITHOUT}'}")


def compiled(output: Path) -> str | None:
    """Compile the library; the reason why that does not work."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    for attempt in ATTEMPTS:
        more = shlex.split(os.environ.get("CFLAGS", ""))
        command = [*compiler, *OPTIONS, *attempt, *more, "-o", output, loops.SOURCE]
        try:
            result = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", errors="replace")
        except OSError as error:
            return f"no C compiler ({compiler[0]}: {error.strerror})"
        if result.returncode == 0:
            return None
    return f"{compiler[0]} cannot compile {loops.SOURCE} ({result.stderr.strip().partition(chr(10))[0]})"


if __name__ == "__main__":
    cli.run(main)
