"""One run at a time in a working directory: who holds it, and what a dead run left behind.

A run is identified by its machine's boot, its process namespace, its process id and the moment that this process
started, so that a process id in use again is never taken for the old run. The run holds a kernel lock on its record,
.snakemake/detport.run, for as long as it lives, and its jobs inherit its identity in an environment variable. At its
end it writes so on the record: a record that does not say so is that of a run that lives or was killed, whatever has
become of Snakemake's own locks.
"""

import atexit
import contextlib
import errno
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import IO

from detport import slurm
from detport.errors import Failure
from detport.processes import VARIABLE, place, started, this_run, token

RECORD = Path(".snakemake") / "detport.run"
LOCKS = Path(".snakemake") / "locks"
GRACE = 5.0  # seconds that an orphan has to end itself before it is killed
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # what a file system without locks answers

_held: list[IO[str]] = []  # the open record: closing it would let go of the lock


def claim(folder: Path, executor: str | None = None) -> list[str]:
    """Make this process the only run in `folder`; raise Failure if another one is, or may be, at work there.

    What a dead run of this machine left is cleared away first: its jobs are ended and its locks removed; those that it
    sent away are settled. `executor` is where this run sends its jobs, if they do not run here. Returns what was done,
    one line each.
    """
    (folder / RECORD).parent.mkdir(exist_ok=True)
    file = os.fdopen(os.open(folder / RECORD, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    exclusive = lock(file)
    previous = read(file)
    open_end = previous is not None and not ended(previous)
    if exclusive is False or (open_end and is_here(previous) and started(previous["pid"]) == previous["started"]):
        who = (
            f"process {previous['pid']} on {previous['host']}, since {previous['since']}"
            if previous
            else "it just began"
        )
        raise Failure(f"another run is at work in {folder.resolve()} ({who}). Wait for it, or stop it, then try again")
    said = []
    locks = sorted((folder / LOCKS).glob("*.lock"))
    if open_end and is_dead(previous, exclusive is True):
        who = f"the run of {previous['since']} (process {previous['pid']}) was killed"
        left = orphans(token(previous))
        if left:
            end(left)
            said.append(
                f"{who}; ended {len(left)} of its processes that were still at work: {', '.join(map(str, left))}"
            )
        if locks:
            for path in locks:
                path.unlink(missing_ok=True)
            said.append(f"{who}; cleared its lock and go on where it stopped")
    elif open_end and locks:
        raise Failure(
            f"{folder.resolve()} is locked by process {previous['pid']} on {previous['host']}, since"
            f" {previous['since']}; from here nobody can tell whether it still runs. Look on {previous['host']}:"
            f" ps -p {previous['pid']}. If it is gone: snakemake --cores 1 --unlock, then the same command"
        )
    if "slurm" in (executor, (previous or {}).get("executor")):
        slurm.settle(folder)
    run = this_run() | {"executor": executor}
    write(file, run)
    _held.append(file)
    atexit.register(release, run)
    if executor is None:  # jobs elsewhere live on without this process, even on this machine
        os.environ[VARIABLE] = token(run)
    return said


def ended(run: dict) -> bool:
    """Whether a run has said that it ended by itself; one that is over without was killed."""
    return run.get("ended") is True


def release(run: dict) -> None:
    """At the end of this process: say on the record that the run ended by itself."""
    if _held and os.getpid() == run["pid"]:
        with contextlib.suppress(OSError):  # as good as killed: the next run looks after what may be left
            write(_held.pop(), run | {"ended": True})


def write(file: IO[str], run: dict) -> None:
    """Put a run on record. Nothing is cut off before the rest is written: on a full disk there may be no room again."""
    file.seek(0)
    file.write(json.dumps(run))
    file.truncate()
    file.flush()


def lock(file: IO[str]) -> bool | None:
    """Whether this process now holds the file; None where the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def read(file: IO[str]) -> dict | None:
    """The run on record, if there is a whole one."""
    file.seek(0)
    try:
        run = json.load(file)
    except (ValueError, RecursionError):
        return None  # a new file, or one whose writer was killed in the act, before it locked anything
    return run if isinstance(run, dict) and run.keys() >= {"host", "boot", "namespace", "pid", "started"} else None


def is_here(run: dict) -> bool:
    """Whether the run's process id means something to this process."""
    here = place()
    return bool(here["boot"]) and all(run[key] == here[key] for key in ("boot", "namespace"))


def is_dead(run: dict, exclusive: bool) -> bool:
    """Whether a run is provably over, `exclusive` being that this process holds the lock that the run held.

    Of this boot: the kernel has taken its lock away, or its process is gone. Of an earlier boot of this host: so is
    every process of that time.
    """
    here = place()
    if run["boot"] == here["boot"]:
        return exclusive or (is_here(run) and started(run["pid"]) != run["started"])
    return run["host"] == here["host"]


def orphans(wanted: str, variable: str = VARIABLE) -> list[int]:
    """Living processes that inherited this identity."""
    entry = f"{variable}={wanted}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            mine = entry in path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended, or is somebody else's
        pid = int(path.parent.name)
        if mine and pid != os.getpid() and started(pid) is not None:
            found.append(pid)
    return sorted(found)


def end(pids: list[int]) -> None:
    """End processes, politely first, and wait until they are gone."""
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            send(pid, wanted)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(started(pid) is not None for pid in pids):
            time.sleep(0.02)


def send(pid: int, wanted: signal.Signals) -> None:
    """Signal a process that may be gone."""
    if started(pid) is not None:
        try:
            os.kill(pid, wanted)
        except ProcessLookupError:
            return
