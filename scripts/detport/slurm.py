"""Slurm, as far as detport talks to it itself: jobs that a killed run left, and the devices that a job was given.

Snakemake's executor submits and follows the jobs of a run that lives. It names them with the run's UUID, gives each a
comment, and has them begin in the run's working directory; by these they are found again when the run is dead.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from detport.errors import Failure

PAUSE = 5.0  # seconds between two looks at jobs that are waited for
PATIENCE = 60  # seconds that Slurm has to answer
RUN = re.compile(r"(.+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a run's UUID, perhaps behind a prefix
COMMENT = re.compile(r"rule_")  # what the executor's comments begin with
BETWEEN = "\x1f"
INDICES = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")


class Job(NamedTuple):
    """A job that Slurm has not done yet."""

    number: str
    state: str
    name: str
    about: str  # the comment: rule and wildcards
    folder: str

    def __str__(self) -> str:
        return f"{self.number} ({self.about})"


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


def jobs_of(folder: Path) -> list[Job]:
    """Jobs of Snakemake runs in a working directory that wait or run, but for the one that this process is in."""
    form = BETWEEN.join(("%i", "%T", "%j", "%k", "%Z"))
    found = [Job(*line.split(BETWEEN)) for line in ask("squeue", "--me", "--noheader", "--format", form).splitlines()]
    here = str(folder.resolve())
    return [
        job
        for job in found
        if job.folder == here
        and RUN.fullmatch(job.name)
        and COMMENT.match(job.about)
        and job.number != os.environ.get("SLURM_JOB_ID")
    ]


def settle(folder: Path, tell: Callable[[str], None] | None = None) -> list[str]:
    """End what a dead run left: its waiting jobs are cancelled, its running ones waited for; what was done, a line each.

    They are none the worse for it: a job that runs would only be begun again, and what it makes is whole or not there.
    """
    tell = tell or (lambda line: print(f"detport: {line}", file=sys.stderr, flush=True))
    if shutil.which("squeue") is None:
        return [f"squeue is not here: jobs that an earlier run left on a cluster in {folder.resolve()} may still run"]
    left = jobs_of(folder)
    waiting = [job for job in left if job.state in ("PENDING", "SUSPENDED")]
    said = []
    if waiting:
        ask("scancel", *(job.number for job in waiting))
        said.append(f"cancelled Slurm jobs of an earlier run that had not begun: {', '.join(map(str, waiting))}")
        tell(said[-1])
    awaited = [job for job in left if job not in waiting]
    if awaited:
        tell(f"waiting for Slurm jobs of an earlier run: {', '.join(map(str, awaited))}; to end them: scancel"
             f" {' '.join(job.number for job in awaited)}")
        while left:
            time.sleep(PAUSE)
            left = jobs_of(folder)
        said.append(f"Slurm jobs of an earlier run have ended: {', '.join(map(str, awaited))}")
        tell(said[-1])
    return said


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
