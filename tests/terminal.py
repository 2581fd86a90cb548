"""A terminal for tests: a program under a pty, and the screen that its output leaves."""

import os
import pty
import re
import struct
import subprocess
import termios
import fcntl
from collections.abc import Callable, Sequence
from pathlib import Path

TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;]*m|(.)", re.DOTALL)


class Terminal:
    """Lines of text and a cursor, for the few controls that the console uses."""

    def __init__(self, columns: int = 80, rows: int = 24):
        self.columns, self.rows = columns, rows
        self.lines, self.y, self.x = [""], 0, 0
        self.unknown: list[str] = []

    def feed(self, text: str) -> None:
        for found in TOKEN.finditer(text):
            amount, command, sign = found.groups()
            if command == "A":
                self.y = max(self.y - int(amount or 1), len(self.lines) - self.rows, 0)
            elif command == "J":
                self.lines = [*self.lines[: self.y], self.lines[self.y][: self.x]]
            elif command == "m" or sign is None:
                continue
            elif sign == "\r":
                self.x = 0
            elif sign == "\n":
                self.y, self.x = self.y + 1, self.x if False else self.x
                self.grow()
            elif sign == "\x1b":
                self.unknown.append(text[found.start() : found.start() + 8])
            else:
                self.put(sign)

    def grow(self) -> None:
        while len(self.lines) <= self.y:
            self.lines.append("")

    def put(self, sign: str) -> None:
        if self.x == self.columns:
            self.y, self.x = self.y + 1, 0
            self.grow()
        line = self.lines[self.y].ljust(self.x)
        self.lines[self.y] = line[: self.x] + sign + line[self.x + 1 :]
        self.x += 1

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")
