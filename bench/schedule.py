"""The ideal schedule of a run's jobs, by their own times, their threads and what each needs: nothing lies between."""

import heapq
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detport.console.estimate import durations


class Job(NamedTuple):
    """A job of a run that has ended."""

    name: str  # the file of its time, which no other job has
    seconds: float  # of its shell command, the start of Python included
    ended: float  # since 1970
    threads: int
    inputs: list[str]
    outputs: list[str]


def of_run(folder: Path, cores: int) -> list[Job]:
    """The jobs of the last run in a working directory, whose paths have no blanks: by the log that Snakemake has
    written of it, and by the file with its time that every job leaves."""
    text = max((folder / ".snakemake" / "log").glob("*.log")).read_text(encoding="utf-8")
    jobs = []
    for block in re.findall(r"^(?:local)?rule \w+:\n((?:    .*\n)+)", text, re.MULTILINE):
        said = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        if "benchmark" not in said:
            continue  # a target without a command
        file = folder / said["benchmark"]
        (seconds,) = durations(file)
        threads = min(int(said.get("threads", 1)), cores)
        paths = [said.get(key, "").split(", ") for key in ("input", "output")]
        jobs.append(Job(said["benchmark"], seconds, file.stat().st_mtime, threads, *paths))
    return jobs


def needs(jobs: Sequence[Job]) -> dict[str, set[str]]:
    """Names of the jobs that each one waits for."""
    makers = {path: job.name for job in jobs for path in job.outputs}
    return {job.name: {makers[path] for path in job.inputs if path in makers} for job in jobs}


def ideal(jobs: Sequence[Job], cores: int) -> float:
    """Seconds in which so many cores do these jobs: each time that some are free, of the jobs that can begin and fit
    the one goes first behind which most is left to do."""
    by_name, waits = {job.name: job for job in jobs}, needs(jobs)
    followers: dict[str, list[str]] = {name: [] for name in by_name}
    for name, others in waits.items():
        for each in others:
            followers[each].append(name)
    left: dict[str, float] = {}

    def longest(name: str) -> float:
        if name not in left:
            left[name] = by_name[name].seconds + max(map(longest, followers[name]), default=0.0)
        return left[name]

    ready = [name for name, others in waits.items() if not others]
    free, now, ends = cores, 0.0, []
    while ready or ends:
        for name in sorted(ready, key=longest, reverse=True):
            if by_name[name].threads <= free:
                free -= by_name[name].threads
                ready.remove(name)
                heapq.heappush(ends, (now + by_name[name].seconds, name))
        now, name = heapq.heappop(ends)
        free += by_name[name].threads
        for each in followers[name]:
            waits[each].discard(name)
            ready += [] if waits[each] else [each]
    return now
