"""Slurm, as far as detport talks to it itself: jobs that a killed run left, and the devices that a job was given.

Snakemake's executor submits and follows the jobs of a run that lives. It names them with the run's UUID, gives each a
comment, and has them begin in the run's working directory; by these they are found again when the run is dead.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from detport.errors import Failure

PAUSE = 5.0  # seconds between two looks at jobs that are waited for
PATIENCE = 60  # seconds that Slurm has to answer
RUN = re.compile(r"(.+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a run's UUID, perhaps behind a prefix
COMMENT = re.compile(r"rule_")  # what the executor's comments begin with
# Reasons for which jobs wait in the ordinary way of things.
USUAL = re.compile("None|Priority|Resources|Dependency|BeginTime|JobHeld|Prolog|Licenses|Reservation$")
# How jobs end that fail, and what is to be done about it.
ENDS = {
    "FAILED": "",
    "CANCELLED": "somebody has ended it (scancel)",
    "NODE_FAIL": "its node went down; run the same command again",
    "TIMEOUT": "it took longer than it may; give its rule more `runtime` in the profile",
    "OUT_OF_MEMORY": "it took more memory than it may; give its rule more `mem_mb` in the profile",
    "PREEMPTED": "another job has pushed it out; run the same command again",
    "BOOT_FAIL": "its node did not start; run the same command again",
    "DEADLINE": "its deadline has passed",
}
ACCOUNTING = {
    "sacct": 1,
    "sacctmgr": 1,
    "sshare": 0,
}  # the exit status by which the executor goes on without an account
NAMED = re.compile(r"^ +log: (.*) \(check log file", re.MULTILINE)  # as Snakemake names logs of a job that failed
COMPLAINT = re.compile(r"error:|not found|No such file|No space left", re.IGNORECASE)
NOISE = re.compile("srun: |WorkflowError|CalledProcessError|RuleException|Command '|Shell command|show-failed")
BETWEEN = "\x1f"
INDICES = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")


class Job(NamedTuple):
    """A job of Slurm."""

    number: str
    state: str
    reason: str  # why it waits
    submitted: str  # a date that sorts
    node: str
    name: str
    about: str  # the comment: rule and wildcards
    folder: str

    def __str__(self) -> str:
        return f"{self.number} ({self.about.removeprefix('rule_')})"


FORM = BETWEEN.join(("%i", "%T", "%r", "%V", "%N", "%j", "%k", "%Z"))


def ask(*command: str) -> str:
    """What a command of Slurm prints; Failure if it has no answer."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{command[0]}: {error}; Slurm must answer: try sinfo") from error
    if done.returncode:
        raise Failure(f"{command[0]}: {(done.stderr.strip() or 'no message').splitlines()[-1]}; try sinfo")
    return done.stdout


def jobs_of(folder: Path, *which: str) -> list[Job]:
    """Jobs of Snakemake runs in a working directory, but for the one that this process is in: those that wait or run,
    or `which` options of squeue name."""
    lines = ask("squeue", "--me", "--noheader", *which, "--format", FORM).splitlines()
    here = str(folder.resolve())
    return [
        job
        for job in (Job(*line.split(BETWEEN)) for line in lines if line.count(BETWEEN) == FORM.count(BETWEEN))
        if job.folder == here
        and RUN.fullmatch(job.name)
        and COMMENT.match(job.about)
        and job.number != os.environ.get("SLURM_JOB_ID")
    ]


def tell(line: str) -> None:
    print(f"detport: {line}", file=sys.stderr, flush=True)


def settle(folder: Path) -> None:
    """End what a dead run left, and say so: its waiting jobs are cancelled, its running ones waited for.

    They are none the worse for it: a job that runs would only be begun again, and what it makes is whole or not there.
    """
    if shutil.which("squeue") is None:
        tell(f"no squeue here: jobs that an earlier run in {folder.resolve()} has sent to Slurm may still be at work")
        return
    left = jobs_of(folder)
    waiting = [job for job in left if job.state in ("PENDING", "SUSPENDED")]
    if waiting:
        ask("scancel", *(job.number for job in waiting))
        tell(f"cancelled Slurm jobs of an earlier run that had not begun: {', '.join(map(str, waiting))}")
    awaited = [job for job in left if job not in waiting]
    if awaited:
        tell(
            f"waiting for Slurm jobs of an earlier run: {', '.join(map(str, awaited))}; to end them: scancel"
            f" {' '.join(job.number for job in awaited)}"
        )
        while jobs_of(folder):
            time.sleep(PAUSE)
        tell("they have ended; what they finished counts")


def watch(folder: Path) -> None:
    """From a thread, say once of every reason for which jobs may wait for ever, and which jobs do."""

    def look() -> None:
        told: set[str] = set()
        while True:
            time.sleep(PAUSE * 4)
            try:
                stuck = [job for job in jobs_of(folder, "--states=PENDING") if not USUAL.match(job.reason)]
            except Failure as error:
                stuck = []
                if "" not in told:
                    tell(str(error))
                    told.add("")
            for reason in {job.reason for job in stuck} - told:
                found = ", ".join(str(job) for job in stuck if job.reason == reason)
                tell(f"Slurm jobs wait, {reason}: {found}; look at sinfo -R")
                told.add(reason)

    threading.Thread(target=look, name="slurm", daemon=True).start()


def failures(folder: Path, since: str, logs: Path) -> list[str]:
    """A line for every job since a moment that failed: what became of it, why, and where its log is."""
    jobs = [job for job in jobs_of(folder, "--states=all") if job.submitted >= since and job.state in ENDS]
    return [
        f"Slurm job {job} {job.state}{f' on {job.node}' if job.node else ''}: {cause(job, log)}; log: {log}"
        for job in jobs
        for log in [next(logs.rglob(f"{job.number}.log"), logs / f"{job.number}.log")]
    ]


def cause(job: Job, log: Path) -> str:
    """Why a job failed: what Slurm's state says, else the last complaint in its log or in those that it names."""
    if job.state != "FAILED":
        return ENDS[job.state]
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    named = [name for line in NAMED.findall(text) for name in line.split(", ")]
    for each in (text, *(read(Path(job.folder) / name) for name in dict.fromkeys(named))):
        found = [line.strip() for line in each.splitlines() if COMPLAINT.search(line) and not NOISE.search(line)]
        if found:
            return found[-1]
    return text.strip().splitlines()[-1] if text.strip() else "it left no log: is the working directory on its node?"


def read(path: Path) -> str:
    """The text of a log, empty if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def do_without_accounting(folder: Path) -> None:
    """Where Slurm's accounting is not installed, have commands that say so: the executor asks them for the user's
    account without looking whether they are there, and then waits for ever."""
    place = folder.resolve() / ".snakemake" / "detport.bin"
    for name in (name for name in ACCOUNTING if shutil.which(name) is None):
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"#!/bin/sh\nexit {ACCOUNTING[name]}\n", encoding="utf-8")
        (place / name).chmod(0o755)
    if place.exists() and str(place) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] += f"{os.pathsep}{place}"  # behind all others


def unknown_partitions(wanted: Iterable[str]) -> str | None:
    """A complaint about partitions that this cluster does not have."""
    known = set(ask("sinfo", "--noheader", "--format=%R").split())
    missing = [name for each in wanted for name in str(each).split(",") if name not in known]
    if not missing:
        return None
    return f"slurm_partition: there is no {missing[0]!r}, only {', '.join(sorted(known))}; correct the profile"


def devices(kinds: Sequence[str], job: str | None = None) -> list[int] | None:
    """Which devices of these kinds (npu, gpu) Slurm has given the job that this process is in; None outside of a job,
    and if the job has asked for none."""
    job = job or os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("scontrol") is None:
        return None
    return given(ask("scontrol", "--details", "show", "job", job), kinds)


def given(text: str, kinds: Sequence[str]) -> list[int] | None:
    """The devices in `scontrol -d show job`, whose line of a node ends in GRES=npu:2(IDX:0-1),gpu:tesla:1(IDX:3)."""
    found = [
        indices
        for line in re.findall(r"Nodes=.* GRES=(.*)", text)
        for kind, indices in re.findall(r"(\w+)(?::[\w.]+)*\(IDX:([0-9,-]+)\)", line)
        if kind in kinds and INDICES.fullmatch(indices)
    ]
    if not found:
        return None
    numbers = set()
    for part in ",".join(found).split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)
