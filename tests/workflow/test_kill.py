"""Kill it at any moment, run the same command again: it goes on, redoes what was in flight, and the result is the same.

The rule that every test holds the workflow to: a job that Snakemake has reported as finished is not started again, and
at most as many jobs as there are cores were in flight.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import ROOT, reduced_demo, snakemake

KILLS = 8
SEED = 7
CORES = 2
TARGET = "results/retinamask/onnxruntime/accuracy.json"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
STARTED = re.compile(
    r"^(?:local)?rule (\w+):$|^    jobid: (\d+)$|^    wildcards: (.+)$|^Finished jobid: (\d+) ", re.MULTILINE
)


class Run:
    """A run in a process group of its own, and what it has said so far."""

    def __init__(self, folder: Path, **environment: str):
        self.said = folder.parent / f"{folder.name} said"
        command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder]
        with self.said.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--printshellcmds", "--cores", str(CORES), TARGET],
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=ENVIRONMENT | environment,
            )

    def text(self) -> str:
        return self.said.read_text()

    def jobs(self) -> tuple[list[str], list[str]]:
        """Jobs that were started and that finished, as rule and wildcards."""
        names, started, finished, rule, number = {}, [], [], "", ""
        for found in STARTED.finditer(self.text()):
            if found[1]:
                rule = found[1]
            elif found[2]:
                number = found[2]
                names[number] = rule
                started.append(number)
            elif found[3]:
                names[number] += f" {found[3]}"
            else:
                finished.append(found[4])
        return [names[number] for number in started], [names[number] for number in finished]

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition came true before the run was over."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if condition():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        raise AssertionError(self.text())

    def kill(self) -> None:
        """SIGKILL to Snakemake and all that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> str:
        assert self.process.wait(300) == 0, self.text()
        return self.text()


def stages(folder: Path, name: str = "") -> list[int]:
    """Processes of stages that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            here = (path / "cwd").readlink() == folder
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if here and words[0].endswith(b"python") and f"scripts/{name}".encode() in words[1]:
            found.append(int(path.name))
    return found


def result(folder: Path) -> bytes:
    return (folder / TARGET).read_bytes()


def nothing_half_made(folder: Path) -> bool:
    return not [*folder.rglob("*.partial"), *folder.glob("results/*/*/scratch/*"), *folder.glob(".snakemake/locks/*")]


@pytest.fixture
def half_done(copy_of_finished) -> Path:
    """A finished run that has lost its work on images: outputs, detections, accuracy."""
    folder = copy_of_finished()
    for name in ("outputs", "detections", "accuracy.json"):
        path = folder / "results" / "retinamask" / "onnxruntime" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def test_killed_at_random_moments(tmp_path, finished):
    """Each moment is so many finished jobs and a fraction of a second after the start, so that every run gets on."""
    random.seed(SEED)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        folder = reduced_demo(tmp_path / f"round {rounds}", "retinamask")
        done: set[str] = set()
        while True:
            run = Run(folder)
            jobs, delay = random.choice((0, 0, 1, 1, 2)), random.uniform(0, 1.5)
            alive = kills < KILLS and run.wait_for(lambda run=run, jobs=jobs: len(run.jobs()[1]) >= jobs)
            if alive:
                time.sleep(delay)
            if not alive or run.process.poll() is not None:
                run.finish()
            else:
                run.kill()
                kills += 1
            started, ended = run.jobs()
            assert not done.intersection(started), "a finished job was done again"
            assert len(started) - len(ended) <= CORES
            done.update(ended)
            if (folder / TARGET).exists() and run.process.returncode == 0:
                break
        assert result(folder) == result(finished)
        assert nothing_half_made(folder)


def test_a_job_alone_is_killed(half_done, finished):
    run = Run(half_done)
    assert run.wait_for(lambda: bool(stages(half_done, "infer.py"))), run.text()
    os.kill(stages(half_done, "infer.py")[0], signal.SIGKILL)
    assert run.process.wait(300) == 1
    done = set(run.jobs()[1])
    again = Run(half_done)
    assert "was killed" not in again.finish()
    assert not done.intersection(again.jobs()[0])
    assert result(half_done) == result(finished)
    assert nothing_half_made(half_done)


def test_snakemake_alone_is_killed_and_its_jobs_live_on(half_done, finished):
    run = Run(half_done)
    assert run.wait_for(lambda: bool(stages(half_done, "infer.py"))), run.text()
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    left = stages(half_done)
    again = Run(half_done)
    assert "was killed; cleared its lock" in again.finish()
    assert not set(left).intersection(stages(half_done)), "an orphan outlived its successor"
    assert result(half_done) == result(finished)
    assert nothing_half_made(half_done)


# In the stage that is named, where its output gets its name: leave half of what was written, say so, and hold still to
# be killed. Of a folder, files in it have got theirs before.
HOLD_STILL = """
import os, sys, time
from pathlib import Path
if sys.argv[0].endswith(os.environ.get("HOLD_STILL", "-")):
    named = Path.replace
    def replace(self, target):
        if Path(target).parent.name.endswith(".partial"):
            return named(self, target)
        for path in self.rglob("*.bin") if self.is_dir() else [self]:
            os.truncate(path, path.stat().st_size // 2)
        Path(os.environ["HELD"]).touch()
        time.sleep(600)
    Path.replace = replace
"""


@pytest.mark.parametrize(
    ("stage", "lost"),
    [
        ("preprocess.py", "outputs"),
        ("infer.py", "outputs"),
        ("simplify.py", "../onnx/standard/simplified.onnx"),
        ("decode.py", "detections"),
    ],
    ids=["a .bin", "outputs", "an .onnx", "a detections file"],
)
def test_killed_in_the_middle_of_a_write(half_done, finished, tmp_path, stage, lost):
    (tmp_path / "sitecustomize.py").write_text(HOLD_STILL)
    held = tmp_path / "held"
    path = half_done / "results" / "retinamask" / "onnxruntime" / lost
    path.unlink() if path.suffix else shutil.rmtree(path, ignore_errors=True)
    run = Run(half_done, PYTHONPATH=str(tmp_path), HOLD_STILL=stage, HELD=str(held))
    assert run.wait_for(held.exists), run.text()
    run.kill()
    halves = list(half_done.rglob("*.partial"))
    assert halves
    again = Run(half_done)
    assert "was killed; cleared its lock" in again.finish()
    assert not any(half.exists() for half in halves)
    assert result(half_done) == result(finished)
    assert nothing_half_made(half_done)


def test_two_runs_at_once(half_done, finished):
    first = Run(half_done)
    assert first.wait_for(lambda: bool(first.jobs()[0])), first.text()
    second = snakemake(half_done, "--cores", "1", TARGET)
    assert second.returncode == 1
    assert "another run is at work" in second.stderr
    assert f"process {first.process.pid} " in second.stderr
    assert "Traceback" not in second.stderr
    first.finish()
    assert result(half_done) == result(finished)
    assert snakemake(half_done, "-n", TARGET).returncode == 0
