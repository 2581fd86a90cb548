"""How far a stage is, in its log: a line now and then while it works, one at its end. What reads them is here too."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from detport import cli

INTERVAL = 10.0  # seconds between two lines
TAIL = 1 << 14  # bytes at the end of a log that are looked at
COUNT = re.compile(r"\b(\d+) of (\d+) images\b")
WARNING = re.compile(r"^\S+ \S+ (\w+): warning: (.+)$", re.MULTILINE)


T = TypeVar("T")


class Read(NamedTuple):
    """What a log says: images done and in all, if it counts images, and its warnings, as STAGE: TEXT."""

    done: int | None
    total: int | None
    warnings: list[str]


def counter(total: int, clock: Callable[[], float] = time.monotonic) -> Callable[[], None]:
    """A function to call after each of `total` images: it logs how many are done, and how fast, at sane intervals."""
    begun = told = clock()
    done = 0

    def count() -> None:
        nonlocal done, told
        done += 1
        now = clock()
        if done == total or now - told >= INTERVAL:
            told = now
            cli.log.info("%d of %d images, %s images/s", done, total, rate(done, now - begun))

    return count


def each(things: Sequence[T]) -> Iterator[T]:
    """The images, one by one, counted when they are done."""
    count = counter(len(things))
    for thing in things:
        yield thing
        count()


def rate(done: int, seconds: float) -> str:
    """So many a second, in digits that mean something."""
    speed = done / max(seconds, 1e-3)
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Log that a step of a stage begins, that it still is at work, and how long it took: one that cannot be counted."""
    over, begun = threading.Event(), time.monotonic()
    cli.log.info("%s ...", name)

    def remind() -> None:
        while not over.wait(INTERVAL):
            cli.log.info("%s, %.0f s so far ...", name, time.monotonic() - begun)

    thread = threading.Thread(target=remind, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    cli.log.info("%s took %.1f s", name, time.monotonic() - begun)


def read(log: Path) -> Read:
    """What the end of a log says; of one that is not there, nothing."""
    text = tail(log)
    counts = COUNT.findall(text)
    done, total = map(int, counts[-1]) if counts else (None, None)
    return Read(done, total, [f"{stage}: {said}" for stage, said in WARNING.findall(text)])


def tail(log: Path) -> str:
    """The end of a text file, which may be missing, or still be written."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
