"""When the stages of a run were at work, and when its devices were: what the records beside its files tell."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from detport import made

PAUSE = 60  # seconds without any stage at work: what lies before is another run's


class Span(NamedTuple):
    """A stage at work, or a device in use, from `begin` to `end` in seconds since 1970."""

    begin: float
    end: float
    what: str  # the stage, or the device
    of: str  # the file or folder that it worked for


def last_run(folder: Path) -> tuple[list[Span], dict[str, list[Span]]]:
    """Of the last run in a working directory the stages, and the uses of every device, both by their begin."""
    stages, uses = {}, {}
    for path in sorted(folder.glob("re[ps]*/**/*made*")):  # reports and results
        target = path.parent if path.name == made.FOLDER else path.with_suffix("")
        record = made.read(target) if path.name.endswith((".made", made.FOLDER)) else None
        if record is None or "began" not in record:
            continue  # no record, or one of an older version
        of = str(target.relative_to(folder))
        for stage, began in record["began"].items():  # once, although several files may tell of it
            stages.setdefault((began, stage), Span(began, began + record["seconds"][stage], stage, of))
        for device, spans in record["devices"].items():
            for began, seconds in spans:
                uses.setdefault((began, device), Span(began, began + seconds, device, of))
    start = beginning(stages.values())
    devices: dict[str, list[Span]] = {}
    for use in sorted(uses.values()):
        if use.begin >= start:
            devices.setdefault(use.what, []).append(use)
    return sorted(span for span in stages.values() if span.begin >= start), devices


def beginning(spans: Iterable[Span]) -> float:
    """When the last run began."""
    start = latest = 0.0
    for span in sorted(spans):
        if span.begin > latest + PAUSE:
            start = span.begin
        latest = max(latest, span.end)
    return start


def lanes(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans side by side: each behind the one that ended last before it, so that the stages of a job follow each
    other; a new lane where all are taken."""
    found: list[list[Span]] = []
    for span in spans:
        free = [lane for lane in found if lane[-1].end <= span.begin]
        if free:
            max(free, key=lambda lane: lane[-1].end).append(span)
        else:
            found.append([span])
    return found


def busy(uses: Sequence[Span]) -> tuple[float, float]:
    """Seconds that a device was in use, and those between its first and its last moment of use."""
    return sum(use.end - use.begin for use in uses), max(use.end for use in uses) - min(use.begin for use in uses)


def waiting(device: str, uses: Sequence[Span]) -> str:
    """One line on a device."""
    used, whole = busy(uses)
    return (
        f"device {device}: {len(uses)} times in use, {used:.1f} s of {whole:.1f} s from the first to the last;"
        f" idle {1 - used / whole:.1%}"
    )
