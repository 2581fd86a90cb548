"""Time two ways of doing the same thing in turns, in one process, and print the ratio.

Turns make the ratio robust: whatever else the machine does meets both sides alike.
"""

import statistics
import time
from collections.abc import Callable


def compare(title: str, ours: Callable[[], object], guide: Callable[[], object], rounds: int) -> float:
    """Print median milliseconds of both and how many times faster ours is; return the ratio."""
    sides = {"ours": ours, "guide": guide}
    for run in sides.values():
        run()  # warm-up: file cache, lazy imports
    milliseconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            milliseconds[name].append((time.perf_counter() - start) * 1000)
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    ratio = medians["guide"] / medians["ours"]
    print(
        f"{title:<58} ours {medians['ours']:8.2f} ms   guide {medians['guide']:8.2f} ms   {ratio:6.1f} times"
        f"   ({rounds} rounds, median)",
        flush=True,
    )
    return ratio
