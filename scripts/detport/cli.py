"""What the stage scripts share: argument parsing, log lines, exit statuses."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from detport import processes, utf8
from detport.errors import Failure, UsageError
from detport.files import FULL

log = logging.getLogger("detport")

SCRATCH = "the folder is deleted after use: do not wait until it is on disk"
REMEDIES = dict.fromkeys(FULL, "; make room on that disk, then run the same command again: it goes on where it stopped")


def parser(description: str | None, makes: bool = True) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring, for a stage that makes something or one that only tells."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if makes:
        found.add_argument("--expect", metavar="IDENTITY", help="fail if what is made would be of another identity")
    return found


def positive(text: str) -> int:
    """Type of an argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def run(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a stage: exit status 0, 2 for the user's mistake, 1 for a failure; one line instead of a traceback."""
    stage = Path(sys.argv[0]).stem
    logging.addLevelName(logging.INFO, "")
    logging.addLevelName(logging.WARNING, "warning: ")
    form = f"%(asctime)s {stage}: %(levelname)s%(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    processes.watch(processes.stop_at_once)
    try:
        utf8.insist()
        main(None)
    except UsageError as error:
        sys.exit(complaint(stage, error, 2))
    except Failure as error:
        sys.exit(complaint(stage, error, 1))
    except FileNotFoundError as error:
        sys.exit(complaint(stage, f"{error.filename}: no such file; check the path", 2))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        sys.exit(complaint(stage, f"{name}{error.strerror or error}{REMEDIES.get(error.errno, '')}", 1))
    except MemoryError:
        sys.exit(complaint(stage, "out of memory; run fewer jobs at once (--cores) or on a larger machine", 1))


def own_log() -> str:
    """Where the lines of this program go."""
    place = Path("/proc/self/fd/2").resolve()
    return os.path.relpath(place) if place.is_file() else "on the terminal"


def complaint(stage: str, message: object, status: int) -> int:
    """Print the one line that says what is wrong."""
    print(f"{stage}: error: {message}", file=sys.stderr)
    return status
