"""Time two ways of doing the same thing in turns, and give the ratios of the pairs.

What is counted is processor time, that of programs that are started included: whatever else the machine does, it meets
both sides of a pair alike.
"""

import contextlib
import functools
import math
import multiprocessing
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROUNDS = 9
SHORTEST, LONG = 30, 3000  # ms of a round: less would measure the clock; of a run that needs no other before it
LAUNCH = Path(__file__).with_name("launch.py")
Side = Callable[[], object]


class Measured(NamedTuple):
    """How many times better ours is than the other, in every round, and what both took: the medians."""

    ratios: list[float]
    ours: float
    other: float
    unit: str = "ms"


class Row(NamedTuple):
    """A claim. `measure` gets an empty folder, and gives the ratios; at least `required` is claimed, and `most` of the
    unit for ours. What takes longer than a few seconds is `slow`."""

    name: str
    against: str
    measure: Callable[[Path], Measured]
    required: float | None = None
    most: float | None = None
    slow: bool = False


def turns(ours: Side, other: Side, rounds: int = ROUNDS, before: Side = lambda: None) -> Measured:
    """Milliseconds of both. Each goes first in every other round, as often in it as takes SHORTEST; `before` is called
    each time and does not count."""
    with worker(ours, before) as first, worker(other, before) as second:
        sides = [(ask, often(ask)) for ask in (first, second)]
        pairs = []
        for i in range(rounds):
            taken = {ask: ask(times) for ask, times in (reversed(sides) if i % 2 else sides)}
            pairs.append((taken[first], taken[second]))
    return of_pairs(pairs, "ms")


@contextlib.contextmanager
def worker(run: Side, before: Side) -> Iterator[Callable[[int], float]]:
    """A process of its own for a side, that is asked for its milliseconds: what one side leaves of the memory would
    else decide what the other has to ask the system for."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(run, before, there))
    process.start()
    there.close()

    def ask(times: int) -> float:
        here.send(times)
        return here.recv()

    try:
        yield ask
    finally:
        process.terminate()
        process.join()


def serve(run: Side, before: Side, pipe: Connection) -> None:
    """Run as often as asked."""
    while True:
        pipe.send(milliseconds(run, pipe.recv(), before))


def often(ask: Callable[[int], float]) -> int:
    """How often in a round, by the second run: the first one meets a cold file cache and lazy imports, which is little
    of a run that takes long."""
    if ask(1) > LONG:
        return 1
    return max(math.ceil(SHORTEST / max(ask(1), 0.001)), 1)


def milliseconds(run: Side, times: int, before: Side) -> float:
    """Processor time of one run, programs that it waits for included."""
    total = 0.0
    for _ in range(times):
        before()
        start = processor_time()
        run()
        total += processor_time() - start
    return total * 1000 / times


def of_pairs(pairs: Sequence[tuple[float, float]], unit: str) -> Measured:
    """What pairs say of which less is better: of milliseconds, of bytes."""
    ours, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Measured([second / first for first, second in pairs], ours, other, unit)


def processor_time() -> float:
    """Of this process and the programs that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak(command: Sequence[object]) -> float:
    """Megabytes that a program had at its peak."""
    words = [sys.executable, LAUNCH, *command]
    return float(subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout)


def own_peak_mb() -> float:
    """Megabytes that this process has had at its peak: `getrusage` would begin with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024 / 1e6


@functools.cache
def numbers() -> np.ndarray:
    return np.random.default_rng(0).random(400_000, np.float32)


def yardstick() -> None:
    """A fixed piece of work, about 10 ms, for what has no other way beside it: sort, compute and copy numbers."""
    values = numbers()
    for _ in range(6):
        np.sort(values)
        np.exp(values, dtype=np.float64).astype(np.float32)
        (values * 2 + 1).tobytes()
