"""Which nodes to keep in float32: searched for by what the detections of the mixed model are, beside float32's.

A measurement is a dict: `kept`, the nodes; `inside`, whether the detections are within the tolerance; `found`, in words
what they are.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from detport.graph.stepping import name_of
from detport.parity import pairs
from detport.report import ladder

Measure = Callable[[list[str]], dict]

# What float16 computes well enough: no sum of values of such a size overflows, and every constant has a number.
ACTIVATION, CONSTANT = 512.0, 65504.0


def search(measure: Measure, ranking: list[str], proposals: Sequence[list[str]], steps: int) -> list[dict]:
    """Measurements, the last one that is inside being of the smallest list that was found; at most `steps` of them.

    First nothing is kept, then each proposal, then of the ranking the first 1, 2, 4, … nodes; the first list that is
    inside is then made smaller. What is inside with a list is taken to be inside with a longer one.
    """
    done: list[dict] = []

    def inside(kept: list[str]) -> bool:
        known = next((each for each in done if each["kept"] == kept), None)
        if known is None:
            known = measure(kept) | {"kept": kept}
            done.append(known)
        return known["inside"]

    def more() -> bool:
        return len(done) < steps

    if inside([]):
        return done
    found = next((kept for kept in proposals if kept and more() and inside(kept)), None)
    if found is None and ranking:
        found = first_of(ranking, inside, more)
    if found is not None:
        smaller(found, inside, more)
    return done


def first_of(ranking: list[str], inside: Callable[[list[str]], bool], more: Callable[[], bool]) -> list[str] | None:
    """The least first part of a ranking that is inside; None if none is, as far as it was measured."""
    low, high = 0, 1
    while more() and not inside(ranking[:high]):
        if high == len(ranking):
            return None
        low, high = high, min(2 * high, len(ranking))
    while high - low > 1 and more():
        middle = (low + high) // 2
        if inside(ranking[:middle]):
            high = middle
        else:
            low = middle
    return ranking[:high]


def smaller(kept: list[str], inside: Callable[[list[str]], bool], more: Callable[[], bool]) -> list[str]:
    """A list without the parts that it can do without: halves, then quarters, and so on to single nodes, the last ones
    of the ranking first."""
    size = math.ceil(len(kept) / 2)
    while more() and kept:
        for begin in reversed(range(0, len(kept), size)):
            without = kept[:begin] + kept[begin + size :]
            if without and more() and inside(without):
                kept = without
        if size == 1:
            break
        size = math.ceil(size / 2)
    return kept


def best(done: list[dict]) -> dict | None:
    """The measurement of the shortest list that is inside; None if there is none."""
    return min((each for each in done if each["inside"]), key=lambda each: len(each["kept"]), default=None)


def ranked_nodes(rows: list[dict], known: set[str]) -> list[str]:
    """The nodes of a table of layers that are in a graph too, each once, that with the largest own error first."""
    return list(dict.fromkeys(row["node"] for row in rows if row["node"] in known))


def proposals(rows: list[dict], graph: onnx.GraphProto) -> list[list[str]]:
    """Lists to try before the ranking, for float16: the nodes that make or read what overflows, and those that make or
    read what is too large to be safe, constants included."""
    over = {row["tensor"] for row in rows if row["overflow_fp16"]}
    large = {row["tensor"] for row in rows if max(abs(row["least"]), abs(row["largest"])) > ACTIVATION}
    large |= {tensor.name for tensor in graph.initializer if largest(tensor) > CONSTANT}
    ranking = ranked_nodes(rows, {name_of(node) for node in graph.node})
    found = []
    for tensors in (over, large):
        near = {name_of(node) for node in graph.node if tensors.intersection((*node.input, *node.output))}
        found.append([name for name in ranking if name in near])
    return found


def largest(tensor: onnx.TensorProto) -> float:
    """The largest size of a constant's numbers, infinity left out, which float16 has too; 0 of those that are no
    floats."""
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return 0.0
    sizes = np.abs(numpy_helper.to_array(tensor))
    return float(sizes[np.isfinite(sizes)].max(initial=0))


def judged(before: list[list[dict]], after: list[list[dict]], score: float, tolerance: Mapping[str, float]) -> dict:
    """A measurement of detections beside float32's, image by image, by the tolerance of the ladder."""
    changes = pairs.changes(before, after, score)
    found = "; ".join(ladder.beyond({"tensors": {}, "detections": changes}, tolerance))
    counts = f"{changes['before']} detections, {changes['lost']} lost, {changes['new']} new, {changes['flips']} flips"
    shifts = [
        f"{words} {changes[key]['largest']:.3g}{unit}"
        for key, words, unit in (("score_shift", "score", ""), ("box_shift", "box", " px"))
        if changes[key]
    ]
    return {"inside": not found, "found": ", ".join([counts, *shifts])}
