"""What a run is going to make again is gone from its first moment, and a report says that it is stale until it is made.

The stages are stand-ins with true records; one of them fails, or something changes while it is at work.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import planned, reduced_demo, snakemake
from stages import with_stand_ins

MODEL = "config/models/retinamask.yaml"
TARGET = "reports/retinamask.txt"
OWN = "results/retinamask/onnxruntime"
# A change that runs everything again from the named stage on, or from one before it.
CHANGES = {
    "convert_checkpoint": ("weights/retinamask.pth", None),
    "preprocess": (MODEL, ("mean: [102", "mean: [103")),
    "evaluate": (MODEL, ("threshold: 0.5", "threshold: 0.6")),
    "benchmark": (MODEL, ("min_runs: 30", "min_runs: 31")),
    "report": (MODEL, ("minus: 0.002", "minus: 0.5")),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return with_stand_ins(tmp_path_factory.mktemp("stand-ins") / "repository")


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory) -> Path:
    folder = reduced_demo(tmp_path_factory.mktemp("stale") / "demo", "retinamask", parity=4)
    assert run(folder, repository).returncode == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "it's a copy"))


def run(folder: Path, repository: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return snakemake(folder, "--cores", "2", TARGET, *arguments, repository=repository, env=os.environ | environment)


def change(folder: Path, stage: str) -> None:
    name, words = CHANGES[stage]
    path = folder / name
    if words is None:
        path.write_bytes(path.read_bytes() + b"x")
    else:
        assert words[0] in path.read_text()
        path.write_text(path.read_text().replace(*words, 1))


def first_line(folder: Path) -> str:
    return (folder / TARGET).read_text().splitlines()[0]


@pytest.mark.parametrize("stage", CHANGES)
def test_whatever_fails_the_report_is_stale_until_the_same_command_has_made_it(folder, repository, stage):
    """The report's own job leaves none at all."""
    change(folder, stage)
    failed = run(folder, repository, STAND_IN_FAILS=stage)
    assert failed.returncode == 1
    assert stage == "report" or first_line(folder).startswith("STALE: since 20")
    assert not (folder / "reports" / "retinamask.json").exists()
    assert (folder / f"{OWN}/accuracy.json").exists() == (stage in ("benchmark", "report"))
    assert (folder / f"{OWN}/performance.json").exists() == (stage in ("preprocess", "evaluate", "report"))
    again = run(folder, repository)
    assert again.returncode == 0, again.stderr
    assert not first_line(folder).startswith("STALE")
    assert planned(folder, TARGET, repository=repository) == {}


def test_going_back_after_a_failure_is_a_run_too(folder, repository):
    """The old results are gone; the report of the old settings isn't taken for one of these."""
    change(folder, "evaluate")
    assert run(folder, repository, STAND_IN_FAILS="evaluate").returncode == 1
    model = folder / MODEL
    model.write_text(model.read_text().replace("threshold: 0.6", "threshold: 0.5"))
    assert planned(folder, TARGET, repository=repository) == {"decode": 2, "evaluate": 1, "parity": 1, "report": 1}


def test_a_report_is_not_accepted_while_it_is_stale(folder, repository):
    """A dry run of accept plans everything that is missing."""
    change(folder, "evaluate")
    assert run(folder, repository, STAND_IN_FAILS="decode").returncode == 1
    assert planned(folder, "accept", repository=repository)["accept"] == 1
    result = snakemake(
        folder, "--cores", "2", "accept", repository=repository, env=os.environ | {"STAND_IN_FAILS": "decode"}
    )
    assert result.returncode == 1
    assert "rule accept:" not in result.stdout + result.stderr


def test_a_missing_file_of_the_user_makes_the_report_stale_as_well(folder, repository):
    (folder / "weights" / "retinamask.pth").rename(folder / "weights" / "elsewhere.pth")
    assert run(folder, repository, "-n").returncode == 2
    assert not first_line(folder).startswith("STALE"), "a dry run touches nothing"
    assert run(folder, repository).returncode == 2
    assert first_line(folder).startswith("STALE")
    (folder / "weights" / "elsewhere.pth").rename(folder / "weights" / "retinamask.pth")
    assert planned(folder, TARGET, repository=repository) == {"report": 1}


def begin(folder: Path, repository: Path) -> subprocess.Popen:
    """A run in a process group of its own, when its inference has begun, which takes three seconds."""
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder]
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [*command, "--printshellcmds", "--cores", "2", TARGET],
            env=os.environ | {"STAND_IN_SECONDS": "3"},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while "rule infer" not in said.read_text():
        assert time.monotonic() < deadline and process.poll() is None, said.read_text()
        time.sleep(0.05)
    return process


def test_what_is_made_again_is_gone_while_the_run_is_at_work(folder, repository):
    change(folder, "preprocess")
    process = begin(folder, repository)
    assert first_line(folder).startswith("STALE")
    assert not (folder / f"{OWN}/accuracy.json").exists()
    assert not list((folder / f"{OWN}/detections").iterdir())
    assert (folder / f"{OWN}/model.onnx").exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert first_line(folder).startswith("STALE")
    assert run(folder, repository).returncode == 0


def test_a_run_notices_what_was_changed_while_it_was_at_work(folder, repository):
    """The stages that read it are done when the file changes."""
    change(folder, "preprocess")
    process = begin(folder, repository)
    change(folder, "convert_checkpoint")
    assert process.wait(120) == 1
    said = (folder / "said").read_text()
    assert "stale: results/retinamask/weights.safetensors: weights/retinamask.pth changed" in said
    assert "files were changed while the run was at work; run the same command again" in said
    assert first_line(folder).startswith("STALE")
    assert run(folder, repository).returncode == 0
    assert planned(folder, TARGET, repository=repository) == {}
