"""What a report warns of, from the detections to its first screen."""

import numpy as np
import pytest

import layouts_of as made
from detport import columns, doubts
from detport.metrics import coco
from detport.readings import others
from detport.report import text, warnings

COCO = {"kind": "coco", "iou_types": ["bbox"]}
NO_DOUBTS = {"turned": [], "silent": [], "objects": 9, "tiny": 0, "readings": []}
TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}, {"id": 7, "name": "cow"}],
    "annotations": [
        {"image_id": 1, "category_id": 5, "iscrowd": 0},
        {"image_id": 1, "category_id": 6, "iscrowd": 0},
        {"image_id": 2, "category_id": 7, "iscrowd": 0},
        {"image_id": 1, "category_id": 7, "iscrowd": 1},
    ],
}


def said(accuracy: float | None = 0.4, caps: list[str] | None = None, kept: int | None = None, **found) -> list[str]:
    """Warnings of a backend."""
    figures = {} if accuracy is None else {"bbox.AP": accuracy}
    backend = {"doubts": NO_DOUBTS | found, "detections": 100, "figures": figures, "accuracy": {"bbox": {}}}
    model = {"name": "mine", "metric": COCO, "decode": {"max_detections": kept}}
    return warnings.lines(model, "onnxruntime", backend | {"patches": [{"caps": caps or []}], "calibration": []})


def test_nothing_to_warn_of():
    assert said() == []
    assert text.few("WARNINGS", []).lines == []
    assert text.few("WARNINGS", ["x: y"]).lines == ["WARNINGS", "  x: y"]


@pytest.mark.parametrize(("accuracy", "warned"), [(0.0199, True), (0.02, False)])
def test_an_ap_next_to_nothing_points_to_the_doctor(accuracy, warned):
    assert any("snakemake --cores 2 results/mine/doctor.txt" in line for line in said(accuracy)) is warned


def test_no_ground_truth_and_no_objects():
    assert said(None, objects=0) == [
        "onnxruntime: the annotations have no object in the images that were scored: no accuracy"
    ]
    backend = {
        "doubts": NO_DOUBTS | {"objects": 0},
        "detections": 0,
        "figures": {},
        "accuracy": {},
        "patches": [],
        "calibration": [],
    }
    model = {"name": "m", "metric": COCO, "decode": {}}
    assert warnings.lines(model, "b", backend) == ["b: the dataset has no ground truth: no accuracy"]


def test_each_doubt_is_a_line():
    assert said(silent=["cat", "dog"]) == [
        "onnxruntime: classes without a single detection, though there are objects: cat, dog"
    ]
    assert "7 of 100 detections are under a pixel" in said(tiny=7)[0] and said(tiny=1) == []
    turned = [{"image_id": i, "file": f"{i}.jpg"} for i in range(7)]
    assert said(turned=turned)[0].endswith("0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, … (+2)")
    assert "the outputs look like kind: dense" in said(readings=["the outputs look like kind: dense"])[0]


@pytest.mark.parametrize(("kept", "warned"), [(None, True), (300, True), (101, True), (100, False), (10, False)])
def test_a_limit_of_the_graph_counts_where_the_decoder_has_none_as_low(kept, warned):
    line = "Slice keeps at most 100 boxes of an image"
    found = said(caps=[line, "NMS keeps scores above 0.25 only"], kept=kept)
    assert [line in each for each in found] == [True, False][not warned :]
    assert found[0].startswith(f"onnxruntime: inside the graph, {line if warned else 'NMS'}")


def test_what_accuracy_json_says_of_detections():
    rows = [
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9], "score": 0.5},
        {"image_id": 1, "category_id": "cow", "bbox": [0, 0, 0.5, 9], "score": 0.5},
    ]
    found = columns.of(rows)
    parts = [{"turned": [{"image_id": 1, "file": "a"}], "readings": ["x"]}, {"turned": [], "readings": ["x", "y"]}]
    assert doubts.of_detections(parts, TRUTH, [1], found, coco, {}) == {
        "turned": [{"image_id": 1, "file": "a"}],
        "silent": ["dog"],
        "objects": 2,
        "tiny": 1,
        "readings": ["x", "y"],
    }
    assert doubts.of_detections(parts, None, [1], found, coco, {})["objects"] == 0


def seen(outputs: dict[str, np.ndarray]) -> list[tuple[dict, dict[str, np.ndarray]]]:
    return [({"canvas": "64x96"}, outputs)]


def test_outputs_that_are_something_else_than_the_yaml_says():
    boxes = made.boxes([8, 16, 32], "cxcywh")
    outputs = {"o": np.hstack([boxes, made.scores(len(boxes), 3)])[None]}
    options = {"kind": "dense", "box": "cxcywh", "objectness": False, "coordinates": "pixels", "background": "none"}
    assert others.of_yaml(seen(outputs), options, [1, 2, 3]) == []
    (line,) = others.of_yaml(seen(outputs), options | {"box": "xyxy"}, [1, 2, 3])
    assert line == "the outputs look like kind: dense, box: cxcywh, objectness: False"


def test_outputs_that_fit_two_readings():
    """Nothing was found that would tell the order of the columns."""
    options = {"kind": "after_nms", "columns": ["batch", "box", "score", "label"], "coordinates": "pixels"}
    lines = others.of_yaml(seen({"o": np.zeros((1, 20, 7), np.float32)}), options | {"background": "none"}, [1, 2])
    assert lines == []  # a guess is no evidence against the yaml
    boxes, scores, labels = made.kept()
    table = np.hstack([np.zeros((20, 1)), boxes, np.float32(labels)[:, None], scores[:, None]]).astype(np.float32)
    (line,) = others.of_yaml(seen({"o": table[None]}), options | {"background": "none"}, [1, 2, 3])
    assert "columns: ['batch', 'box', 'label', 'score']" in line


def test_decoders_of_a_paper_are_not_doubted():
    assert others.of_yaml(seen({"o": np.zeros((1, 20, 7), np.float32)}), {"kind": "rfcn"}, [1]) == []
