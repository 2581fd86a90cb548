"""One run at a time in a folder; a dead one is told from a live one and cleared away, another host's is left alone."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detport import config, processes, runs
from detport.errors import Failure

HOLD = "from detport import runs; from pathlib import Path; print(runs.claim(Path()), flush=True); input()"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(config.ROOT / "scripts")}


@pytest.fixture(autouse=True)
def this_process_holds_nothing(monkeypatch):
    monkeypatch.setattr(runs, "_held", [])
    monkeypatch.delenv(runs.VARIABLE, raising=False)


def holder(folder: Path) -> subprocess.Popen:
    """A process that has claimed the folder and lives until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "[]"
    return process


def killed(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def add_lock(folder: Path) -> Path:
    path = folder / ".snakemake" / "locks" / "0.output.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("results/x")
    return path


def test_a_live_run_is_respected_and_named(tmp_path):
    process = holder(tmp_path)
    lock = add_lock(tmp_path)
    with pytest.raises(Failure, match=rf"another run is at work in .* \(process {process.pid} on .*, since 20"):
        runs.claim(tmp_path)
    assert lock.exists()
    killed(process)


def test_the_lock_of_a_killed_run_is_cleared_and_said(tmp_path):
    process = holder(tmp_path)
    lock = add_lock(tmp_path)
    killed(process)
    said = runs.claim(tmp_path)
    assert not lock.exists()
    assert len(said) == 1
    assert f"(process {process.pid}) was killed; cleared its lock" in said[0]
    assert os.environ[runs.VARIABLE] == runs.token(runs.this_run())


def test_a_run_that_ended_by_itself_leaves_nothing_to_say(tmp_path):
    process = holder(tmp_path)
    process.communicate("\n")
    record = json.loads((tmp_path / runs.RECORD).read_text())
    assert (record["pid"], runs.ended(record)) == (process.pid, True)
    assert runs.claim(tmp_path) == []


def test_a_killed_run_that_nobody_waited_for_is_dead_too(tmp_path):
    process = holder(tmp_path)
    lock = add_lock(tmp_path)
    process.kill()  # and not waited for: a zombie
    deadline = time.monotonic() + 10
    while runs.started(process.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert f"(process {process.pid}) was killed" in runs.claim(tmp_path)[0]
    assert not lock.exists()
    process.wait()


def test_orphans_of_a_killed_run_are_ended(tmp_path):
    process = holder(tmp_path)
    record = json.loads((tmp_path / runs.RECORD).read_text())
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    orphan = subprocess.Popen(
        [sys.executable, "-c", stubborn], env=os.environ | {runs.VARIABLE: runs.token(record)}, stdout=subprocess.PIPE
    )
    stranger = subprocess.Popen(["sleep", "60"], env=os.environ | {runs.VARIABLE: runs.token(record) + "1"})
    orphan.stdout.readline()
    killed(process)
    said = runs.claim(tmp_path)
    assert "ended 1 of its processes" in said[0]
    assert str(orphan.pid) in said[0]
    assert orphan.wait(10) == -signal.SIGKILL
    assert stranger.poll() is None
    killed(stranger)


def write_record(folder: Path, **changes) -> None:
    (folder / ".snakemake").mkdir(exist_ok=True)
    (folder / runs.RECORD).write_text(json.dumps(runs.this_run() | {"pid": 4194300, "started": 1} | changes))


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, True),
        ({"boot": "an earlier boot of this host"}, True),
        ({"boot": "another", "host": "elsewhere"}, False),
        ({"pid": os.getpid()}, True),  # the process id is in use again
    ],
    ids=["no such process", "before a reboot", "another host", "process id in use again"],
)
def test_whose_lock_is_cleared(tmp_path, changes, dead):
    write_record(tmp_path, **changes)
    lock = add_lock(tmp_path)
    if dead:
        runs.claim(tmp_path)
    else:
        with pytest.raises(Failure, match=r"on elsewhere: ps -p 4194300\. If it is gone: snakemake --cores 1 --unlock"):
            runs.claim(tmp_path)
    assert lock.exists() != dead


@pytest.mark.parametrize("ended", [True, False], ids=["ended by itself", "killed, and unlocked by its user"])
def test_another_host_without_locks_is_no_obstacle(tmp_path, ended):
    write_record(tmp_path, boot="another", host="elsewhere", ended=ended)
    assert runs.claim(tmp_path) == []
    assert json.loads((tmp_path / runs.RECORD).read_text())["pid"] == os.getpid()


def test_the_orphans_of_a_killed_run_are_known_without_its_locks(tmp_path):
    """Whatever has become of them since."""
    process = holder(tmp_path)
    record = json.loads((tmp_path / runs.RECORD).read_text())
    orphan = subprocess.Popen(["sleep", "60"], env=os.environ | {runs.VARIABLE: runs.token(record)})
    while runs.token(record) not in Path(f"/proc/{orphan.pid}/environ").read_text():
        time.sleep(0.01)  # Popen comes back a moment before the kernel has put the environment of the new program there
    killed(process)
    assert not runs.ended(record)
    assert f"ended 1 of its processes that were still at work: {orphan.pid}" in runs.claim(tmp_path)[0]
    assert orphan.wait(10) == -signal.SIGTERM


def test_a_longer_record_leaves_nothing_behind_a_shorter_one(tmp_path):
    write_record(tmp_path, since="x" * 1000, ended=True)
    runs.claim(tmp_path)
    assert json.loads((tmp_path / runs.RECORD).read_text())["pid"] == os.getpid()


def test_a_lock_without_a_record_is_left_to_snakemake(tmp_path):
    lock = add_lock(tmp_path)
    assert runs.claim(tmp_path) == []
    assert lock.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": 1}', "\x00"])
def test_a_half_written_record_is_none(tmp_path, content):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / runs.RECORD).write_text(content)
    assert runs.claim(tmp_path) == []
    assert json.loads((tmp_path / runs.RECORD).read_text())["pid"] == os.getpid()


def test_without_locks_in_the_file_system_the_process_id_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "lock", lambda file: None)
    process = holder(tmp_path)
    add_lock(tmp_path)
    with pytest.raises(Failure, match="another run is at work"):
        runs.claim(tmp_path)
    killed(process)
    assert f"(process {process.pid}) was killed" in runs.claim(tmp_path)[0]


def test_names_with_spaces_and_brackets_do_not_confuse_the_start_time(tmp_path):
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    assert runs.started(process.pid) == runs.started(process.pid) > 0
    killed(process)
    assert runs.started(process.pid) is None


def stage(run: dict) -> subprocess.Popen:
    """A stage that would take a minute, started by this run."""
    code = "import time; from detport import cli; cli.run(lambda argv: (print(flush=True), time.sleep(60)))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=ENVIRONMENT | {runs.VARIABLE: runs.token(run)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stage_ends_with_its_run(tmp_path):
    process = holder(tmp_path)
    job = stage(json.loads((tmp_path / runs.RECORD).read_text()))
    job.stdout.readline()
    time.sleep(1.5 * processes.HEARTBEAT)
    assert job.poll() is None
    killed(process)
    _, said = job.communicate(timeout=20)
    assert job.returncode == 1
    assert "the run that started this stage is gone" in said


def test_a_stage_of_a_run_elsewhere_is_not_watched(tmp_path):
    job = stage(runs.this_run() | {"boot": "another machine", "pid": 4194300})
    job.stdout.readline()
    time.sleep(1.5 * processes.HEARTBEAT)
    assert job.poll() is None
    killed(job)


FAULTS = """
import numpy, resource
from detport import processes
{}
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [numpy.ones(6_000_000, numpy.uint8) for _ in range(3)]
    del arrays
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_memory_that_is_kept_is_not_asked_for_again():
    def faults(first: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(first)]
        return int(subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True).stdout)

    assert faults("") > 100
    assert faults("processes.keep_memory()") < 20
