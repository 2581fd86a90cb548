"""Chips from npu-smi's table, and devices that no two jobs hold at once."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from detport.ascend import npu
from detport.config import ROOT
from detport.errors import Failure, UsageError

# As pasted from machines: 310P with driver 22, 310 with driver 21 (four chips of one card), 300I Duo, 910B.
DRIVER_22 = """+-------------------+-----------------+------------------------------------------------------+
| npu-smi 22.0.4                   Version: 22.0.4                                           |
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | OK              | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 0            1070 / 21534                            |
+===================+=================+======================================================+
+-------------------+-----------------+------------------------------------------------------+
| NPU     Chip      | Process id      | Process name             | Process memory(MB)        |
+===================+=================+======================================================+
| 0       0         | 1234            | python                   | 512                       |
"""
DRIVER_21 = """| npu-smi 21.0.3.1   Version: 21.0.3.1                                                      |
| NPU     Name      | Health          | Power(W)     Temp(C)                                 |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 2       310       | OK              | 12.8         55                                      |
| 0       0         | 0000:86:00.0    | 0            2457 / 8192                             |
+-------------------+-----------------+------------------------------------------------------+
| 2       310       | OK              | 12.8         52                                      |
| 1       1         | 0000:87:00.0    | 0            2457 / 8192                             |
"""
DUO = """| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
| 8       310P3     | OK              | 20.1         41                0    / 0              |
| 0       0         | 0000:01:00.0    | 0            1404 / 44216                            |
| 8       310P3     | OK              | NA           40                0    / 0              |
| 1       1         | 0000:01:00.0    | 0            1374 / 43757                            |
"""
B910 = """| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     910B3               | OK            | 90.1        42                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3338 / 65536         |
| 1     910B3               | OK            | 90.4        43                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3338 / 65536         |
"""


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (DRIVER_22, {0: "Ascend310P3", 1: "Ascend310P3"}),
        (DRIVER_21, {0: "Ascend310", 1: "Ascend310"}),
        (DUO, {0: "Ascend310P3", 1: "Ascend310P3"}),
        (B910, {0: "Ascend910B3", 1: "Ascend910B3"}),
    ],
)
def test_every_layout_of_the_table_is_read(table, expected):
    assert npu.chip_names(table) == expected


@pytest.mark.parametrize(
    "rows",
    [
        ["| 0  310P3 | OK | 15.8 |", "| 1  310P3 | OK | 15.8 |"],
        ["| 0  0 | 0000:82:00.0 | 0 |"],
        ["| 0 | OK | 15.8 |", "| 0  0 | 0000:82:00.0 | 0 |"],
    ],
    ids=["a second row is missing", "a first row is missing", "no name"],
)
def test_a_table_with_a_hole_is_refused(rows):
    with pytest.raises(Failure, match="is not where it belongs in its table; set soc_version"):
        npu.chip_names("\n".join(rows))


def test_a_number_without_end_is_no_device():
    with pytest.raises(Failure, match="no chip in its table"):
        npu.chip_names(f"| {'9' * 5000}  310P3 | OK | 1 |")


def test_a_card_is_an_npu_of_the_table(tools):
    """Where another card comes first, device // 4 is not the card."""
    tools(chips="310P3x1,310x4")
    assert npu.cards([1, 2, 3, 4], 4) == {1: 1, 2: 1, 3: 1, 4: 1}
    tools(fail="no_driver")
    assert npu.cards([2, 3, 4, 5], 4) == {2: 0, 3: 0, 4: 1, 5: 1}


@pytest.mark.parametrize(("chips", "devices", "found"), [("310x4", [2], "310"), ("310x4,310P3x1", [4], "310P3")])
def test_auto_is_the_chip_of_the_devices(tools, backend, chips, devices, found):
    tools(chips=chips)
    assert npu.soc_version(backend(chip="Ascend", devices=devices)) == f"Ascend{found}"


@pytest.mark.parametrize(
    ("chip", "name", "fits"),
    [
        ("Ascend310", "Ascend310", True),
        ("Ascend310", "Ascend310P3", False),
        ("Ascend310P", "Ascend310P3", True),
        ("Ascend310P", "Ascend310", False),
        ("Ascend310P3", "Ascend310P3", True),
        ("Ascend910B", "Ascend910B4-1", True),
        ("Ascend910", "Ascend910B3", False),
        ("Ascend", "Ascend310P3", True),
    ],
)
def test_a_family_of_chips_is_not_another_one(chip, name, fits):
    assert npu.is_of(name, chip) is fits


@pytest.mark.parametrize(
    ("devices", "expected"),
    [([0], "one kind of Ascend310P is expected"), ([0, 4], "one kind of Ascend310P"), ([7], "knows no device 7")],
)
def test_auto_never_takes_another_chip(tools, backend, devices, expected):
    tools(chips="310x4,310P3x1")
    with pytest.raises(UsageError, match=expected):
        npu.soc_version(backend(devices=devices))


def test_a_named_chip_needs_no_npu_smi(tools, backend):
    tools(fail="no_driver")
    assert npu.soc_version(backend(soc_version="Ascend310P1")) == "Ascend310P1"
    with pytest.raises(Failure, match=r"dcmi module initialize failed.*set soc_version"):
        npu.soc_version(backend())


def test_without_npu_smi_the_remedy_is_named(monkeypatch, backend, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="set soc_version in the backend's yaml"):
        npu.soc_version(backend())


def test_each_job_gets_a_device_of_its_own(tools):
    with npu.lease_one([4, 5]) as first, npu.lease_one([4, 5]) as second:
        assert {first.device, second.device} == {4, 5}
    with npu.lease_all([5, 4]) as both:
        assert [lease.device for lease in both] == [4, 5]


HOLD = """
import subprocess, sys, time
from detport.ascend import npu
with npu.lease_one([0]) as lease:
    child = subprocess.Popen(["sleep", sys.argv[1]], pass_fds=(lease.lock,))
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_lease_ends_with_its_processes_even_by_kill_9(tools, tmp_path):
    """Of the job alone the device stays taken, because its tool still runs there; of both it is free at once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, "-c", HOLD, "60"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    tool = int(job.stdout.readline())
    job.send_signal(signal.SIGKILL)
    job.wait()
    lock = npu.open_lock(0)
    assert not npu.locked(lock, wait=False)
    os.kill(tool, signal.SIGKILL)
    until = time.monotonic() + 10
    while not npu.locked(lock, wait=False):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.close(lock)


def test_runs_with_other_temporary_folders_share_the_devices(tools, monkeypatch, tmp_path):
    with npu.lease_one([0]):
        monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
        assert not npu.locked(npu.open_lock(0), wait=False)
    folder = tmp_path / "devices"
    assert folder.stat().st_mode & 0o7777 == 0o1777
    monkeypatch.delenv("DETPORT_DEVICES")
    assert npu.FOLDER == "/tmp/detport-devices", "one place for all users, whatever their TMPDIR"


def test_a_strict_umask_locks_nobody_out(tools, tmp_path):
    before = os.umask(0o077)
    try:
        os.close(npu.open_lock(3))
    finally:
        os.umask(before)
    assert (tmp_path / "devices" / "3.lock").stat().st_mode & 0o777 == 0o644


def test_locks_in_a_place_that_cannot_be_used(tools, monkeypatch, tmp_path):
    monkeypatch.setenv("DETPORT_DEVICES", str(tmp_path / "no" / "such"))
    with pytest.raises(Failure, match="DETPORT_DEVICES"), npu.lease_one([0]):
        pass


def test_waiting_is_said_once(tools, caplog):
    """A job that finds all devices taken says so, and goes on when one is free."""
    caplog.set_level("INFO")
    taken = npu.open_lock(0)
    assert npu.locked(taken, wait=False)
    timer = threading.Timer(3 * npu.PAUSE, os.close, [taken])
    timer.start()
    with npu.lease_one([0]) as lease:
        assert lease.device == 0
    timer.join()
    assert caplog.messages == ["waiting for a free device of [0]"]


def test_jobs_wait_for_a_free_device(tools):
    """Six jobs on two devices: never two on one at the same time."""
    code = """
import sys, time
from detport.ascend import npu
with npu.lease_one([0, 1]) as lease:
    print(lease.device, time.monotonic(), end=" ", flush=True)
    time.sleep(0.02)
    print(time.monotonic(), flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    jobs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(6)
    ]
    spans = [tuple(map(float, job.communicate()[0].split())) for job in jobs]
    for device in (0, 1):
        own = sorted(span[1:] for span in spans if span[0] == device)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
