"""The search for nodes to keep in float32, with a measurement that is known."""

import math

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from detport import mixing

RANKING = [f"n{i}" for i in range(40)]


def measured(*needed: str, broken: bool = False):
    """Inside is a list that has all the nodes that are needed; and how often it was asked."""
    asked = []

    def measure(kept: list[str]) -> dict:
        asked.append(kept)
        return {"inside": set(needed) <= set(kept) and not broken, "found": f"{len(kept)} nodes"}

    return measure, asked


@pytest.mark.parametrize("needed", [["n0"], ["n3"], ["n0", "n7"], ["n39"], ["n2", "n20", "n21"]])
def test_the_nodes_that_are_needed_are_found(needed):
    measure, asked = measured(*needed)
    done = mixing.search(measure, RANKING, [], 60)
    assert mixing.best(done)["kept"] == needed
    assert len(asked) == len({tuple(kept) for kept in asked}), "none is measured twice"


def test_where_nothing_is_needed_nothing_is_tried():
    measure, asked = measured()
    done = mixing.search(measure, RANKING, [["n1"]], 60)
    assert (asked, mixing.best(done)["kept"]) == ([[]], [])


def test_a_proposal_that_is_inside_spares_the_ranking():
    measure, asked = measured("n30", "n31")
    done = mixing.search(measure, RANKING, [["n5"], ["n30", "n31", "n32", "n33"]], 60)
    assert mixing.best(done)["kept"] == ["n30", "n31"]
    assert asked[:3] == [[], ["n5"], ["n30", "n31", "n32", "n33"]]


def test_where_no_list_helps_there_is_none():
    measure, asked = measured(broken=True)
    done = mixing.search(measure, RANKING, [], 60)
    assert mixing.best(done) is None
    assert asked[-1] == RANKING


@pytest.mark.parametrize("steps", [1, 4, 8, 12])
def test_it_ends_after_so_many_measurements(steps):
    """With what it has found by then, if anything."""
    measure, asked = measured("n2", "n5")
    done = mixing.search(measure, RANKING, [], steps)
    assert len(asked) <= steps
    found = mixing.best(done)
    assert found is None or {"n2", "n5"} <= set(found["kept"])


def row(node: str, own_error: float, largest: float = 1.0) -> dict:
    found = {"node": node, "tensor": node, "own_error": own_error, "least": -1.0, "largest": largest}
    return found | {"overflow_fp16": float(largest > 65504)}


def graph() -> onnx.GraphProto:
    """x -> a -> b -> c -> d -> e; e has a constant that float16 does not hold."""
    nodes = [helper.make_node("Relu", [read], [name], name=name) for read, name in zip("xabc", "abcd", strict=True)]
    nodes.append(helper.make_node("Add", ["d", "huge"], ["e"], name="e"))
    return helper.make_graph(nodes, "graph", [], [], [numpy_helper.from_array(np.float32(1e6), "huge")])


def test_the_ranking_has_each_node_once_and_proposals_are_of_what_float16_does_not_hold():
    """Who reads infinity makes no better of it in float32, unless it is no infinity that it is given."""
    rows = [row("b", math.inf, 1e5), row("a", 0.3), row("a", 0.2), row("gone", 0.1), row("c", 0), row("d", 0)]
    rows.append(row("e", 0.01))
    assert mixing.ranked_nodes(rows, set("abcde")) == ["b", "a", "c", "d", "e"]
    assert mixing.proposals(rows, graph()) == [["b", "c"], ["b", "c", "e"]]
    rows[0]["largest"], rows[0]["overflow_fp16"] = 600, 0
    assert mixing.proposals(rows, graph()) == [[], ["b", "c", "e"]]


TOLERANCE = {"lost": 0.1, "new": 0.1, "flips": 0, "score_shift": 0.1, "box_shift": 4, "iou": 0.5, "mask_iou": 0.5}


def box(x: float, score: float = 0.9) -> dict:
    return {"category_id": 1, "bbox": [x, 0, 50, 50], "score": score}


@pytest.mark.parametrize(
    ("after", "inside"),
    [
        ([box(0), box(100)], True),
        ([box(3), box(100, 0.85)], True),
        ([box(6), box(100)], False),
        ([box(0), box(100, 0.7)], False),
        ([box(0)], False),
        ([box(0), box(100), box(200)], False),
        ([box(0), box(100), box(200, 0.2)], True),
    ],
    ids=["equal", "little", "moved", "score", "lost", "new", "new but weak"],
)
def test_detections_are_inside_the_tolerance_or_not(after, inside):
    found = mixing.judged([[box(0), box(100)]], [after], 0.3, TOLERANCE)
    assert found["inside"] == inside, found["found"]
