"""A stage that is killed or stopped from outside cannot say so itself."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runs import reduced_demo, snakemake
from stages import copy_repository

INDEX = "results/datasets/shapes/index.tsv"


@pytest.fixture
def signalled(tmp_path) -> tuple[Path, Path]:
    """A repository whose first stage sends itself the signal that an environment variable names, and a demo for it."""
    repository = copy_repository(tmp_path / "repository")
    script = repository / "scripts" / "index_dataset.py"
    own = 'import os, signal\nos.kill(os.getpid(), signal.Signals[os.environ["OWN_SIGNAL"]])\n'
    script.write_text(own + script.read_text())
    return repository, reduced_demo(tmp_path / "demo", "retinamask")


def test_a_stage_that_was_killed_is_out_of_memory_most_likely(signalled):
    repository, folder = signalled
    done = snakemake(folder, "--cores", "1", INDEX, repository=repository, env=os.environ | {"OWN_SIGNAL": "SIGKILL"})
    assert done.returncode == 1
    assert re.search(
        r"^detport: error: killed by signal 9, most likely for want of memory: run fewer jobs",
        done.stderr,
        re.MULTILINE,
    )


def test_only_then(signalled):
    repository, folder = signalled
    done = snakemake(folder, "--cores", "1", INDEX, repository=repository, env=os.environ | {"OWN_SIGNAL": "SIGTERM"})
    assert done.returncode == 1
    assert not re.search(r"^detport: error: killed", done.stderr, re.MULTILINE)


def test_a_stage_that_is_stopped_is_named_and_goes_on(signalled):
    repository, folder = signalled
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder]
    with subprocess.Popen(
        [*command, "--cores", "1", INDEX],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"OWN_SIGNAL": "SIGSTOP"},
        start_new_session=True,
    ) as run:
        too_long = threading.Timer(120, os.killpg, (run.pid, signal.SIGKILL))
        too_long.start()
        named = []
        for line in run.stderr:
            found = re.match(
                r"detport: process (\d+) \(python \S+index_dataset\.py .*\) is stopped; .*kill -CONT \1$", line
            )
            if found:
                named.append(found[1])
                os.kill(int(found[1]), signal.SIGCONT)
        too_long.cancel()
    assert run.returncode == 0
    assert len(named) == 1
    assert (folder / INDEX).exists()
