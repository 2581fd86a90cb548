"""The state of a run, and the lines that tell it."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from detport import progress
from detport.console import estimate
from detport.console.jobs import Job, Kind, counted_log, kind, title

GROUPS = 6  # kinds of job at work that are named
LAST = 10  # lines of the log of a job that failed
FOUNDED = 2.0  # seconds of work before a speed is told
STALE = 3 * progress.INTERVAL  # seconds after which a count is not the last one any more: nothing moves


class Busy(NamedTuple):
    """How long jobs of a kind have been at work in this run: until `since`, and whether some still are."""

    seconds: float
    since: float | None


class Counted(NamedTuple):
    """Images that were done when jobs of a kind had been at work for so long, and when that was seen."""

    images: int
    seconds: float
    at: float


class View:
    """What is known of a run: its jobs, those at work, what the others took, and the last warning. `places` are the
    threads that may be at work, `commands` the log that has every job's command, `place` where the run was started."""

    def __init__(
        self, jobs: Sequence[Job], places: int, commands: Path, place: Path, clock: Callable[[], float] = time.time
    ):
        self.clock = clock
        self.commands, self.place = commands, place
        self.jobs = {job.id: job for job in jobs}
        self.places = places
        self.total = Counter(kind(job) for job in jobs)
        self.open = {job.id: job for job in jobs if job.pending}
        self.pending = len(self.open)
        self.before = estimate.recorded(jobs)
        self.done = Counter(kind(job) for job in jobs if not job.pending)
        self.started: dict[int, float] = {}  # of the jobs at work
        self.failed: set[int] = set()
        self.samples: dict[Kind, list[estimate.Sample]] = {}
        self.images: Counter[Kind] = Counter()  # that jobs of this run have done
        self.busy: dict[Kind, Busy] = {}
        self.counted: dict[Kind, Counted] = {}
        self.warned: dict[int, int] = {}  # warnings seen in the logs of jobs at work
        self.warning = ""  # the last one

    def start(self, number: int) -> None:
        """A job has begun."""
        if number in self.open:
            self.started[number], self.warned[number] = self.clock(), 0
            self.failed.discard(number)  # it is tried again
            key = kind(self.jobs[number])
            before = self.busy.get(key, Busy(0.0, None))
            self.busy[key] = before._replace(since=before.since or self.clock())

    def finish(self, number: int) -> None:
        """A job has done its work."""
        if job := self.open.pop(number, None):
            self.look(job)
            self.done[kind(job)] += 1
            self.images[kind(job)] += job.images or 0
            begun = self.started.get(number, self.clock())
            self.samples.setdefault(kind(job), []).append(estimate.Sample(self.clock() - begun, job.images))
            self.end(job)

    def end(self, job: Job) -> None:
        """A job is at work no more."""
        self.started.pop(job.id, None)
        key = kind(job)
        if not any(kind(self.jobs[number]) == key for number in self.started):
            found = self.busy.get(key, Busy(0.0, None))
            self.busy[key] = Busy(self.seconds(key), None) if found.since else found

    def fail(self, number: int, logs: Sequence[str]) -> list[str]:
        """A job has failed: what there is to say of it."""
        job = self.jobs[number]
        self.look(job)
        self.failed.add(number)
        begun = self.started.get(number, 0.0)
        self.end(job)
        lines = [f"detport: error: {title(job, self.total[kind(job)])} failed"]
        written = [path for path in map(Path, logs) if fresh(path, begun)]
        if not job.output:  # it has spoken to the terminal itself
            written = []
        last = progress.tail(written[-1]).splitlines()[-LAST:] if written else []
        lines += [f"  {line}" for line in last]
        lines += [f"  log: {self.shown(written[-1])}"] if last else []
        return [*lines, f"  command: in {self.shown(self.commands)}; --printshellcmds shows it"]

    def shown(self, path: Path) -> str:
        """A path as it is seen from where the command was given."""
        return os.path.relpath(path, self.place)

    def look(self, job: Job) -> tuple[int | None, int | None]:
        """Read the logs of a job at work: images done and in all; its warnings are noted."""
        begun, found = self.started.get(job.id), []
        counted: tuple[int | None, int | None] = (None, None)
        for path in map(Path, job.log):
            if begun is not None and fresh(path, begun):
                read = progress.read(path)
                found += read.warnings
                if path == counted_log(job):
                    counted = read.done, read.total
        new = found[self.warned.get(job.id, 0) :]
        if new:
            self.warned[job.id] = len(found)
            self.warn(f"{title(job, self.total[kind(job)])}: {new[-1]}")
        return counted

    def warn(self, text: str) -> None:
        """Note a warning."""
        self.warning = text

    def speaks(self) -> bool:
        """Whether a job is at work that makes no file: it is there to be read, and has the terminal for itself."""
        return any(not self.jobs[number].output for number in self.started)

    def seconds(self, key: Kind) -> float:
        """How long jobs of a kind have been at work in this run, those side by side once."""
        found = self.busy.get(key, Busy(0.0, None))
        return found.seconds + (self.clock() - found.since if found.since else 0.0)

    def left(self) -> estimate.Left:
        """What the run still takes."""
        paces = {key: estimate.pace(self.samples.get(key) or self.before[key]) for key in self.total}
        seconds = {
            number: estimate.expected(job, paces[kind(job)]) if job.output else 0.0 for number, job in self.open.items()
        }
        since = {number: self.clock() - begun for number, begun in self.started.items()}
        return estimate.left(list(self.open.values()), seconds, since, self.places)

    def summary(self) -> str:
        """The jobs that are to be done, at the start."""
        rules = Counter(job.rule for job in self.open.values())
        words = [f"{count} {rule}" if count > 1 else rule for rule, count in rules.items()]
        return f"{self.pending} job{'s' * (self.pending != 1)}: {', '.join(words)}; {estimate.said(self.left())}"

    def head(self) -> str:
        """How much is done, and how long the rest takes."""
        rest = f"{len(self.failed)} failed" if self.failed else estimate.said(self.left())
        return f"{self.pending - len(self.open)} of {self.pending} jobs done, {rest}"

    def groups(self) -> list[str]:
        """What is at work, jobs of a kind in one line."""
        at_work: dict[Kind, list[Job]] = {}
        for number in self.started:
            at_work.setdefault(kind(self.jobs[number]), []).append(self.jobs[number])
        lines = [self.group(key, jobs) for key, jobs in at_work.items()]
        return lines[:GROUPS] + [f"and {len(lines) - GROUPS} more"] * (len(lines) > GROUPS)

    def group(self, key: Kind, jobs: Sequence[Job]) -> str:
        """One line for the jobs of a kind that are at work."""
        name, rule = key
        done, now = self.images[key], [self.look(job) for job in jobs]
        images = done + sum(count or 0 for count, _ in now)
        speed = self.speed(key, images)
        told = [f"{name}: {rule}" if name else rule]
        if self.total[key] > 1:
            things = "shards" if "shard" in jobs[0].wildcards else "jobs"
            told[0] += f" {self.done[key]} of {self.total[key]} {things}"
        elif now[0][1]:
            told.append(f"{now[0][0]} of {now[0][1]} images")
        if speed:
            told.append(f"{speed} images/s")
        elif not images:
            told.append(estimate.span(min(self.clock() - self.started[job.id] for job in jobs)))
        return ", ".join(told)

    def speed(self, key: Kind, images: int) -> str | None:
        """How many images a second jobs of a kind do together, by the moment when the last ones were counted."""
        before = self.counted.get(key)
        if before is None or before.images != images:
            self.counted[key] = before = Counted(images, self.seconds(key), self.clock())
        seconds = before.seconds if self.clock() - before.at < STALE else self.seconds(key)
        return progress.rate(images, seconds) if images and seconds >= FOUNDED else None

    def block(self) -> list[str]:
        """The lines of a live view."""
        groups = self.groups()
        warning = [f"  last warning: {self.warning}"] if self.warning else []
        return [f"detport: {self.head()}", *(f"  {line}" for line in groups), *warning]

    def line(self) -> str:
        """The same as one line of a log."""
        groups = self.groups()
        return "; ".join([f"detport: {self.head()}", *groups])


def fresh(path: Path, begun: float) -> bool:
    """Whether a log has been written since a job began: what an earlier run left says nothing of it."""
    try:
        return path.stat().st_mtime >= begun - estimate.LAG
    except FileNotFoundError:
        return False
