"""A yaml whose lines say why they are there."""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

WIDTH = 120
PLAIN = re.compile(r"[^\W\d]([\w./ +-]*[\w./+-])?")  # text that needs no quotes
NO_TEXT = ("yes", "no", "on", "off", "y", "n", "true", "false", "null", "none")  # for some readers of YAML
GUESS = "GUESS"
QUESTION = "QUESTION"


class Line(NamedTuple):
    """A key of a yaml with its reason; `guess` is true where nothing tells it, `question` asks for the answer."""

    key: tuple[str, ...]
    value: object
    why: str
    guess: bool = False
    question: str = ""


def render(head: Iterable[str], lines: Iterable[Line]) -> str:
    """The text of a yaml, sections in the order of their first lines."""
    text = [f"# {part}" for line in head for part in wrapped(line, "")]
    sections: dict[str, list[Line]] = {}
    for line in lines:
        sections.setdefault(line.key[0], []).append(line)
    for name, entries in sections.items():
        if len(entries[0].key) == 1:
            rows = written(entries[0], "")
            text += ["", *rows] if len(rows) > 1 else rows
            continue
        text += ["", f"{name}:"]
        for entry in entries:
            text += written(entry, "  ")
    return "\n".join(text) + "\n"


def written(line: Line, indent: str) -> list[str]:
    """A key, its reason behind it or, if there is no room, before it."""
    reason = f"{GUESS}: {line.why}" if line.guess else line.why
    before = [f"{indent}# {part}" for part in wrapped(f"{QUESTION}: {line.question}", indent)] if line.question else []
    rows = [f"{indent}{row}" for row in dumped(line.key[-1], line.value)]
    if len(rows) == 1 and len(rows[0]) + len(reason) + 3 <= WIDTH:
        return [*before, f"{rows[0]} # {reason}"]
    return [*before, *(f"{indent}# {part}" for part in wrapped(reason, indent)), *rows]


def wrapped(text: str, indent: str) -> list[str]:
    """A comment in lines that fit."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > WIDTH - len(indent) - 2:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def dumped(key: str, value: object) -> list[str]:
    """A key and its value in lines: in one where that fits, else an entry below the other."""
    short = f"{key}: {flow(value)}"
    if len(short) <= WIDTH - 2 and not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return [short]
    if isinstance(value, dict):
        return [f"{key}:", *(f"  {row}" for name, part in value.items() for row in dumped(scalar(name), part))]
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return [f"{key}:", *(f"  - {flow(part)}" for part in value)]
    if isinstance(value, list):
        rows = wrapped(", ".join(map(flow, value)), "    ")
        return [f"{key}: [", *(f"  {row}" for row in rows), "]"]
    return [short]


def flow(value: object) -> str:
    """A value in YAML's short form."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{scalar(key)}: {flow(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value)


def scalar(value: object) -> str:
    """A text, number or truth value, in quotes where YAML would take it for something else."""
    if isinstance(value, str) and (value.lower() in NO_TEXT or not PLAIN.fullmatch(value)):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else json.dumps(value)
