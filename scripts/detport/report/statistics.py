"""Verdicts that allow for chance: intervals of figures and of their differences, from resamples of the images."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detport import config
from detport.errors import Failure
from detport.report.gates import FAIL, NOT_MEASURED, PASS, UNDECIDED, is_accuracy, named, published_figures

AGREEMENT = 1e-9  # of a figure that two stages have computed
BIAS = 2.3  # what AP of some images has too much, in units of what their resamples have more: bench/intervals.py
COUNTLESS = 10_000_000  # images; no dataset decides what needs more


class Interval(NamedTuple):
    """Where a number lies that the images tell only by chance."""

    value: float  # on the images as they are
    low: float
    high: float
    confidence: float
    images: int
    resamples: int  # those in which it is defined


def interval(
    value: float, resamples: np.ndarray, confidence: float, images: int, of_difference: bool
) -> Interval | None:
    """The percentiles of the resamples; None where it is undefined in most of them.

    AP is too high on few different images. The interval of a single figure is moved by what the resamples, which have
    fewer of them, have too much, and by BIAS times that for the images themselves. Of a difference it cancels out.
    """
    defined = resamples[~np.isnan(resamples)]
    if math.isnan(value) or 2 * len(defined) <= len(resamples):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    if not of_difference:
        low, high = (end - (1 + BIAS) * (defined.mean() - value) for end in (low, high))
    return Interval(value, float(low), float(high), confidence, images, len(defined))


class Sampled(NamedTuple):
    """A figure of a detector on all images and on every resample of them."""

    value: float
    resamples: np.ndarray
    images: int
    draws: tuple  # equal for two detectors that were resampled on the same images


def sampled(found: Mapping | None, measure: str) -> Sampled | None:
    """A figure out of what resample.py wrote; None where there is none."""
    if not found or measure not in found["measures"]:
        return None
    numbers = found["measures"][measure]
    statistics, images = found["statistics"], found["images"]
    value = math.nan if numbers["value"] is None else numbers["value"]
    draws = (images["sha256"], statistics["seed"], statistics["resamples"])
    return Sampled(value, np.array(numbers["resamples"], float), images["counted"], draws)


def require_agreement(name: str, found: Mapping, figures: Mapping[str, float]) -> None:
    """Fail where a figure is not the one that evaluate computed from the same detections."""
    for measure, numbers in found["measures"].items():
        if measure in figures and abs((numbers["value"] or 0) - figures[measure]) > AGREEMENT:
            raise Failure(
                f"{name}: {measure} is {figures[measure]!r} in accuracy.json, {numbers['value']!r} in resampled.json;"
                " delete both and run again"
            )


def intervals(found: Mapping, confidence: float) -> dict[str, dict | None]:
    """The interval of every figure of a backend."""
    told = {}
    for measure in found["measures"]:
        own = sampled(found, measure)
        around = interval(own.value, own.resamples, confidence, own.images, of_difference=False)
        told[measure] = None if around is None else around._asdict()
    return told


def judge(row: dict, gate: dict, resampled: Mapping[str, dict], model: dict, images_of: int | None) -> dict:
    """A gate's row with the verdict that an interval gives: for gates with a margin, and on a sample for all of them on
    accuracy. `images_of` is how many images the dataset has, where these are a sample of it."""
    by_chance = gate["margin"] is not None or (images_of is not None and is_accuracy(gate["measure"]))
    if not by_chance:
        return row
    own = sampled(resampled.get(row["backend"]), gate["measure"])
    bar = sampled(resampled.get(gate["against"]), gate["measure"])
    if row["verdict"] == NOT_MEASURED:
        return row
    if own is None or (bar is None and gate["against"] is not None):
        return row | {"verdict": NOT_MEASURED, "note": f"there are no intervals of {gate['measure']}"}
    if bar is not None and own.draws != bar.draws:
        return row | {"verdict": NOT_MEASURED, "note": f"other images were skipped than of {gate['against']}"}
    least = lowest(gate, bar, model["references"])
    confidence = model["statistics"]["confidence"]
    differences = own.value - least[0], own.resamples - least[1]
    around = interval(*differences, confidence, own.images, of_difference=bar is not None)
    if around is None:
        return row | {"verdict": NOT_MEASURED, "note": f"{gate['measure']} is not defined in most resamples"}
    limit = -(gate["margin"] or 0)
    verdict = PASS if around.low >= limit else FAIL if around.high < limit else UNDECIDED
    needed = {"images_to_decide": None, "images_if_equal": None}
    if verdict == UNDECIDED:
        needed["images_to_decide"] = images_to_decide(around, around.value - limit)
        needed["images_if_equal"] = images_to_decide(around, -limit) if limit else None
    note = words(row, gate, verdict, around) + deciding(**needed, images_of=images_of) * (verdict == UNDECIDED)
    return row | {"verdict": verdict, "note": note, "interval": around._asdict() | needed}


def lowest(gate: dict, bar: Sampled | None, references: list[dict]) -> tuple[float, np.ndarray | float]:
    """The smallest number that passes, less the margin, on all images and on every resample."""
    if bar is None:
        published = published_figures(named(references, gate["reference"]))[gate["measure"]]
        fixed = published * gate["times"] - gate["minus"]
        return fixed, fixed
    return bar.value * gate["times"] - gate["minus"], bar.resamples * gate["times"] - gate["minus"]


def images_to_decide(around: Interval, distance: float) -> int | None:
    """How many images would bring the edge of the interval to the limit, if the value were at this distance from it.

    Its width goes as 1 / sqrt(images). None where the value is so near the limit that none would.
    """
    arm = around.value - around.low if distance >= 0 else around.high - around.value
    needed = around.images * (arm / distance) ** 2 if distance else math.inf
    return math.ceil(needed) if needed <= COUNTLESS else None


def words(row: dict, gate: dict, verdict: str, shown: Interval) -> str:
    """What the interval says, in one sentence."""
    measure, backend = gate["measure"], row["backend"]
    other = gate["against"] or gate["reference"]
    span = f"{100 * shown.confidence:g} % interval {shown.low:+.4f} to {shown.high:+.4f}, {shown.images} images"
    if gate["margin"] is not None:
        start = f"{measure} of {backend} less that of {other} is {shown.value:+.4f} ({span})"
        said = {
            PASS: f"if it is worse at all, then by less than the margin of {gate['margin']:g}",
            FAIL: f"it is worse by more than the margin of {gate['margin']:g}",
            UNDECIDED: f"whether it is worse by more than the margin of {gate['margin']:g} cannot be told from chance",
        }[verdict]
    else:
        start = f"{measure} of {backend} less what {gate['name']} asks for is {shown.value:+.4f} ({span})"
        said = {
            PASS: "it is enough",
            FAIL: "it is too little",
            UNDECIDED: "whether it is enough cannot be told from chance",
        }[verdict]
    return f"{start}: {said}"


def deciding(images_to_decide: int | None, images_if_equal: int | None, images_of: int | None) -> str:
    """How many images would decide what these do not."""
    if images_to_decide is None:
        told = "it is so near the limit that no number of images would decide it"
    else:
        told = f"about {rounded(images_to_decide)} images would decide it if the difference stays as it is"
    if images_if_equal is not None:
        told += f", about {rounded(images_if_equal)} if there is none"
    return f"; {told}" + (f" (the dataset has {images_of:,})" if images_of is not None else "")


def rounded(count: int) -> str:
    """A count with two significant digits, which is more than is known of it."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"{math.ceil(count / step) * step:,}"


def recorded_values(gates: list[dict], resampled: Mapping[str, dict]) -> dict[str, dict[str, float]]:
    """The figures of recorded files, as those of a backend."""
    files = {config.recorded(gate) for gate in gates} - {None}
    return {
        file: {name: each["value"] for name, each in resampled[file]["measures"].items() if each["value"] is not None}
        for file in sorted(files)
        if file in resampled
    }
