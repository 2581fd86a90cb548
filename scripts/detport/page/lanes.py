"""A timeline as SVG: a bar for every stage at work, one above the other where they were at work together."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from detport import timeline
from detport.page import charts, render, words
from detport.page.words import Words
from detport.timeline import Span

WIDTH, LEFT, RIGHT, TOP, FOOT = 960, 90, 12, 4, 40
ROW, GAP = 18, 3  # height of a lane, and what of it is left free
STYLES = {"preprocess": "series-1", "infer": "series-2", "decode": "series-3"}  # all other stages are series-4


def page(stages: Sequence[Span], devices: Mapping[str, Sequence[Span]], lines: Sequence[str]) -> str:
    """The page of a run; `lines` are those that say how long devices were idle."""
    chart = drawn(stages, devices, words.of({}))
    return render.filled("timeline.html", {"lines": lines}, name="detport", chart=chart)


def drawn(stages: Sequence[Span], devices: Mapping[str, Sequence[Span]], written: Words) -> Markup:
    """The lanes of stages, those of devices below them, and the seconds since the run began."""
    start = stages[0].begin
    seconds = charts.axis([max(span.end for span in stages) - start], "seconds")
    rows = [("", lane) for lane in timeline.lanes(stages)] + [
        (f"device {name}", uses) for name, uses in devices.items()
    ]
    height = TOP + ROW * len(rows) + FOOT
    parts = scale(seconds, height, written)
    for i, (name, spans) in enumerate(rows):
        parts.append(charts.word(0, TOP + ROW * i + ROW - 6, name))
        parts += [
            bar(span, start, seconds, TOP + ROW * i, "use" if name else STYLES.get(span.what, "series-4"))
            for span in spans
        ]
    return Markup('<svg class="chart lanes" viewBox="0 0 {} {}" role="img"{}>{}</svg>').format(
        WIDTH, height, words.label("chart_lanes"), Markup("").join(parts)
    )


def across(seconds: charts.Axis, value: float) -> float:
    return LEFT + value / seconds.high * (WIDTH - LEFT - RIGHT)


def bar(span: Span, start: float, seconds: charts.Axis, top: float, style: str) -> Markup:
    left, right = (across(seconds, each - start) for each in (span.begin, span.end))
    said = f"{span.what} {span.of}: {span.begin - start:.1f} to {span.end - start:.1f} s"
    return Markup('<rect class="bar {}" x="{:.2f}" y="{}" width="{:.2f}" height="{}">{}</rect>').format(
        style, left, top, max(right - left, 0.5), ROW - GAP, charts.title(said)
    )


def scale(seconds: charts.Axis, height: float, written: Words) -> list[Markup]:
    """A line and its number for every tick, and what they are."""
    foot = height - FOOT
    found = [
        Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            across(seconds, tick), TOP, foot
        )
        + Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>').format(
            across(seconds, tick), foot + 16, tick
        )
        for tick in seconds.ticks
    ]
    name = Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>')
    return [*found, name.format((LEFT + WIDTH - RIGHT) / 2, height - 6, written.svg(seconds.name))]
