"""Text and file names are UTF-8, whatever the locale says: a name in an index would else be another one on disk."""

import locale
import os
import sys
from pathlib import Path

from detport.errors import UsageError

MODE = "PYTHONUTF8"  # Python's own variable; programs that this one starts inherit it


def insist(folder: str = ".") -> None:
    """Begin again in Python's UTF-8 mode, with the same command line in the folder where it was given, unless text and
    file names of this process are UTF-8 already; those of its children will be."""
    was, os.environ[MODE] = os.environ.get(MODE), "1"
    if sys.getfilesystemencoding() == "utf-8" and (sys.flags.utf8_mode or locale.getencoding().lower() == "utf-8"):
        return
    if was == "1":
        raise UsageError(
            f"Python reads text as {locale.getencoding()} although {MODE} is 1; start it without -E and -I"
        )
    # sys.argv is text by now, which does not always give back the bytes that it was made from.
    arguments = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    os.chdir(folder)
    os.execvp(arguments[0], arguments)
