"""A text of few lines, whatever there is to say: long lists are cut, and what comes on top is left out."""

from collections.abc import Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """A heading and what is listed below it, each item in one line or several that stay together."""

    heading: list[str]
    items: list[list[str]]
    most: int | None = None  # lines, whatever room there is

    @property
    def lines(self) -> list[str]:
        return [*self.heading, *(line for item in self.items for line in item)]


def fitted(blocks: Sequence[Block], extras: Sequence[list[str]], most: int, rest: str) -> list[list[str]]:
    """Lines of the blocks, no more than `most` in all with an empty one between two of them; `rest` names the file
    that has all.

    No block is cut that is shorter than another one remains. The extras that still fit stand before the last one, each
    of them whole.
    """
    there = [block for block in blocks if block.lines]
    needed = [min(len(block.lines), block.most or most) for block in there]
    room = most - len(there) + 1
    allowed = next((n for n in range(room, 2, -1) if sum(min(lines, n) for lines in needed) <= room), 2)
    found = [cut(block, min(lines, allowed), rest) for block, lines in zip(there, needed, strict=True)]
    for extra in filter(None, extras):
        if sum(len(lines) + 1 for lines in found) + len(extra) <= most:
            found.insert(-1, extra)
    return found


def cut(block: Block, most: int, rest: str) -> list[str]:
    """The lines of a block, or as many whole items of it as fit, and how many more there are."""
    if len(block.lines) <= most:
        return block.lines
    lines = list(block.heading)
    for i, item in enumerate(block.items):
        if len(lines) + len(item) >= most:
            return [*lines, f"  … and {len(block.items) - i} more (in {rest})"]
        lines += item
    return lines
