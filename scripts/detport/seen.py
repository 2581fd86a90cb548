"""What an index that was cut short has looked at: a line for every image, which the next one need not decode."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from detport.files import remove


@contextlib.contextmanager
def journal(path: Path, of: str) -> Iterator[tuple[dict[str, dict], Callable[[str, dict], None]]]:
    """What is known by the name of an image, and a function that notes more of it, from any thread.

    `of` is the digest of how images are looked at: what was noted in another way is forgotten. The file is gone when
    the block ends well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known, lock = read(path, of), threading.Lock()
    with path.open("a" if known else "w", encoding="utf-8") as file:
        file.write("\n" if known else f"{of}\n")  # the last line may have been cut short

        def note(name: str, found: dict) -> None:
            with lock:
                file.write(f"{json.dumps([name, found])}\n")
                file.flush()

        yield known, note
    remove(path)


def read(path: Path, of: str) -> dict[str, dict]:
    """The whole lines of a journal, if it is of the same."""
    if not path.exists():
        return {}
    first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    known: dict[str, dict] = {}
    for line in lines if first == of else ():
        with contextlib.suppress(ValueError):  # empty, or cut short
            name, found = json.loads(line)
            known[name] = found
    return known
