"""Detections of two rungs: who is whose partner, and what that says."""

import numpy as np
import pytest

from detport.masks import encode
from detport.parity import differences, pairs


def row(x: float, score: float, category: int = 1, side: float = 10, **more) -> dict:
    return {"bbox": [x, 0, side, side], "score": score, "category_id": category, **more}


def changes(before: list[dict], after: list[dict], score: float = 0.3) -> dict:
    return pairs.changes([before], [after], score)


def counts(found: dict) -> list[int]:
    return [found[key] for key in ("before", "after", "matched", "lost", "new", "flips")]


def test_equal_lists_in_another_order():
    rows = [row(0, 0.9), row(50, 0.8), row(50, 0.7, category=2), row(3, 0.2)]
    found = changes(rows, rows[::-1])
    assert counts(found) == [3, 3, 3, 0, 0, 0]
    assert found["score_shift"] == found["box_shift"] == {"largest": 0, "p99": 0}
    assert (found["least_iou"], found["least_mask_iou"], found["images"]) == (1, None, [])


def test_shifts_of_scores_and_boxes():
    found = changes([row(0, 0.9), row(50, 0.5)], [row(1, 0.7), row(50, 0.5)])
    assert counts(found) == [2, 2, 2, 0, 0, 0]
    assert found["score_shift"]["largest"] == pytest.approx(0.2)
    assert found["box_shift"]["largest"] == 1
    assert found["least_iou"] == pytest.approx(9 / 11)


def test_what_falls_below_the_score_is_not_lost_as_long_as_it_is_there():
    assert counts(changes([row(0, 0.31)], [row(0, 0.29)])) == [1, 0, 1, 0, 0, 0]
    assert counts(changes([row(0, 0.31)], [])) == [1, 0, 0, 1, 0, 0]
    assert counts(changes([row(0, 0.29)], [])) == [0, 0, 0, 0, 0, 0]
    assert counts(changes([], [row(0, 0.31)])) == [0, 1, 0, 0, 1, 0]


def test_another_category_in_the_same_place_is_a_flip():
    found = changes([row(0, 0.9), row(40, 0.9)], [row(0, 0.9, category=2), row(90, 0.9)])
    assert counts(found) == [2, 2, 0, 2, 2, 1]
    assert found["images"] == [0]


def test_partners_are_one_to_one_and_the_nearest_find_each_other_first():
    found = pairs.paired([row(0, 0.9), row(2, 0.8)], [row(2, 0.9), row(1, 0.7)])
    assert [(a, b) for a, b, _ in found.partners] == [(0, 1), (1, 0)]
    twice = pairs.paired([row(0, 0.9)], [row(0, 0.5), row(0, 0.9)])
    assert [(a, b) for a, b, _ in twice.partners] == [(0, 1)]
    assert twice.new == [0]


def test_a_box_without_area_is_itself():
    assert counts(changes([row(5, 0.9, side=0)], [row(5, 0.9, side=0)])) == [1, 1, 1, 0, 0, 0]


def test_masks():
    def mask(width: int) -> dict:
        pixels = np.zeros((10, 10), np.uint8)
        pixels[:, :width] = 1
        return {"segmentation": encode(pixels)}

    found = changes(
        [row(0, 0.9, **mask(10)), row(50, 0.9, **mask(0))], [row(0, 0.9, **mask(6)), row(50, 0.9, **mask(0))]
    )
    assert found["least_mask_iou"] == pytest.approx(0.6)


def test_figures_of_tensors():
    a, b = np.array([[3.0, -4.0, 0.0]], np.float32), np.array([[3.0, 4.0, 0.5]], np.float32)
    found = differences.tensors([{"x": a}, {"x": a}], [{"x": b}, {"x": a}])["x"]
    assert (found["largest"], found["relative"], found["apart"]) == (8, 2, 2)
    assert found["cosine"] == pytest.approx((9 - 16 + 25) / np.sqrt(50 * (25 + 25.25)))
    assert found["signs"] == pytest.approx(2 / 6)
    assert differences.tensors([{"x": np.abs(a)}], [{"x": np.abs(a)}])["x"]["signs"] is None
    assert differences.tensors([{"n": np.arange(3)}], [{"n": np.arange(3)[::-1]}])["n"] == {
        "differ": 2,
        "of": 3,
        "rows": None,
        "apart": 1,
    }


def test_rows_with_an_index_are_compared_by_it():
    """And those without in place, while `apart` finds the nearest row all the same."""
    scores, index = np.array([[0.9, -0.5, 0.2]], np.float32), np.array([[7, 3, 5]], np.int32)
    turned = {"scores": scores[:, ::-1], "index": index[:, ::-1]}
    found = differences.tensors([{"scores": scores, "index": index}], [turned])["scores"]
    assert (found["largest"], found["signs"], found["rows"], found["cosine"]) == (0, 0, "by index", pytest.approx(1))
    boxes = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    before, after = {"scores": scores, "boxes": boxes}, {"scores": scores[:, ::-1], "boxes": boxes[:, ::-1]}
    found = differences.tensors([before], [after])
    assert found["boxes"]["rows"] == "in place"
    assert found["boxes"]["largest"] == 8
    assert max(each.get("apart", 0) for each in found.values()) == 0


def test_what_is_no_number_is_counted_and_left_out():
    a, b = np.array([1.0, 2.0, 3.0], np.float32), np.array([1.0, np.nan, np.inf], np.float32)
    assert differences.strange([a, b, np.arange(3)]) == {"nan": 1, "inf": 1}
    found = differences.tensors([{"x": a}], [{"x": b}])["x"]
    assert (found["largest"], found["apart"]) == (0, None)


def test_outputs_of_another_form_are_told():
    a, b = np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)
    assert differences.tensors([{"x": a}], [{"x": b}]) == {"x": {"other": "is float32 [3, 2], was float32 [2, 3]"}}
    assert differences.tensors([{"x": a}], [{"y": a}]) == {"x": {"other": "is missing"}}
    varying = differences.tensors([{"x": a}, {"x": a}], [{"x": a[:1]}, {"x": a}], {"x"})
    assert varying["x"]["largest"] == 0, "of the images with as many rows"
    assert differences.tensors([{"x": a}], [{"x": a[:1]}], {"x"}) == {}
