"""How long a run still takes: from the jobs that have ended in it, else from the records of earlier runs."""

import heapq
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from detport import progress
from detport.console.jobs import Job, Kind, counted_log, kind

RECORDS = 50  # of a kind of job that are read: more tell nothing new
LAG = 2.0  # seconds that a job's record may be older than the end of its log, by the clocks of two machines


class Sample(NamedTuple):
    """A job that has ended: what it took, and how many images it had."""

    seconds: float
    images: int | None


class Pace(NamedTuple):
    """Seconds that a job takes, and those for each of its images; None where nothing tells."""

    job: float | None
    image: float | None


class Left(NamedTuple):
    """Seconds that a run still takes, None where nothing tells, and the rules that are not in them."""

    seconds: float | None
    unknown: list[str]


def durations(path: Path) -> list[float]:
    """Seconds in a benchmark file of Snakemake; what a killed run left of one tells none."""
    found = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in file:
            first = line.split("\t")[0]  # the column s
            if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", first):
                found.append(float(first))
    return found


def recorded(jobs: Iterable[Job]) -> dict[Kind, list[Sample]]:
    """What jobs took in earlier runs, by their kind."""
    found: dict[Kind, list[Sample]] = {}
    for job in jobs:
        samples = found.setdefault(kind(job), [])
        if len(samples) < RECORDS and (sample := record(job)):
            samples.append(sample)
    return found


def record(job: Job) -> Sample | None:
    """What a job took when it last ran to its end. A log that is younger is of a run that did not."""
    path, log = Path(job.benchmark or ""), counted_log(job)
    if not path.is_file():
        return None
    seconds = durations(path)
    images = None
    if log is not None and log.is_file() and log.stat().st_mtime <= path.stat().st_mtime + LAG:
        images = progress.read(log).total
    return Sample(fmean(seconds), images) if seconds else None


def pace(samples: Sequence[Sample]) -> Pace:
    """What jobs of a kind take."""
    known = [sample for sample in samples if sample.images]
    images = sum(sample.images for sample in known)
    return Pace(
        fmean(sample.seconds for sample in samples) if samples else None,
        sum(sample.seconds for sample in known) / images if images else None,
    )


def expected(job: Job, found: Pace) -> float | None:
    """Seconds that a job will take, in proportion to its images if it has some; None if others do not tell."""
    if job.images is None:
        return found.job
    return None if found.image is None else found.image * job.images


def left(jobs: Sequence[Job], seconds: Mapping[int, float | None], since: Mapping[int, float], places: int) -> Left:
    """What the jobs that are not done take together, if each begins as soon as what it needs is there and places are
    free. `seconds` each takes, None where nothing tells; `since` how long those at work have been."""
    by_id = {job.id: job for job in jobs}
    waits = {job.id: {name for name in job.needs if name in by_id} for job in jobs}
    followers: dict[int, list[int]] = {name: [] for name in by_id}
    for name, needs in waits.items():
        for each in needs:
            followers[each].append(name)
    unknown = sorted({job.rule for job in jobs if seconds[job.id] is None})
    if unknown and not any(seconds.values()):
        return Left(None, unknown)
    ready = deque(sorted((name for name, needs in waits.items() if not needs), key=lambda name: name not in since))
    free, now, ends = places, 0.0, []
    while ready or ends:
        while ready and (ready[0] in since or min(by_id[ready[0]].threads, places) <= free):
            name = ready.popleft()
            size = min(by_id[name].threads, places)
            free -= size
            heapq.heappush(ends, (now + max((seconds[name] or 0.0) - since.get(name, 0.0), 0.0), name, size))
        now, name, size = heapq.heappop(ends)
        free += size
        for each in followers[name]:
            waits[each].discard(name)
            if not waits[each]:
                ready.append(each)
    return Left(now, unknown)


def said(found: Left) -> str:
    """The estimate in words that promise no more than is known."""
    if found.seconds is None:
        return "no estimate yet"
    if found.unknown:
        return f"more than {span(found.seconds)} left ({', '.join(found.unknown)} not timed yet)"
    return f"about {span(found.seconds)} left"


def span(seconds: float) -> str:
    """A time in the two largest units that it has."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
