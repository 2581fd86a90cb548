"""Programs of others: what they say is taken as it comes, and one that says nothing for too long is ended."""

import codecs
import io
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from detport import runs
from detport.errors import Failure

VARIABLE = "DETPORT_TOOL"  # of the environment: marks a tool and all that it starts
KILLED = "was killed; mostly for memory: run fewer jobs at once (--cores), or on a larger machine"
SHOWN = 200  # characters of a line in a complaint
LOOK = 1.0  # seconds between two looks at a tool that says nothing


def run(
    arguments: list[str],
    folder: Path,
    minutes: float,
    log: object,
    tell: Callable[[str], object],
    locks: Sequence[int] = (),
) -> tuple[int, str]:
    """Run a tool in `folder` and `tell` all it says; its exit status, and all it said.

    After so many minutes without a word it is ended, with all that it has started, and Failure names `log`. A tool
    inherits `locks`, so that it keeps its device to itself even if this process is killed.
    """
    mark = secrets.token_hex(8)
    said = []
    reader = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    with subprocess.Popen(
        arguments,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {VARIABLE: mark},
        pass_fds=locks,
    ) as process:
        try:
            for chunk in chunks(process, 60 * minutes):
                said.append(reader.decode(chunk))
                tell(said[-1])
        except subprocess.TimeoutExpired:
            end(mark)
            last = next((line.strip() for line in reversed("".join(said).splitlines()) if line.strip()), "")
            after = f" after {last[:SHOWN]!r}" if last else ""
            raise Failure(
                f"{name(arguments)} said nothing for {minutes:g} minutes{after} and was ended, with all that it had"
                f" started; the log is {log}. If it does work that long in silence, raise stall_minutes in the"
                " backend's yaml"
            ) from None
        except BaseException:
            end(mark)
            raise
    return process.returncode, "".join(said)


def chunks(process: subprocess.Popen, patience: float) -> Iterator[bytes]:
    """What a process says, until it has ended; TimeoutExpired after so many seconds without anything."""
    silent_since = time.monotonic()
    while True:
        ended = process.poll() is not None
        ready, _, _ = select.select([process.stdout], [], [], 0 if ended else min(LOOK, patience))
        chunk = os.read(process.stdout.fileno(), 2**16) if ready else b""
        if chunk:
            silent_since = time.monotonic()
            yield chunk
        elif ended:  # something that it has started may still hold the pipe
            return
        elif ready:  # closed, but not ended
            process.wait(max(patience - (time.monotonic() - silent_since), 0))
            return
        elif time.monotonic() - silent_since > patience:
            raise subprocess.TimeoutExpired(process.args, patience)


def name(arguments: list[str]) -> str:
    """What a tool is called by: its program, or a module of python's."""
    return " ".join(arguments[: 3 if arguments[1:2] == ["-m"] else 1])


def was_killed(status: int) -> bool:
    """Whether a tool, or what a shell ran for it, was killed by signal 9."""
    return status in (-signal.SIGKILL, 128 + signal.SIGKILL)


def end(mark: str) -> None:
    """End a tool and all that it has started, wherever that has moved to."""
    runs.end(runs.orphans(mark, VARIABLE))
