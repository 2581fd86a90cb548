"""Honest timing: warm-up, enough runs, percentiles; and the machine that was timed."""

import os
import platform
import time
from collections.abc import Callable

import numpy as np

from detport.processes import processor

BINS, POINTS = 40, 200  # of the histogram of latencies, and of their trace


def time_runs(run: Callable[[], object], warmup_runs: int, min_runs: int, min_seconds: float) -> list[float]:
    """Seconds of each timed run: at least `min_runs` of them, for at least `min_seconds` in all."""
    for _ in range(warmup_runs):
        run()
    seconds: list[float] = []
    while len(seconds) < min_runs or sum(seconds) < min_seconds:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def latency_ms(seconds: list[float]) -> dict[str, float]:
    """Mean, percentiles and extremes of single runs, in milliseconds."""
    values = np.array(seconds) * 1000
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    figures = {"mean": values.mean(), "p50": p50, "p90": p90, "p99": p99, "min": values.min(), "max": values.max()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def over_time(seconds: list[float]) -> dict[str, dict[str, list]]:
    """How the single runs are spread: by latency, and in their order, where a machine that throttles shows. Neighbours
    are put together, so that no more than `POINTS` remain of any number of runs."""
    values = np.array(seconds) * 1000
    parts, ends = np.array_split(values, min(POINTS, len(values))), np.cumsum(seconds)
    last = np.cumsum([len(part) for part in parts]) - 1
    # A run that was interrupted is many times as long as the others: it counts in the last bin.
    counts, edges = np.histogram(values.clip(max=np.percentile(values, 99.5)), BINS)
    return {
        "latency_histogram": {"edges_ms": edges.round(4).tolist(), "runs": counts.tolist()},
        "latency_trace": {
            "seconds": ends[last].round(3).tolist(),
            "ms": [round(float(part.mean()), 4) for part in parts],
        },
    }


def machine() -> dict[str, object]:
    """Processor, cores that this process may use, and operating system."""
    return {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}
