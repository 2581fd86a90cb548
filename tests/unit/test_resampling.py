"""A resample's figure is what the evaluator says of a ground truth that has an image as often as it was drawn."""

import numpy as np
import pytest

import resampled_truth
from detport import resampling
from detport.metrics import coco, voc

COCO = {"iou_types": ["bbox", "segm"], "max_detections": [1, 10, 100], "mask_area": "bbox", "images": "all"}
VOC = {"classes": ["c1", "c2", "c3", "c4"], "rounding": "none", "iou_threshold": 0.5}
RESAMPLES = 20


def ids(truth: dict) -> list[int]:
    return [image["id"] for image in truth["images"]]


@pytest.mark.parametrize("settings", [{}, {"max_detections": [1, 2, 3]}], ids=["all", "three of an image"])
@pytest.mark.parametrize("decimals", [None, 1], ids=["scores differ", "equal scores"])
def test_coco_is_exact(settings, decimals):
    settings = COCO | settings
    truth, rows = resampled_truth.drawn_by_chance(14, seed=3, decimals=decimals)
    drawn = resampling.draws(14, RESAMPLES, seed=1)
    measures = [f"{kind}.{name}" for kind in ("bbox", "segm") for name in ("AP", "AP50", "AP75")]
    found = coco.resampled(truth, ids(truth), rows, settings, measures, drawn)
    for r, times in enumerate(drawn):
        content, results = resampled_truth.repeated(truth, rows, times)
        figures = coco.evaluate(content, ids(content), results, settings, cross_check=r < 3)
        for measure in measures:
            kind, name = measure.split(".")
            assert found[measure][r] == pytest.approx(figures[kind][name], abs=1e-9), (measure, r)


@pytest.mark.parametrize("rounding", ["none", "files"])
@pytest.mark.parametrize("decimals", [None, 1], ids=["scores differ", "equal scores"])
def test_voc_is_exact(rounding, decimals):
    settings = VOC | {"rounding": rounding}
    truth, rows = resampled_truth.drawn_by_chance(10, seed=4, decimals=decimals)
    drawn = resampling.draws(10, RESAMPLES, seed=2)
    drawn[0] = [9] + [0] * 9  # most classes have no object
    found = voc.resampled(truth, ids(truth), rows, settings, ["voc07.mAP", "voc_area.mAP"], drawn)
    undefined = 0
    for r, times in enumerate(drawn):
        content, results = resampled_truth.repeated(truth, rows, times)
        figures = voc.evaluate(content, ids(content), results, settings, False)
        assert found["voc07.mAP"][r] == pytest.approx(figures["voc07"]["mAP"], abs=1e-9), r
        area = figures["voc_area"]["mAP"]
        undefined += area is None
        assert np.isnan(found["voc_area.mAP"][r]) if area is None else found["voc_area.mAP"][r] == pytest.approx(area)
    assert undefined


def test_only_the_images_that_count_are_drawn():
    """Those left out by the metric have no part, wherever they stand in the list."""
    truth, rows = resampled_truth.drawn_by_chance(8, seed=5)
    kept = [7, 2, 5]
    drawn = np.array([[1, 1, 1], [0, 2, 1]], np.int16)
    found = coco.resampled(truth, kept, rows, COCO, ["bbox.AP"], drawn)["bbox.AP"]
    own = [row for row in rows if row["image_id"] in kept]
    assert found[0] == pytest.approx(coco.evaluate(truth, kept, own, COCO, False)["bbox"]["AP"], abs=1e-12)
    twice = resampled_truth.repeated(truth, rows, np.array([0, 2, 0, 0, 1, 0, 0, 0]))
    assert found[1] == pytest.approx(coco.evaluate(twice[0], ids(twice[0]), twice[1], COCO, False)["bbox"]["AP"])


def test_nothing_to_find_is_no_figure():
    truth, rows = resampled_truth.drawn_by_chance(3, seed=6)
    bare = truth | {"annotations": [each for each in truth["annotations"] if each["image_id"] == 2]}
    drawn = np.array([[1, 0, 1], [1, 1, 1]], np.int16)
    found = coco.resampled(bare, ids(bare), rows, COCO, ["bbox.AP"], drawn)["bbox.AP"]
    assert np.isnan(found[0]) and found[1] >= 0
    empty = coco.resampled(truth | {"annotations": []}, ids(truth), rows, COCO, ["bbox.AP"], drawn)["bbox.AP"]
    assert np.isnan(empty).all()
    silent = coco.resampled(truth, ids(truth), [], COCO, ["bbox.AP"], drawn)["bbox.AP"]
    assert silent[1] == 0


def test_draws_are_those_of_the_seed_and_of_all_images():
    drawn = resampling.draws(50, 30, seed=7)
    assert (drawn.sum(axis=1) == 50).all() and 1 < drawn.max() < 12
    assert (drawn == resampling.draws(50, 30, seed=7)).all()
    assert (drawn != resampling.draws(50, 30, seed=8)).any()


def test_true_and_false_of_equal_score_come_in_turns():
    """An image twice is true, false, true, false with precisions 1 and 2/3 where an object is found, not 1 and 1."""
    true = np.array([[True, False]])
    found = resampling.Found(np.zeros(2, int), np.ones(2), true, np.zeros((1, 2), bool), np.ones(1, int))
    ap = resampling.average_precisions([found], np.array([[1], [2]], np.int16), None)
    assert ap[0, 0].tolist() == pytest.approx([1, (1 + 2 / 3) / 2])
