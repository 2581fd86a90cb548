"""Devices: which chip npu-smi finds, and leases so that no two jobs use one device at a time."""

import contextlib
import fcntl
import itertools
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detport import cli, made, slurm
from detport.errors import Failure, UsageError

VARIABLE, FOLDER = "DETPORT_DEVICES", "/tmp/detport-devices"
PAUSE = 0.01  # seconds between two looks for a free device, which is idle until somebody looks
SMALL = re.compile(r"[0-9]{1,6}")  # a number of a device or a card
PREFIX = "Ascend"


class Lease(NamedTuple):
    """A device of one's own while the file is open."""

    device: int
    lock: int  # file descriptor; a tool that inherits it keeps the device to itself even if this process is killed


class Chip(NamedTuple):
    """A row pair of npu-smi's table; chips of one card have one NPU."""

    name: str
    npu: int


def soc_version(backend: dict) -> str:
    """The chip to compile for, as atc wants it: from the yaml or, if that says auto, from npu-smi.

    `chip` of the yaml is its family, so that auto never compiles a backend for another chip.
    """
    wanted = backend["soc_version"]
    if wanted != "auto":
        return wanted
    names = chip_names(run_npu_smi())
    missing = [device for device in backend["devices"] if device not in names]
    if missing:
        raise UsageError(
            f"backend {backend['name']}: devices: npu-smi knows no device {missing[0]}, only {list(names)}"
        )
    found = {names[device] for device in backend["devices"]}
    chip = backend.get("chip", PREFIX)
    if len(found) > 1 or not all(is_of(name, chip) for name in found):
        raise UsageError(
            f"backend {backend['name']}: soc_version: auto: the devices {backend['devices']} are"
            f" {', '.join(sorted(found))}, one kind of {chip} is expected; correct devices, or name soc_version"
        )
    return found.pop()


def is_of(name: str, chip: str) -> bool:
    """Whether a chip is of a family: of Ascend310P are Ascend310P1 and P3; of Ascend310 is it alone, not the P."""
    return name == chip or (not chip[-1].isdigit() and bool(re.match(re.escape(chip) + r"\d", name)))


def run_npu_smi() -> str:
    """What `npu-smi info` prints."""
    remedy = "install the driver, run as a user who may use it, or set soc_version in the backend's yaml"
    try:
        done = subprocess.run(
            ["npu-smi", "info"], capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=120
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"soc_version: auto needs npu-smi, which does not run here ({error}); {remedy}") from error
    if done.returncode or "initialize failed" in done.stdout:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        raise Failure(f"npu-smi info: exit status {done.returncode}, {lines[-1]}; {remedy}")
    return done.stdout


def cards(devices: list[int], chips: int) -> dict[int, int]:
    """The card of each device: its NPU in npu-smi's table or, where that does not run, every so many devices one."""
    try:
        table = chips_of(run_npu_smi())
    except (UsageError, Failure):
        table = {}
    return {device: table[device].npu if device in table else device // chips for device in devices}


def chip_names(table: str) -> dict[int, str]:
    """Full chip name by device id."""
    return {device: chip.name for device, chip in chips_of(table).items()}


def chips_of(table: str) -> dict[int, Chip]:
    """Chips by device id, from the table of `npu-smi info`.

    Each chip has two rows: NPU and name, then chip number and device id (newer chips have no device column; they are
    numbered in order), with a bus id, which has colons. The table of processes that may follow is not read.
    """
    found: dict[int, Chip] = {}
    npu = name = None
    for line in table.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if "Process" in line or "running processes" in line:
            break
        if not line.startswith("|") or len(cells) < 3 or not cells[0] or not SMALL.fullmatch(cells[0][0]):
            continue
        second = any(":" in word for word in cells[1])
        if second == (name is None) or (not second and len(cells[0]) < 2):
            raise Failure(
                f"npu-smi info: {line.strip()[:80]!r} is not where it belongs in its table; set soc_version in the"
                " backend's yaml"
            )
        if second:
            device = int(cells[0][1]) if len(cells[0]) > 1 and SMALL.fullmatch(cells[0][1]) else len(found)
            found[device] = Chip(name if name.startswith(PREFIX) else PREFIX + name, npu)
            name = None
        else:
            npu, name = int(cells[0][0]), cells[0][1]
    if not found:
        raise Failure("npu-smi info: no chip in its table; set soc_version in the backend's yaml")
    return found


def allotted(backend: dict) -> list[int]:
    """The devices that this job may use: of those in the backend's yaml the ones that Slurm gave it, if it gave any."""
    mine = slurm.devices(("npu", "ascend"))
    if mine is None:
        return backend["devices"]
    if not set(mine) <= set(backend["devices"]):
        raise UsageError(
            f"backend {backend['name']}: devices: Slurm gave this job {mine}, the yaml has only {backend['devices']};"
            " name every device there that a node may have"
        )
    return mine


@contextlib.contextmanager
def lease_one(devices: list[int]) -> Iterator[Lease]:
    """Any free device of these; waits until there is one."""
    for attempt in itertools.count():
        for device in devices:
            lock = open_lock(device)
            if locked(lock, wait=False):
                began = time.time()
                try:
                    yield Lease(device, lock)
                finally:
                    os.close(lock)
                    made.note_device(device, began)
                return
            os.close(lock)
        if attempt == 0:
            cli.log.info("waiting for a free device of %s", devices)
        time.sleep(PAUSE)


@contextlib.contextmanager
def lease_all(devices: list[int]) -> Iterator[list[Lease]]:
    """All these devices; taken in order, so that two who want all cannot block each other."""
    with contextlib.ExitStack() as stack:
        leases = []
        for device in sorted(devices):
            lock = open_lock(device)
            stack.callback(os.close, lock)
            if not locked(lock, wait=False):
                cli.log.info("waiting for device %d", device)
                locked(lock, wait=True)
            leases.append(Lease(device, lock))
        yield leases


def open_lock(device: int) -> int:
    """The lock file of a device, shared by all users of the machine; a lock needs no right to write."""
    folder = Path(os.environ.get(VARIABLE, FOLDER))
    path = folder / f"{device}.lock"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o1777)
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY)
            os.fchmod(made, 0o644)  # whatever the umask of the first user is
            os.close(made)
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise Failure(
            f"{path}: {error.strerror}; devices are shared out by lock files: make that folder usable (mode 1777), or"
            f" set {VARIABLE} to another one that all users of the devices share"
        ) from error


def locked(lock: int, wait: bool) -> bool:
    """Take the lock; the kernel drops it when the last process that holds the file dies, however it dies."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def toolkit_version() -> str | None:
    """Version of the CANN toolkit that is sourced, as its own file states it; None where none is."""
    for variable in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        for path in sorted(Path(os.environ.get(variable, "/nonexistent")).glob("*-linux/ascend_toolkit_install.info")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("version="):
                    return line.removeprefix("version=").strip()
    return None
