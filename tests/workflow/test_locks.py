"""Whose folder is it, and what did earlier runs leave in it? Asked in every order of killed, live and foreign runs,
plans and dry runs. The stages are stand-ins."""

import json
import os
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
SHARDS = Path("results") / "retinamask" / "shards"
ENVIRONMENT = os.environ | {"STAND_IN_BYTES": "preprocess=10,infer=10"}
ASKING = [["--cores", "1", "plan"], ["-n", TARGET], ["-n", "accept"], ["-n", "plan"]]
RUNNING = [["--cores", "1", TARGET], ["--cores", "1", "accept"], ["--cores", "1", "plan", TARGET]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return with_stand_ins(tmp_path_factory.mktemp("stand-ins") / "repository")


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    """A finished run of four shards, whose outputs are kept."""
    folder = reduced_demo(tmp_path / "demo", "retinamask", shards=4)
    result = run(folder, repository, "--cores", "2", TARGET)
    assert result.returncode == 0, result.stderr
    return folder


def run(folder: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    return snakemake(folder, *arguments, repository=repository, env=ENVIRONMENT)


def leave_behind(folder: Path, *names: str, **changes) -> None:
    """What a killed run leaves: a record without an end, a lock, folders. A foreign one changes host and boot."""
    record = json.loads((folder / RECORD).read_text())
    assert record.pop("ended"), "the run before should have said that it ended"
    (folder / RECORD).write_text(json.dumps(record | {"pid": 4194300, "started": 1} | changes))
    (folder / LOCK).parent.mkdir(exist_ok=True)
    (folder / LOCK).write_text(f"{TARGET}\n")
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "x.bin").touch()


def start(folder: Path, repository: Path, seconds: str, *arguments: str) -> subprocess.Popen:
    """A run whose inference takes so long, in a process group of its own; returns when inference has begun."""
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder, "--cores", "1"]
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [*command, *arguments],
            env=ENVIRONMENT | {"STAND_IN_SECONDS": seconds},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while "rule infer" not in said.read_text():
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)
    return process


def configure(folder: Path, **settings) -> None:
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


@pytest.mark.parametrize("asking", ASKING, ids=" ".join)
def test_asking_between_a_kill_and_the_next_run_changes_nothing(folder, repository, asking):
    used = folder / SHARDS / "0000"
    leave_behind(folder, str(SHARDS / "0000"))
    before = (folder / RECORD).read_text()
    result = run(folder, repository, *asking)
    assert result.returncode == 0, result.stderr
    assert (folder / LOCK).exists()
    assert (folder / RECORD).read_text() == before
    assert used.exists()
    result = run(folder, repository, "--cores", "1", TARGET)
    assert result.returncode == 0, result.stderr
    assert "was killed; cleared its lock" in result.stderr
    assert f"removed {SHARDS}/0000, which an earlier run had used up" in result.stderr
    assert not used.exists()


@pytest.mark.parametrize("running", RUNNING, ids=" ".join)
def test_every_run_clears_up_after_a_killed_one(folder, repository, running):
    leave_behind(folder, str(SHARDS / "0000"))
    result = run(folder, repository, *running)
    assert result.returncode == 0, result.stderr
    assert not (folder / SHARDS / "0000").exists()
    assert not (folder / LOCK).exists()


def test_a_killed_run_is_cleared_up_after_although_its_lock_is_gone(folder, repository):
    leave_behind(folder, str(SHARDS / "0000"))
    (folder / LOCK).unlink()
    assert run(folder, repository, "--cores", "1", TARGET).returncode == 0
    assert not (folder / SHARDS / "0000").exists()


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
    (folder / TARGET).unlink()
    for path in (folder / "results" / "retinamask" / "onnxruntime").glob("detections/*"):
        path.unlink()
    configure(folder, keep_outputs_gb=0, models=["retinamask"])
    live = start(folder, repository, "3", "--forcerun", "infer_temporary", "--", TARGET)
    locks = sorted((folder / LOCK).parent.iterdir())
    assert locks
    for asking in ASKING[:2]:
        result = run(folder, repository, *asking)
        assert result.returncode == 0, result.stderr
        assert live.poll() is None, "too short a run for this test"
        assert sorted((folder / LOCK).parent.iterdir()) == locks
    refused = run(folder, repository, "--cores", "1", TARGET)
    assert refused.returncode == 1
    assert f"process {live.pid} " in refused.stderr
    assert live.wait(120) == 0, (folder / "said").read_text()
    assert json.loads((folder / RECORD).read_text())["ended"] is True


def test_an_interrupted_run_says_that_it_ended(folder, repository):
    (folder / TARGET).unlink()
    process = start(folder, repository, "60", "--forcerun", "infer", "--", TARGET)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    assert json.loads((folder / RECORD).read_text())["ended"] is True


def test_shards_that_the_configuration_no_longer_has_are_removed(folder, repository):
    """A killed run of two models with four shards each, then one model with two."""
    kept = Path("results") / "retinamask" / "onnxruntime" / "outputs"
    other = Path("results") / "gfocalv2"
    leave_behind(
        folder,
        str(SHARDS / "0003"),
        str(other / "shards" / "0001"),
        str(other / "onnxruntime" / "outputs" / "0001"),
        str(other / "onnxruntime" / "detections"),
        str(other / "pytorch" / "outputs" / "0000"),
        temporary=[str(SHARDS), str(other / "shards"), str(other / "onnxruntime" / "outputs"), "config", "../../.."],
    )
    datasets = yaml.safe_load((folder / "config" / "config.yaml").read_text())["datasets"]
    datasets["shapes"]["shards"] = 2
    configure(folder, datasets=datasets)
    result = run(folder, repository, "--cores", "1", TARGET)
    assert result.returncode == 0, result.stderr
    assert f"removed {SHARDS}/0003, which an earlier run left and no shard of this one owns" in result.stderr
    for name in (SHARDS / "0003", other / "shards" / "0001", other / "onnxruntime" / "outputs" / "0001"):
        assert not (folder / name).exists()
    # Kept outputs, of this model and of others, and results are nobody's to remove.
    for name in (kept / "0003", other / "onnxruntime" / "detections", other / "pytorch" / "outputs" / "0000", "config"):
        assert (folder / name).exists()


def test_with_notemp_nothing_is_removed(folder, repository):
    leave_behind(folder, str(SHARDS / "0000"), str(SHARDS / "0009"))
    assert run(folder, repository, "--cores", "1", "--notemp", TARGET).returncode == 0
    assert (folder / SHARDS / "0000").exists()
    assert (folder / SHARDS / "0009").exists()


def test_a_used_up_shard_that_is_needed_again_is_made_again(folder, repository):
    """It is removed while Snakemake plans, and must not be planned with."""
    configure(folder, keep_outputs_gb=0)
    shutil.rmtree(folder / "results" / "retinamask" / "onnxruntime" / "outputs")
    leave_behind(folder, str(SHARDS / "0000"))
    model = folder / "config" / "models" / "retinamask.yaml"
    model.write_text(model.read_text().replace("nms_iou: 0.4", "nms_iou: 0.5"))
    result = run(folder, repository, "--cores", "1", TARGET)
    assert result.returncode == 0, result.stderr
    assert f"removed {SHARDS}/0000" in result.stderr
    assert (result.stdout + result.stderr).count("rule preprocess:") == 4
    assert not list(folder.glob(f"{SHARDS}/*"))
