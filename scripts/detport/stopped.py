"""A process that is stopped (SIGSTOP, Ctrl-Z) waits for ever and says nothing: the run that it belongs to says so."""

import shlex
import sys
import threading
import time
from pathlib import Path

from detport import processes, runs

PAUSE = 5.0  # seconds between two looks
SHOWN = 3  # words of a command line


def watch(run: str) -> None:
    """From a thread, name every process of a run that is stopped, once each time that it is."""

    def look() -> None:
        told: set[int] = set()
        while True:
            found = {pid for pid in runs.orphans(run) if processes.state(pid) == "T"}
            for pid in sorted(found - told):
                print(complaint(pid), file=sys.stderr, flush=True)
            told = found
            time.sleep(PAUSE)

    threading.Thread(target=look, name="stopped", daemon=True).start()


def complaint(pid: int) -> str:
    """One line: which process, and how it goes on."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:SHOWN]
    except (FileNotFoundError, ProcessLookupError):
        words = []  # it is gone by now
    return f"detport: process {pid} ({shlex.join(words)} ...) is stopped; it goes on after: kill -CONT {pid}"
