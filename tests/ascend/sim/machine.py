"""The simulated machine: its chips, its toolkit's version, and the failures that a test asks for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sim import ANNOUNCEMENT

FULL_NAMES = (
    *("Ascend310", "Ascend310P1", "Ascend310P3", "Ascend310B1", "Ascend310B4"),
    *("Ascend910A", "Ascend910B3"),
)
NOTE = f"{ANNOUNCEMENT} detport tests/ascend: results and times are not of an Ascend device"
MOST_DEVICES_PER_CARD = {"310": 4}


def announce() -> None:
    """Say on stdout, where every tool writes, that this is no device."""
    print(NOTE, flush=True)


def begin() -> None:
    """What every tool that works does first; a test may want it to go no further."""
    announce()
    if failure("hang") is not None:
        with subprocess.Popen(["sleep", "600"]) as child:
            child.wait()
    if failure("killed") is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def mark(folder: Path) -> None:
    """A file beside outputs that says so to whoever gets the folder without the log."""
    (folder / ANNOUNCEMENT.strip("[]")).write_text(f"{NOTE}\n", encoding="utf-8")


def chips() -> list[str]:
    """Name of the chip behind each device id."""
    found = []
    for entry in os.environ.get("ASCEND_SIM_CHIPS", "310P3x2").split(","):
        name, count = entry.rsplit("x", 1)
        found += [name] * int(count)
    return found


def soc(device: int) -> str | None:
    """Full name of a device's chip, None if there is no such device."""
    names = chips()
    return f"Ascend{names[device]}" if 0 <= device < len(names) else None


def cann() -> str:
    return os.environ.get("ASCEND_SIM_CANN", "6.0.RC1")


def cann_version() -> tuple[int, int]:
    major, minor, *_ = cann().split(".")
    return int(major), int(minor)


def era() -> str:
    """Month of ais_bench's version; eras compare as text."""
    return os.environ.get("ASCEND_SIM_ERA", "2023-06")


def failure(name: str) -> str | None:
    """What follows the colon of a provoked failure ("" without one), None if the test does not ask for it."""
    for entry in os.environ.get("ASCEND_SIM_FAIL", "").split(","):
        kind, _, rest = entry.partition(":")
        if kind == name:
            return rest
    return None


def lasts(variable: str, spent: float) -> None:
    """Wait until something has taken the seconds that the test asks for; the computer may be slower than that."""
    time.sleep(max(0.0, float(os.environ.get(variable, "0")) - spent))


def write(path, data: bytes) -> None:
    """Write an output file; a full disk cuts it, as a tool that does not check its writes leaves it."""
    if failure("full_disk") is not None:
        path.write_bytes(data[: len(data) // 2])
        print(f"[ERROR] write {path} failed: No space left on device", file=sys.stderr)
        return
    path.write_bytes(data)
