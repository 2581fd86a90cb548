"""A reading of outputs, and what is known besides them."""

from collections.abc import Iterator
from typing import NamedTuple


class Reading(NamedTuple):
    """One way to take the outputs; `guesses` names what of it they do not tell."""

    form: str  # a word for it, by which presets are found
    decode: dict  # kind, and the options of its layout
    classes: int  # that the outputs have scores of, background included; 0 where that does not show
    why: dict[str, str]  # of each key of decode
    guesses: frozenset[str] = frozenset()  # keys of decode that nothing in the outputs tells


class Context(NamedTuple):
    """What is known besides the outputs."""

    canvas: tuple[int, int]
    classes: int | None
    told_size: bool


Readings = Iterator[Reading]
