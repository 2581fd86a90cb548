"""Charts as SVG. Colours and sizes of letters are in styles.css; numbers of an axis are written as they are."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 12, 42  # margins
TICKS = 5
LINE = 14  # from one name to the next


class Axis(NamedTuple):
    """Values from `low` to `high` along one side of a chart, and the key of its name among the texts."""

    low: float
    high: float
    name: str
    ticks: Sequence[float]


class Series(NamedTuple):
    """Points with a style, and what is said when one points at them."""

    points: Sequence[tuple[float, float]]
    style: str
    title: str = ""


def axis(values: Sequence[float], name: str, zero: bool = True) -> Axis:
    """An axis for these values, with round numbers at its ticks; from zero, if it is to be."""
    low, high = (0.0 if zero else min(values)), max(values)
    if high <= low:
        low, high = (0.0, 1.0) if zero and not high else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)
    step = round_step((high - low) / TICKS)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    ticks = [float(f"{k * step:.10g}") for k in range(int(first), int(last) + 1)]
    return Axis(ticks[0], ticks[-1], name, ticks)


def unit(name: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(0, 1, name, [0, 0.2, 0.4, 0.6, 0.8, 1])


def round_step(least: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is no smaller."""
    power = 10.0 ** np.floor(np.log10(least))
    return next(float(times * power) for times in (1, 2, 5, 10) if times * power >= least * (1 - 1e-9))


def across(along: Axis, value: float) -> float:
    return LEFT + (value - along.low) / (along.high - along.low) * (WIDTH - LEFT - RIGHT)


def up(along: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (value - along.low) / (along.high - along.low) * (HEIGHT - TOP - BOTTOM)


def frame(x: Axis, y: Axis, text: Callable[[str], Markup], label: Markup, inside: list[Markup]) -> Markup:
    """A chart: its grid, the numbers and names of its axes, and what is inside. `text` gives a text for an SVG by its
    key, `label` the attributes that name the whole for a screen reader."""
    parts = []
    for tick in x.ticks:
        at = across(x, tick)
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>').format(
                at, HEIGHT - BOTTOM + 17, tick
            )
        )
    for tick in y.ticks:
        at = up(y, tick)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, at, at)
        )
        parts.append(
            Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(LEFT - 7, at + 4, tick)
        )
    parts.append(
        Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, text(x.name)
        )
    )
    parts.append(
        Markup('<text class="name" transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            (TOP + HEIGHT - BOTTOM) / 2, text(y.name)
        )
    )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" width="{}" height="{}" role="img"{}>{}{}</svg>').format(
        WIDTH, HEIGHT, WIDTH, HEIGHT, label, Markup("").join(parts), Markup("").join(inside)
    )


def title(words: str) -> Markup:
    return Markup("<title>{}</title>").format(words) if words else Markup("")


def line(series: Series, x: Axis, y: Axis) -> Markup:
    points = " ".join(f"{across(x, a):.1f},{up(y, b):.1f}" for a, b in series.points)
    return Markup('<polyline class="line {}" points="{}">{}</polyline>').format(
        series.style, points, title(series.title)
    )


def circles(series: Series, x: Axis, y: Axis, radius: float = 4) -> list[Markup]:
    return [
        Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>').format(
            series.style, across(x, a), up(y, b), radius, title(series.title)
        )
        for a, b in series.points
    ]


def column(
    x: Axis, y: Axis, sides: tuple[float, float], heights: tuple[float, float], style: str, words: str
) -> Markup:
    """A bar between two values of x, from one value of y to another."""
    left, right = (across(x, side) for side in sides)
    bottom, top = (up(y, height) for height in heights)
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>').format(
        style, left + 0.5, top, max(right - left - 1, 0.5), max(bottom - top, 0), title(words)
    )


def named(dots: Sequence[Series], x: Axis, y: Axis) -> list[Markup]:
    """Dots with their titles beside them, to the side where there is room, none over another."""
    drawn, taken = [], []
    for each in dots:
        ((across_x, up_y),) = each.points
        at, height = across(x, across_x), up(y, up_y) + 4
        side = -1 if at > (LEFT + WIDTH - RIGHT) / 2 else 1
        while any(abs(height - other) < LINE for other, its_side in taken if its_side == side):
            height -= LINE
        taken.append((height, side))
        drawn += [*circles(each, x, y, 5), word(at + 9 * side, height, each.title, "end" if side < 0 else "start")]
    return drawn


def word(x: float, y: float, words: str, anchor: str = "start") -> Markup:
    """A word at a place of the drawing."""
    return Markup('<text class="word" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, words)
