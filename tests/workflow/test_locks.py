"""Whose folder is it, and what did earlier runs leave in it? Asked in every order of killed, live and foreign runs,
plans and dry runs. The stages are stand-ins."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from runs import reduced_demo, snakemake
from stages import with_stand_ins

TARGET = "results/retinamask/onnxruntime/accuracy.json"
LOCK = Path(".snakemake") / "locks" / "0.output.lock"
RECORD = Path(".snakemake") / "detport.run"
OWN = Path("results") / "retinamask" / "onnxruntime"
SCRATCH = OWN / "scratch" / "0000"
ASKING = [["--cores", "1", "plan"], ["-n", TARGET], ["-n", "accept"], ["-n", "plan"]]
GO = "go"
RUNNING = [["--cores", "1", TARGET], ["--cores", "1", "accept"], ["--cores", "1", "plan", TARGET]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return with_stand_ins(tmp_path_factory.mktemp("stand-ins") / "repository")


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory, repository) -> Path:
    """A finished run of four shards, whose outputs are kept."""
    folder = reduced_demo(tmp_path_factory.mktemp("finished") / "demo", "retinamask", shards=4)
    result = run(folder, repository, "--cores", "2", TARGET)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def folder(finished_once, tmp_path) -> Path:
    """A copy of it, file times included."""
    return shutil.copytree(finished_once, tmp_path / "demo")


def run(folder: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    return snakemake(folder, *arguments, repository=repository)


def leave_behind(folder: Path, *names: str, **changes) -> None:
    """What a killed run leaves: a record without an end, a lock, folders. A foreign one changes host and boot."""
    record = json.loads((folder / RECORD).read_text())
    assert record.pop("ended"), "the run before should have said that it ended"
    (folder / RECORD).write_text(json.dumps(record | {"pid": 4194300, "started": 1} | changes))
    (folder / LOCK).parent.mkdir(exist_ok=True)
    (folder / LOCK).write_text(f"{TARGET}\n")
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "x.bin").touch()


def start(folder: Path, repository: Path, *arguments: str) -> subprocess.Popen:
    """A run whose inference waits for the file GO, in a process group of its own; returns when inference has begun."""
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder, "--cores", "1"]
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [*command, "--printshellcmds", *arguments],
            env=os.environ | {"STAND_IN_WAITS_FOR": GO},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while not re.search(r"rule (infer|detect):", said.read_text()):
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)
    return process


def configure(folder: Path, **settings) -> None:
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


@pytest.mark.parametrize("asking", ASKING, ids=" ".join)
def test_asking_between_a_kill_and_the_next_run_changes_nothing(folder, repository, asking):
    leave_behind(folder, str(SCRATCH))
    before = (folder / RECORD).read_text()
    result = run(folder, repository, *asking)
    assert result.returncode == 0, result.stderr
    assert (folder / LOCK).exists()
    assert (folder / RECORD).read_text() == before
    assert (folder / SCRATCH).exists()
    result = run(folder, repository, "--cores", "1", TARGET)
    assert result.returncode == 0, result.stderr
    assert "was killed; cleared its lock" in result.stderr
    assert f"removed {SCRATCH}, which an earlier run left" in result.stderr
    assert not (folder / SCRATCH).exists()


@pytest.mark.parametrize("running", RUNNING, ids=" ".join)
def test_every_run_clears_up_after_a_killed_one(folder, repository, running):
    leave_behind(folder, str(SCRATCH))
    result = run(folder, repository, *running)
    assert result.returncode == 0, result.stderr
    assert not (folder / SCRATCH).exists()
    assert not (folder / LOCK).exists()


def test_a_killed_run_is_cleared_up_after_although_its_lock_is_gone(folder, repository):
    leave_behind(folder, str(SCRATCH))
    (folder / LOCK).unlink()
    assert run(folder, repository, "--cores", "1", TARGET).returncode == 0
    assert not (folder / SCRATCH).exists()


def test_a_foreign_lock_is_left_alone_and_explained(folder, repository):
    leave_behind(folder, host="elsewhere", boot="another")
    for asking in ASKING:
        result = run(folder, repository, *asking)
        assert result.returncode == 0, result.stderr
    for running in RUNNING:
        result = run(folder, repository, *running)
        assert result.returncode == 1
        assert "locked by process 4194300 on elsewhere" in result.stderr
        assert "Traceback" not in result.stderr
    assert (folder / LOCK).exists()
    assert run(folder, repository, "--cores", "1", "--unlock").returncode == 0
    assert run(folder, repository, "--cores", "1", TARGET).returncode == 0


def test_asking_beside_a_live_run_does_not_disturb_it(folder, repository):
    configure(folder, keep_outputs_gb=0)
    live = start(folder, repository, "--forcerun", "detect", "--", TARGET)
    locks = sorted((folder / LOCK).parent.iterdir())
    assert locks
    for asking in ASKING[:2]:
        result = run(folder, repository, *asking)
        assert result.returncode == 0, result.stderr
        assert sorted((folder / LOCK).parent.iterdir()) == locks
    refused = run(folder, repository, "--cores", "1", TARGET)
    assert refused.returncode == 1
    assert f"process {live.pid} " in refused.stderr
    (folder / GO).touch()
    assert live.wait(120) == 0, (folder / "said").read_text()
    assert json.loads((folder / RECORD).read_text())["ended"] is True


def test_an_interrupted_run_says_that_it_ended(folder, repository):
    (folder / TARGET).unlink()
    process = start(folder, repository, "--forcerun", "infer", "--", TARGET)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    assert json.loads((folder / RECORD).read_text())["ended"] is True


def test_what_the_configuration_no_longer_keeps_is_removed(folder, repository):
    """Four shards become two: their outputs, and scratch folders of any model. Other models' outputs are theirs."""
    other = Path("results") / "gfocalv2"
    stay = [other / "onnxruntime" / "outputs" / "0000", Path("shards") / "retinamask" / "0003", OWN / "detections"]
    gone = [OWN / "outputs" / "0003", other / "onnxruntime" / "scratch" / "0001"]
    leave_behind(folder, *map(str, (*stay[:2], gone[1])))
    datasets = yaml.safe_load((folder / "config" / "config.yaml").read_text())["datasets"]
    datasets["shapes"]["shards"] = 2
    configure(folder, datasets=datasets)
    result = run(folder, repository, "--cores", "1", TARGET)
    assert result.returncode == 0, result.stderr
    for name in gone:
        assert f"removed {name}, which an earlier run left" in result.stderr
        assert not (folder / name).exists()
    assert all((folder / name).exists() for name in stay)


def test_a_scratch_folder_of_a_killed_job_is_no_obstacle(folder, repository):
    """With half a shard in it, which must not be taken for a whole one."""
    configure(folder, keep_outputs_gb=0)
    leave_behind(folder, str(SCRATCH / "shard"), str(SCRATCH / "outputs"))
    model = folder / "config" / "models" / "retinamask.yaml"
    model.write_text(model.read_text().replace("threshold: 0.5", "threshold: 0.6"))
    result = run(folder, repository, "--cores", "1", TARGET)
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).count("rule detect:") == 4
    assert not list((folder / OWN).glob("scratch/*"))
