"""What the page says: texts in its languages, and figures of the report with the place that they come from.

Every text is there in all languages; styles.css shows one of them. A text for an attribute is in English and has its
key beside it, with which script.js puts another language in its place.
"""

import functools
import json
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from detport import yamlfile
from detport.metrics import NOTHING_TO_FIND
from detport.page.templates import FOLDER

LANGUAGES = {"en": "en", "zh": "zh-CN"}  # the key of a text, and the language as HTML calls it
NONE = "–"


class Words(NamedTuple):
    """The functions that templates and sections write with."""

    text: Callable[..., Markup]
    svg: Callable[..., Markup]
    label: Callable[..., Markup]
    number: Callable[..., Markup]
    value: Callable[..., object]


@functools.cache
def texts() -> dict[str, dict[str, str]]:
    """All texts by key and language."""
    return yamlfile.read_yaml(FOLDER / "texts.yaml")[0]


def of(report: dict) -> Words:
    """The functions for a report."""
    return Words(
        text=functools.partial(in_all, "span"),
        svg=functools.partial(in_all, "tspan"),
        label=label,
        number=functools.partial(number, report),
        value=functools.partial(value, report),
    )


def in_all(tag: str, key: str, **parts: object) -> Markup:
    """A text in every language, each in an element of its own; `parts` stand in its braces."""
    found = texts()[key]
    return Markup("").join(
        Markup('<{} class="{}" lang="{}">{}</{}>').format(tag, name, tongue, filled(found[name], parts), tag)
        for name, tongue in LANGUAGES.items()
    )


def filled(text: str, parts: dict[str, object]) -> Markup:
    """A text with parts in its braces; what is no markup is escaped."""
    pieces = [
        escape(literal) + (escape(parts[field]) if field else "")
        for literal, field, *_ in string.Formatter().parse(text)
    ]
    return Markup("").join(pieces)


def label(key: str, attribute: str = "aria-label") -> Markup:
    """An attribute with a text, in English until the script changes the language."""
    return Markup(' {}="{}" data-label="{}:{}"').format(attribute, texts()[key]["en"], attribute, key)


def value(report: dict, *path: str | int) -> object:
    """What stands at a place of the report; None where there is no such place, or nothing to find."""
    found: object = report
    for key in path:
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and isinstance(key, int) and key < len(found):
            found = found[key]
        else:
            return None
    return None if found == NOTHING_TO_FIND and isinstance(found, float) else found


def number(report: dict, *path: str | int, digits: int = 3, signed: bool = False, factor: float = 1) -> Markup:
    """A figure of the report as it is shown, with the whole figure and its place."""
    found = value(report, *path)
    if not isinstance(found, int | float):
        return Markup('<span class="none">{}</span>').format(NONE)
    return Markup('<data value="{!r}" data-from="{}">{}</data>').format(
        found, json.dumps(path), shown(found * factor, digits, signed)
    )


def shown(found: float, digits: int, signed: bool = False) -> str:
    """A whole number with every digit, another one rounded; with a real minus sign."""
    if isinstance(found, int):
        return f"{found:,}".replace(",", "\N{THIN SPACE}")
    found = round(found, digits) or 0.0  # no minus sign where nothing is left
    return f"{found:{'+' if signed and found else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def for_script(keys: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """The texts that the script puts in place: those of attributes, and its own, which begin with js_."""
    return {key: found for key, found in texts().items() if key in keys or key.startswith(("js_", "label_", "chart_"))}
