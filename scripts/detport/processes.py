"""Processes: who this one is, whether another one still lives, and the end of a stage whose run is gone."""

import ctypes
import functools
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "DETPORT_RUN"  # of the environment: the identity of the run that a stage belongs to
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
HEARTBEAT = 1.0  # seconds between two looks at whether a stage's run still lives


def this_run() -> dict:
    """The identity of this process, as the record holds it."""
    pid = os.getpid()
    return place() | {"pid": pid, "started": started(pid), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def place() -> dict:
    """Where process ids mean the same: this boot of this machine, and this process namespace."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text(encoding="utf-8").strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }


def started(pid: int) -> int | None:
    """Clock ticks between boot and the start of a living process; None if there is none of that id."""
    fields = stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def state(pid: int) -> str | None:
    """The kernel's letter for what a process does, T if it is stopped; None if there is none of that id."""
    fields = stat(pid)
    return None if fields is None else fields[0]


def stat(pid: int) -> list[str] | None:
    """What the kernel says of a process, from its state on."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return line[line.rindex(")") + 2 :].split()  # the name before it may hold anything


@functools.cache
def keep_memory() -> None:
    """Keep what is freed for what comes next, where the C library is one that can be told to. It would else go back to
    the system after every image, which has to clear each of its pages again before the next one."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    tell(TRIM_THRESHOLD, 1 << 28)
    tell(MMAP_THRESHOLD, 1 << 25)  # the most that it takes


def token(run: dict) -> str:
    """The identity as the environment variable holds it."""
    return " ".join(str(run[key]) for key in ("boot", "namespace", "pid", "started"))


def watch(leave: Callable[[], None]) -> None:
    """Call `leave` from a thread as soon as the run that started this stage is gone; a stage run by hand has none."""
    boot, namespace, pid, ticks = (os.environ.get(VARIABLE, "").split(" ") + [""] * 4)[:4]
    here = place()
    if not ticks.isdigit() or (boot, namespace) != (here["boot"], here["namespace"]):
        return

    def look() -> None:
        while started(int(pid)) == int(ticks):
            time.sleep(HEARTBEAT)
        leave()

    threading.Thread(target=look, name="watch", daemon=True).start()


def stop_at_once() -> None:
    """End this process without a farewell; what it has half written is cleared away by its successor."""
    print("the run that started this stage is gone; the stage stops", file=sys.stderr, flush=True)
    os._exit(1)


def processor() -> str:
    """The processor's name as Linux knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
