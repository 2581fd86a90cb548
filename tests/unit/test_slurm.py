"""What Slurm says, as Slurm 22.05 says it; tests/cluster asks a real one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from detport import slurm
from detport.ascend import npu
from detport.errors import UsageError

SHOWN = """JobId=10 JobName=0fda3d6c-8a4b-4b79-9c8e-0f62d3a0a2c1
   JOB_GRES=npu:{count}
     Nodes=node1 CPU_IDs=0-1 Mem=100 GRES={gres}
   TresPerNode=gres:npu:{count}
"""


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("npu:1(IDX:0)", [0]),
        ("npu:3(IDX:0,2-3)", [0, 2, 3]),
        ("npu:ascend310p:2(IDX:1-2),gpu:1(IDX:7)", [1, 2]),
        ("gpu:1(IDX:7)", None),
        ("", None),
    ],
)
def test_the_devices_that_slurm_gave(gres, expected):
    assert slurm.given(SHOWN.format(count=1, gres=gres), ["npu"]) == expected


def test_a_device_that_the_yaml_does_not_name_is_an_error(monkeypatch):
    backend = {"name": "ascend310p", "devices": [0, 1]}
    for mine, expected in ((None, [0, 1]), ([1], [1])):
        monkeypatch.setattr(slurm, "devices", lambda kinds, mine=mine: mine)
        assert npu.allotted(backend) == expected
    monkeypatch.setattr(slurm, "devices", lambda kinds: [3])
    with pytest.raises(UsageError, match=r"ascend310p: devices: Slurm gave this job \[3\], the yaml has only \[0, 1\]"):
        npu.allotted(backend)


def squeue(folder: Path, *jobs: tuple[str, ...]) -> None:
    """A squeue that knows these jobs: number, state, reason, name, comment, folder."""
    lines = [
        slurm.BETWEEN.join((number, state, reason, "2026-01-01T00:00:00", "node1", name, about, place))
        for number, state, reason, name, about, place in jobs
    ]
    path = folder / "squeue"
    (folder / "lines").write_text("".join(f"{line}\n" for line in lines))
    path.write_text(f"#!/bin/sh\ncat '{folder / 'lines'}'\n")
    path.chmod(0o755)


UUID = "c97249d7-15aa-4f3c-9a07-0b1d2f2f8d11"


def test_jobs_are_those_of_snakemake_in_this_very_folder(tmp_path, monkeypatch):
    """Not those of another folder, nor what somebody submitted by hand, nor the job that this process is in."""
    here = str(tmp_path)
    squeue(
        tmp_path,
        ("1", "RUNNING", "None", UUID, "rule_detect_wildcards_a_b", here),
        ("2", "RUNNING", "None", f"mine_{UUID}", "rule_detect", here),
        ("3", "RUNNING", "None", UUID, "rule_detect", f"{here}/else"),
        ("4", "RUNNING", "None", "by-hand", "(null)", here),
        ("5", "RUNNING", "None", UUID, "rule_detect", here),
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert [str(job) for job in slurm.jobs_of(tmp_path)] == ["1 (detect_wildcards_a_b)", "2 (detect)"]


@pytest.mark.parametrize(
    ("state", "log", "expected"),
    [
        ("TIMEOUT", "", "TIMEOUT on node1: it took longer than it may; give its rule more `runtime`"),
        ("OUT_OF_MEMORY", "", "OUT_OF_MEMORY on node1: it took more memory than it may"),
        ("FAILED", "", "FAILED on node1: it left no log"),
        (
            "FAILED",
            "Building DAG\n/x/script: 4: /x/python: not found\n",
            "FAILED on node1: /x/script: 4: /x/python: not",
        ),
        (
            "FAILED",
            "    log: logs/a.log, logs/b.log (check log file(s) for error details)\nWorkflowError:\n",
            "FAILED on node1: infer: error: 'x.jpg': no device",
        ),
    ],
    ids=["time", "memory", "no log", "in Slurm's log", "in a stage's log"],
)
def test_a_line_for_a_job_that_failed(tmp_path, monkeypatch, state, log, expected):
    squeue(tmp_path, ("7", state, "None", UUID, "rule_detect", str(tmp_path)))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "b.log").write_text("2026 infer: 3 images\ninfer: error: 'x.jpg': no device\n")
    if log:
        (tmp_path / "logs" / "7.log").write_text(log)
    (line,) = slurm.failures(tmp_path, "2025", tmp_path / "logs")
    assert line.startswith(f"Slurm job 7 (detect) {expected}")
    assert line.endswith(f"; log: {tmp_path}/logs/7.log")
    assert slurm.failures(tmp_path, "2027", tmp_path / "logs") == [], "of an earlier run"


def test_where_there_is_no_accounting_commands_say_so(tmp_path, monkeypatch):
    """What is there stays what it is."""
    own = tmp_path / "bin"
    own.mkdir()
    (own / "sshare").write_text("#!/bin/sh\necho real\n")
    (own / "sshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(own))
    for _ in range(2):
        slurm.do_without_accounting(tmp_path)
        assert os.environ["PATH"].count("detport.bin") == 1
    assert shutil.which("sshare") == str(own / "sshare")
    assert [subprocess.run([name], check=False).returncode for name in ("sacct", "sacctmgr")] == [1, 1]
