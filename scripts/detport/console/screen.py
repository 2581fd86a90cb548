"""A terminal whose last lines are a view that changes, or a log that gets a line now and then.

The cursor waits at the first, empty line of the view: whatever else writes to the terminal (a job, the shell, the
kernel's ^C) is written there, nothing of it is ever overdrawn, and the next drawing begins below it. Nothing is set
that would have to be set back.
"""

import errno
import os
import shutil
import unicodedata
from collections.abc import Sequence
from typing import TextIO

ERASE = "\x1b[J"  # from here to the end of the screen
UP = "\x1b[{}A\r"
CUT = "..."
WIDE = "WF"  # classes of characters that take two columns
GONE = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal that was closed


def is_live(stream: TextIO) -> bool:
    """Whether lines on this stream can be drawn over: a terminal that knows how."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def has_colours(stream: TextIO) -> bool:
    """Whether colours are wanted there (https://no-color.org)."""
    return is_live(stream) and not os.environ.get("NO_COLOR")


class Screen:
    """A stream with a view below all that was written to it. Used by one thread at a time."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.live = is_live(stream)
        self.drawn: list[str] = []
        self.gone = False

    def write(self, text: str) -> None:
        """Lines that stay, above the view."""
        block, self.drawn = self.drawn, []
        self.put((ERASE if block else "") + text + "\n" + self.drawing(block))
        self.drawn = block

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines as the view; none take it away."""
        size = self.size()
        block = [crop(line, size.columns - 1) for line in lines][: max(size.lines - 2, 1)]
        if block or self.drawn:  # also if it is the same: somebody may have written over it
            self.put((ERASE if self.drawn else "") + self.drawing(block))
            self.drawn = block

    def size(self) -> os.terminal_size:
        """Of the terminal that this stream is."""
        try:
            found = os.get_terminal_size(self.stream.fileno())
        except OSError:
            return shutil.get_terminal_size()
        return found if found.columns and found.lines else os.terminal_size((80, 24))

    def drawing(self, block: Sequence[str]) -> str:
        """What shows a block and goes back to its first line."""
        return "\n" + "\n".join(block) + UP.format(len(block)) if block else ""

    def put(self, text: str) -> None:
        """Write, as long as somebody is there to read: a run goes on without its terminal, and has a log."""
        if self.gone:
            return
        known = self.stream.encoding or "utf-8"
        try:
            self.stream.write(text.encode(known, "backslashreplace").decode(known))
            self.stream.flush()
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.gone = True


def crop(text: str, columns: int) -> str:
    """A text that takes so many columns at most, without anything that would move the cursor."""
    signs = [(sign, width(sign)) for sign in printable(text)]
    if sum(size for _, size in signs) <= columns:
        return "".join(sign for sign, _ in signs)
    shown, room = [], columns - len(CUT)
    for sign, size in signs:
        room -= size
        if room < 0:
            break
        shown.append(sign)
    return "".join(shown) + CUT[: max(columns, 0)]


def printable(text: str) -> str:
    """A line in which everything can be seen."""
    return "".join(sign if sign.isprintable() else "?" for sign in text.expandtabs())


def width(sign: str) -> int:
    """Columns that a character takes."""
    return 0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in WIDE)
