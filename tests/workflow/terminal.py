"""A terminal for tests: the screen that a program's output leaves."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TOKEN = re.compile(r"\x1b\[\d*([A-Z])|\x1b\[[\d;]*m|(.)", re.DOTALL)
NUMBER = re.compile(r"\d+")


class Terminal:
    """Lines of text and a cursor, for the few controls that the console uses; others are kept in `unknown`."""

    def __init__(self, columns: int = 80, rows: int = 24):
        self.columns, self.rows = columns, rows
        self.lines, self.y, self.x = [""], 0, 0
        self.unknown: list[str] = []

    def feed(self, text: str) -> None:
        for found in TOKEN.finditer(text):
            command, sign = found.groups()
            if command == "A":
                amount = int(NUMBER.search(found[0])[0])
                self.y = max(self.y - amount, len(self.lines) - self.rows, 0)
            elif command == "J":
                self.lines = [*self.lines[: self.y], self.lines[self.y][: self.x]]
            elif command or sign == "\x1b":
                self.unknown.append(found[0])
            elif sign == "\r":
                self.x = 0
            elif sign == "\n":
                self.down()
            elif sign:
                self.put(sign)

    def down(self) -> None:
        self.y += 1
        self.lines += [""] * (self.y + 1 - len(self.lines))

    def put(self, sign: str) -> None:
        if self.x == self.columns:
            self.down()
            self.x = 0
        line = self.lines[self.y].ljust(self.x)
        self.lines[self.y] = line[: self.x] + sign + line[self.x + 1 :]
        self.x += 1

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    look: Callable[[Terminal, int], None] = lambda terminal, stream: None,
    columns: int = 80,
) -> tuple[int, Terminal, str]:
    """Run a program on a terminal; exit status, the screen that is left, and all that was written. `look` is called
    now and then with the screen and the descriptor of the terminal."""
    pid, stream = pty.fork()
    if not pid:
        os.execvpe(str(command[0]), list(map(str, command)), dict(environment))
    fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    terminal, written = Terminal(columns), b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([stream], [], [], 0.2)[0]:
            try:
                new = os.read(stream, 1 << 16)
            except OSError:  # what Linux says when the other end is closed
                break
            written += new
            terminal.feed(new.decode("utf-8", "replace"))
        look(terminal, stream)
    _, status = os.waitpid(pid, 0)
    os.close(stream)
    return os.waitstatus_to_exitcode(status), terminal, written.decode("utf-8", "replace")
