"""Honest timing: warm-up, enough runs, percentiles; and the machine that was timed."""

import os
import platform
import time
from collections.abc import Callable

import numpy as np

from detport.processes import processor


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


def machine() -> dict[str, object]:
    """Processor, cores that this process may use, and operating system."""
    return {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}
