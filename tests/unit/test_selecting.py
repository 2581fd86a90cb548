"""Selecting: scores, candidates and suppression against their definition in plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plain
from detport import schemas, selecting
from detport.errors import Failure

IMAGE = {"image_id": 1, "file": "a.jpg", "width": 100, "height": 100, "canvas": "100x100", "scale": 1.0}


def options(**changes) -> dict:
    value = {"kind": "dense", "categories": [1], "box": "xyxy", "objectness": True}
    value |= {"score_above": 0.25, "nms": "none"} | changes
    schemas.validate(value, schemas.plugin("decoders", "dense"), "model.yaml", {}, ("decode",))
    return value


def found(
    table: list, objectness: list | None = None, classes: list | None = None, levels: list | None = None, **changes
):
    """(row, class, score) of the candidates of a table of class scores."""
    own = None if objectness is None else np.float32(objectness)
    classes = classes or list(range(len(table[0])))
    groups = None if levels is None else np.array(levels)
    pairs = selecting.candidates(np.float32(table), own, options(**changes), classes, IMAGE, groups)
    return [
        (row, label, round(score, 4)) for row, label, score in zip(*(values.tolist() for values in pairs), strict=True)
    ]


TABLE = [[0.5, 0.3], [0.2, 0.9], [0.1, 0.2]]


def test_all_classes_of_a_box_or_the_best() -> None:
    assert found(TABLE) == [(1, 1, 0.9), (0, 0, 0.5), (0, 1, 0.3)]
    assert found(TABLE, multi_label=False) == [(1, 1, 0.9), (0, 0, 0.5)]


def test_a_score_at_the_minimum_is_not_above_it() -> None:
    assert found([[0.25, 0.5]]) == [(0, 1, 0.5)]


def test_objectness_and_powers() -> None:
    """YOLOv5: the product; FastestDet: obj^0.6 cls^0.4; FCOS: the root of the product; YOLOv7 of one class: obj."""
    assert found(TABLE, [1.0, 0.5, 1.0]) == [(0, 0, 0.5), (1, 1, 0.45), (0, 1, 0.3)]
    powers = {"objectness_power": 0.6, "class_power": 0.4}
    assert found([[0.5]], [0.25], **powers) == [(0, 0, round(0.25**0.6 * 0.5**0.4, 4))]
    assert found([[0.5]], [0.5], objectness_power=0.5, class_power=0.5) == [(0, 0, 0.5)]
    assert found([[0.5]], [0.75], class_power=0) == [(0, 0, 0.75)]


def test_filtered_by_the_score_of_the_class_alone() -> None:
    """MMDetection's heads with a centerness: threshold and candidates before the product, the order after it."""
    rules = {"filter_by": "class", "candidates": 2}
    assert found([[0.9], [0.8], [0.7]], [0.1, 0.5, 1.0], **rules) == [(1, 0, 0.4), (0, 0, 0.09)]


def test_logits() -> None:
    assert found([[0.0, -5.0]], activation="sigmoid") == [(0, 0, 0.5)]
    assert found([[0.0]], [0.0], activation="sigmoid", score_above=0.2) == [(0, 0, 0.25)]
    assert found([[2.0, 2.0, -90.0]], activation="softmax") == [(0, 0, 0.5), (0, 1, 0.5)]


@pytest.mark.parametrize(("background", "rows"), [("first", [(0, 1, 0.375), (0, 2, 0.25)]), ("last", [(0, 0, 0.375)])])
def test_the_background_takes_part_in_the_softmax_and_nothing_else(background: str, rows: list) -> None:
    logits = np.log([[0.375, 0.375, 0.25]])
    classes = [None, 5, 6] if background == "first" else [5, None, None]
    assert found(logits.tolist(), classes=classes, activation="softmax", score_above=0.2, multi_label=True) == rows


def test_a_class_without_a_category_between_others() -> None:
    assert found([[0.5, 0.9, 0.4]], classes=[1, None, 2], multi_label=False) == [(0, 0, 0.5)]


def test_candidates_over_all_per_level_and_per_class() -> None:
    """Of equal scores the first box is taken."""
    table = [[0.5, 0.9], [0.5, 0.8], [0.5, 0.7], [0.6, 0.3]]
    assert found(table, candidates=3) == [(0, 1, 0.9), (1, 1, 0.8), (2, 1, 0.7)]
    assert found(table, candidates=5) == [(0, 1, 0.9), (1, 1, 0.8), (2, 1, 0.7), (3, 0, 0.6), (0, 0, 0.5)]
    assert found(table, candidates=1, candidates_of="class") == [(0, 1, 0.9), (3, 0, 0.6)]
    per_level = found(table, levels=[0, 0, 1, 1], candidates=1, candidates_of="level")
    assert per_level == [(0, 1, 0.9), (2, 1, 0.7)]


@pytest.mark.parametrize("wrong", [1.5, np.nan, -0.5])
def test_scores_that_are_none_are_refused(wrong: float) -> None:
    """Logits taken for scores would give a plausible accuracy."""
    with pytest.raises(Failure, match=rf"'a\.jpg': row 1 of the outputs scores {wrong:g}, .*decode\.activation"):
        found([[0.5, 0.5], [0.5, wrong]])
    assert found([[1.0005, 0.5]])  # a device's arithmetic


def test_the_best_candidates_are_the_first_of_all() -> None:
    """What is tried first is a prefix of what there is, ties included."""
    table = np.random.default_rng(0).integers(0, 9, (200, 5)) / 8
    every = selecting.candidates(np.float32(table), None, options(), [1] * 5, IMAGE)
    some = selecting.candidates(np.float32(table), None, options(), [1] * 5, IMAGE, most=40)
    assert [values[:40].tolist() for values in every] == [values.tolist() for values in some]


crowds = st.lists(st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 4)] * 2), min_size=1, max_size=20)
rules = st.fixed_dictionaries(
    {
        "multi_label": st.booleans(),
        "agnostic": st.booleans(),
        "iou_plus": st.sampled_from([0, 1]),
        "nms_iou": st.sampled_from([0.2, 0.5]),
        "max_detections": st.sampled_from([None, 1, 3]),
        "candidates": st.sampled_from([None, 4]),
    }
)


@given(crowds, rules, st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_selecting_is_its_definition(crowd: list, chosen: dict, seed: int) -> None:
    """With three classes and objectness; scores are distinct, because equal ones keep any order."""
    boxes = [[x, y, x + w, y + h] for x, y, w, h in crowd]
    rng = np.random.default_rng(seed)
    table, own = rng.permutation(len(boxes) * 3).reshape(-1, 3) / (len(boxes) * 3), rng.random(len(boxes))
    found = []
    for box, scores, factor in zip(boxes, np.float32(table), np.float32(own), strict=True):
        labels = range(3) if chosen["multi_label"] else [int(np.argmax(scores))]
        found += [(float(scores[label] * factor), label, box) for label in labels if scores[label] * factor > 0.25]
    best = sorted(found, key=lambda one: -one[0])[: chosen["candidates"]]
    expected = plain.nms(best, chosen["nms_iou"], chosen["agnostic"], chosen["iou_plus"])[: chosen["max_detections"]]

    given = options(nms="hard", **chosen)
    pairs = selecting.candidates(np.float32(table), np.float32(own), given, [1, 2, 3], IMAGE)
    kept, pairs = selecting.detections(np.float32(boxes)[pairs.rows], pairs, given, IMAGE)
    plain.same(selecting.results(kept, pairs, [1, 2, 3], IMAGE), expected, IMAGE, [1, 2, 3])


ROW = selecting.Pairs(np.array([0]), np.array([0]), np.float32([0.5]))


@pytest.mark.parametrize(
    ("clip", "coordinates", "expected"),
    [
        ("none", "pixels", [-5, -5, 110, 60]),
        ("after_nms", "pixels", [0, 0, 100, 55]),
        ("before_nms", "pixels", [0, 0, 100, 55]),
        ("after_nms", "original", [0, 0, 100, 100]),
        ("before_nms", "original", [0, 0, 100, 100]),
    ],
)
def test_clipping(clip: str, coordinates: str, expected: list) -> None:
    image = IMAGE | {"scale": 2.0, "left": 10, "top": 20}
    box = [0, 10, 220, 130] if coordinates == "pixels" else [-5, -5, 110, 110]
    rules = options(clip=clip, coordinates=coordinates)
    boxes, pairs = selecting.detections(np.float32([box]), ROW, rules, image)
    (row,) = selecting.results(boxes, pairs, [1], image)
    assert row["bbox"] == expected


def test_clipping_before_nms_changes_what_overlaps() -> None:
    boxes = np.float32([[-90, 0, 10, 10], [0, 0, 10, 10]])
    pairs = selecting.Pairs(np.arange(2), np.zeros(2, int), np.float32([0.9, 0.8]))
    for clip, count in (("before_nms", 1), ("after_nms", 2)):
        kept, _ = selecting.detections(boxes, pairs, options(nms="hard", nms_iou=0.5, clip=clip), IMAGE)
        assert len(kept) == count


def test_soft_nms_lowers_scores_and_drops_what_falls_below_the_minimum() -> None:
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    pairs = selecting.Pairs(np.arange(3), np.zeros(3, int), np.float32([0.9, 0.8, 0.7]))
    _, kept = selecting.detections(boxes, pairs, options(nms="soft", soft_sigma=0.5), IMAGE)
    assert kept.rows.tolist() == [0, 2]  # 0.8 exp(-2) is below 0.25
    _, kept = selecting.detections(boxes, pairs, options(nms="soft", soft_sigma=0.5, score_above=0.1), IMAGE)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.8 * np.exp(-2)])


def test_a_box_that_is_none_names_its_row() -> None:
    with pytest.raises(Failure, match=r"'a\.jpg': row 0 of the boxes becomes the box \[0\.0, nan"):
        selecting.detections(np.float32([[0, np.nan, 1, 1]]), ROW, options(), IMAGE)
