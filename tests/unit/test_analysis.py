"""Where the errors are, and what scores are worth."""

import json

import numpy as np
import pytest

import tide_case
from detport import analysis
from detport.analysis import matching, scores, tide
from detport.metrics import coco

SETTINGS = {"kind": "coco", "iou_types": ["bbox", "segm"], "images": "all", "mask_area": "mask"}
SETTINGS |= {"max_detections": [1, 10, 100]}


@pytest.fixture(scope="module")
def found() -> dict:
    truth, rows = tide_case.case()
    return analysis.of(truth | {"source": "truth"}, list(range(1, tide_case.IMAGES + 1)), rows, SETTINGS)


@pytest.mark.parametrize(("ours", "theirs"), [("bbox", "bbox"), ("segm", "mask")])
def test_errors_are_those_of_the_original_tool(found, ours, theirs):
    """tidecv's numbers for the same detections."""
    expected = json.loads(tide_case.NUMBERS.read_text())[theirs]
    errors = found["errors"][ours]
    assert errors["AP50"] == pytest.approx(expected["AP50"], abs=1e-6)
    gains = {kind: each["gain"] for kind, each in errors["kinds"].items()}
    assert gains == pytest.approx(expected["gains"], abs=1e-6)
    assert min(each["count"] for each in errors["kinds"].values()) > 0, "the case has all kinds"


def test_the_area_under_a_curve_is_the_ap(found):
    """That of the metric, at each IoU."""
    truth, rows = tide_case.case()
    figures = coco.evaluate(truth | {"source": "truth"}, list(range(1, tide_case.IMAGES + 1)), rows, SETTINGS, False)
    for group, curve in found["curves"].items():
        areas = np.mean(curve["precision"], axis=1)
        assert areas[0] == pytest.approx(figures[group]["AP50"], abs=1e-6)
        assert areas.mean() == pytest.approx(figures[group]["AP"], abs=1e-6)


def table(rows: list[tuple[float, bool]], objects: int) -> tide.Table:
    """Detections of one class in one image, as score and whether they are true."""
    image = matching.Image(
        1, [{"category_id": 1}] * objects, [], [{"category_id": 1, "score": s} for s, _ in rows], (9, 9)
    )
    kinds = np.array([matching.TRUE if true else matching.BKG for _, true in rows], int)
    about = np.cumsum(kinds == matching.TRUE) - 1
    about[kinds != matching.TRUE] = matching.NONE
    matched = matching.Matched(kinds, about, np.zeros(len(rows)), np.zeros(len(rows), bool))
    return tide.table([image], [matched], [1])


def test_calibration_of_scores_that_are_right_and_of_some_that_are_not():
    honest = table([(0.75, True)] * 3 + [(0.75, False)], 3)
    assert scores.calibration(honest) == {
        "error": 0.0,
        "bins": [{"from": 0.7, "detections": 4, "score": 0.75, "right": 0.75}],
    }
    boastful = table([(0.9, False), (1.0, True)], 1)
    assert scores.calibration(boastful)["error"] == pytest.approx(0.45)
    assert scores.calibration(table([], 1)) == {"error": None, "bins": []}


def test_histogram_counts_every_detection_once():
    found = scores.histogram(table([(0.0, False), (0.5, True), (1.0, True)], 3))
    assert (sum(found["true"]), sum(found["false"])) == (2, 1)
    assert (found["true"][-1], found["true"][10], found["false"][0]) == (1, 1, 1)


def test_the_score_to_work_with():
    """0.8 finds two of three with no error; lower, an error comes with nothing found. Equal scores stay together."""
    rows = [(0.9, True), (0.8, True), (0.7, False), (0.7, False), (0.6, False)]
    assert scores.working(table(rows, 3)) == {"score": 0.8, "f1": 0.8, "precision": 1.0, "recall": pytest.approx(2 / 3)}
    assert scores.working(table([(0.9, False)], 3)) is None


def test_confusion_has_every_object_and_detection_once(found):
    truth, rows = tide_case.case()
    objects = sum(not each["iscrowd"] for each in truth["annotations"])
    assert sum(each["count"] for each in found["confusion"] if each["truth"] is not None) == objects
    assert sum(row["objects"] for row in found["classes"]) == objects
    least = found["working"]["score"]
    detections = sum(each["count"] for each in found["confusion"] if each["as"] is not None)
    assert detections <= sum(row["score"] >= least for row in rows), "those in crowds are left out"
    mixed = [each for each in found["confusion"] if each["truth"] != each["as"] and None not in each.values()]
    assert mixed, "the case has objects that are taken for others"


def test_without_detections_all_is_missed():
    truth, _ = tide_case.case()
    found = analysis.of(truth | {"source": "truth"}, [1, 2, 3, 4, 5], [], SETTINGS)
    errors = found["errors"]["bbox"]["kinds"]
    objects = sum(row["objects"] for row in found["classes"])
    assert errors["miss"]["count"] == objects > 0
    assert found["working"] is None
    assert {each["as"] for each in found["confusion"]} == {None}
