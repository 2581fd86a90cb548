"""Boxes with one score and one label: every form in which networks give them, read as the same detections."""

import numpy as np
import pytest

from detport.errors import Failure, UsageError

# 100 x 50 pixels, doubled, in the middle of a canvas of 200 x 200
IMAGE = {"image_id": 7, "file": "a.jpg", "width": 100, "height": 50, "canvas": "200x200", "scale": 2.0, "top": 50}
BOXES = np.float32([[20, 60, 60, 100], [100, 70, 140, 130], [0, 0, 0, 0]])  # on the canvas; the last row is padding
SCORES, LABELS = np.float32([0.75, 0.5, 0]), np.array([1, 0, 0])
FOUND = [  # class by class
    {"image_id": 7, "category_id": 3, "bbox": [50, 10, 20, 30], "score": 0.5},
    {"image_id": 7, "category_id": 90, "bbox": [10, 5, 20, 20], "score": 0.75},
]
RULES = {"kind": "after_nms", "categories": [3, 90]}


def columns(*parts: np.ndarray) -> np.ndarray:
    """One table [1, N, ...] of parallel arrays."""
    return np.hstack([np.float32(part).reshape(len(part), -1) for part in parts])[None]


def test_mmdeploy(decode) -> None:
    """dets [1, N, 5] and labels."""
    assert decode({"dets": columns(BOXES, SCORES), "labels": LABELS[None]}, IMAGE, **RULES) == FOUND


def test_efficient_nms(decode) -> None:
    """The rows behind the count hold anything; integers are labels, whatever outputs are called."""
    outputs = {
        "a": np.array([[2]], np.int32),
        "b": BOXES[None],
        "c": np.float32([[0.75, 0.5, 0.9]]),
        "d": np.array([[1, 0, 99]], np.int32),
    }
    assert decode(outputs, IMAGE, **RULES) == FOUND
    outputs["a"][:] = 4
    with pytest.raises(Failure, match=r"'a\.jpg': the count of rows is 4, and there are 3; correct decode\.tensors"):
        decode(outputs, IMAGE, **RULES)


def test_tf_object_detection(decode) -> None:
    """y before x in fractions of the canvas, classes from 1; all are floats, so that names tell scores from classes."""
    outputs = {
        "num_detections": np.float32([2]),
        "detection_boxes": BOXES[None][:, :, [1, 0, 3, 2]] / 200,
        "detection_scores": SCORES[None],
        "detection_classes": np.float32([[2, 1, 1]]),
    }
    found = decode(outputs, IMAGE, **RULES, box="yxyx", coordinates="normalised", labels_from=1)
    np.testing.assert_allclose([row["bbox"] for row in found], [row["bbox"] for row in FOUND], rtol=1e-5)
    assert [row["category_id"] for row in found] == [3, 90]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["box", "score", "label"], (BOXES, SCORES, LABELS)),
        (["label", "score", "box"], (LABELS, SCORES, BOXES)),
        (["batch", "box", "label", "score"], (0 * SCORES, BOXES, LABELS, SCORES)),
        (["batch", "box", "score", "label"], (0 * SCORES, BOXES, SCORES, LABELS)),
        (["batch", "label", "score", "box"], (0 * SCORES, LABELS, SCORES, BOXES)),
        (["box", "score", 2, "label"], (BOXES, SCORES, BOXES[:, :2], LABELS)),
    ],
)
def test_one_matrix(decode, names: list, parts: tuple) -> None:
    """Six columns come in two orders, seven in three: the yaml must say which."""
    table = columns(*parts)
    assert decode({"output0": table}, IMAGE, **RULES, columns=names) == FOUND
    with pytest.raises(UsageError, match=r"decode\.columns.*declared are output0 \[3, \d\]"):
        decode({"output0": table}, IMAGE, **RULES)


def test_the_first_row_of_no_image_ends_the_list(decode) -> None:
    batch = np.float32([0, -1, 0])
    rows = decode(
        {"o": columns(batch, LABELS, SCORES, BOXES)}, IMAGE, **RULES, columns=["batch", "label", "score", "box"]
    )
    assert rows == FOUND[1:]
    with pytest.raises(Failure, match=r"'a\.jpg': row 2 of the outputs is of image 1, not 0"):
        decode(
            {"o": columns([0, 0, 1], LABELS, SCORES, BOXES)}, IMAGE, **RULES, columns=["batch", "label", "score", "box"]
        )


@pytest.mark.parametrize("form", ["xywh", "cxcywh"])
def test_corner_or_centre_and_sides(decode, form: str) -> None:
    sides = BOXES[:, 2:] - BOXES[:, :2]
    place = BOXES[:, :2] if form == "xywh" else BOXES[:, :2] + sides / 2
    assert decode({"o": np.hstack([place, sides]), "s": SCORES, "l": LABELS}, IMAGE, **RULES, box=form) == FOUND


def test_boxes_of_a_graph_that_knows_the_size_of_the_image(decode) -> None:
    """RT-DETR: labels, boxes and scores, with orig_target_sizes as a second input."""
    original = (BOXES - [0, 50, 0, 50]) / 2
    outputs = {"labels": LABELS[None], "boxes": np.float32(original)[None], "scores": SCORES[None]}
    assert decode(outputs, IMAGE, **RULES, coordinates="original") == FOUND


def test_triples_of_non_max_suppression(decode) -> None:
    """YOLOv3 of the ONNX zoo: all boxes, scores by class, and which of them are detections; -1 is padding."""
    outputs = {
        "boxes": BOXES[None],
        "scores": np.float32([[[0.1, 0.5, 0.2], [0.75, 0.3, 0.6]]]),
        "indices": np.array([[0, 0, 1], [0, 1, 0], [-1, -1, -1]], np.int32),
    }
    assert decode(outputs, IMAGE, **RULES) == FOUND
    outputs["indices"][2] = [0, 2, 0]
    with pytest.raises(Failure, match=r"'a\.jpg': row 2 of the indices is \[0, 2, 0\]; there are 1 image, 2 classes"):
        decode(outputs, IMAGE, **RULES)


def test_rows_for_which_nms_is_still_to_do(decode) -> None:
    """DeepStream's form of YOLO: a row for every cell with its best class."""
    boxes = np.float32([[0, 50, 40, 90], [0, 50, 40, 88], [0, 50, 40, 86]])
    table = columns(boxes, [0.5, 0.75, 0.625], [0, 0, 1])
    rules = RULES | {"columns": ["box", "score", "label"], "nms": "hard", "nms_iou": 0.5}
    assert [(row["category_id"], row["score"]) for row in decode({"o": table}, IMAGE, **rules)] == [
        (3, 0.75),
        (90, 0.625),
    ]
    assert [row["score"] for row in decode({"o": table}, IMAGE, **rules, agnostic=True)] == [0.75]
    assert [row["score"] for row in decode({"o": table}, IMAGE, **rules, max_detections=1)] == [0.75]


def test_masks_that_fill_their_boxes(decode) -> None:
    """torchvision's and RetinaMask's form; the other outputs are found beside it."""
    outputs = {"boxes": BOXES, "labels": LABELS, "scores": SCORES, "masks": np.ones((3, 1, 4, 4), np.float32)}
    rows = decode(outputs, IMAGE, **RULES, masks={"form": "boxes", "threshold": 0.5})
    assert [{key: row[key] for key in FOUND[0]} for row in rows] == FOUND
    assert [row["segmentation"]["size"] for row in rows] == [[50, 100]] * 2
    assert (
        decode(outputs, IMAGE, **RULES, masks={"form": "boxes", "threshold": 0.5}, tensors={"masks": "masks"}) == rows
    )


def test_two_floats_of_foreign_names_are_not_guessed(decode) -> None:
    outputs = {"a": BOXES, "b": SCORES, "c": np.float32(LABELS)}
    with pytest.raises(
        UsageError, match=r"more than one way to read .*: \{boxes: a, scores: b, labels: c\}; or \{boxes: a"
    ):
        decode(outputs, IMAGE, **RULES)
    assert decode(outputs, IMAGE, **RULES, tensors={"scores": "b", "labels": "c"}) == FOUND
    with pytest.raises(UsageError, match=r"decode\.tensors\.scores: no output is called 'x'; there are a \[3, 4\]"):
        decode(outputs, IMAGE, **RULES, tensors={"scores": "x"})


@pytest.mark.parametrize("wrong", [7.0, np.nan, np.inf])
def test_scores_that_are_none_are_named(decode, wrong: float) -> None:
    """A column of pixels read as scores must not become an accuracy."""
    scores = SCORES.copy()
    scores[1] = wrong
    with pytest.raises(Failure, match=rf"'a\.jpg': row 1 of the outputs scores {wrong:g}, which is no score"):
        decode({"dets": columns(BOXES, scores), "labels": LABELS}, IMAGE, **RULES)


def test_a_box_that_is_none_is_named(decode) -> None:
    boxes = BOXES.copy()
    boxes[1, 2] = np.inf
    with pytest.raises(Failure, match=r"'a\.jpg': row 1 of the boxes becomes the box \[100\.0, 70\.0, inf, 130\.0\]"):
        decode({"dets": columns(boxes, SCORES), "labels": LABELS}, IMAGE, **RULES)


def labelled(label: float) -> dict[str, np.ndarray]:
    """Two detections, the second with this label."""
    return {"dets": columns(BOXES[:2], SCORES[:2]), "labels": np.array([1, label])}


@pytest.mark.parametrize(
    ("background", "labels_from", "label", "first", "last"),
    [
        ("none", 0, 2, 0, 1),
        ("none", 0, -1, 0, 1),
        ("none", 0, 0.5, 0, 1),
        ("none", 1, 0, 1, 2),
        ("last", 0, 3, 0, 2),
        ("first", 0, 80, 0, 2),
    ],
)
def test_a_label_that_no_class_has_is_a_failure(decode, background, labels_from, label, first, last) -> None:
    """One category too few, or labels from 1 read as from 0, would else cost a little accuracy and nothing more."""
    message = rf"'a\.jpg': row 1 of the outputs has the label {label:g}; by .* there are {first} to {last}\."
    with pytest.raises(Failure, match=message):
        decode(labelled(label), IMAGE, **RULES, background=background, labels_from=labels_from)


@pytest.mark.parametrize(
    ("background", "label", "expected"),
    [
        ("none", 0, [3, 90]),
        ("last", 2, [90]),  # the label behind the last category
        ("first", 2, [3, 90]),  # labels from 1
        ("first", 0, [3]),
    ],
)
def test_what_the_background_does_to_labels(decode, background: str, label: int, expected: list[int]) -> None:
    rows = decode(labelled(label), IMAGE, **RULES, background=background)
    assert [row["category_id"] for row in rows] == expected


def test_a_class_without_a_category_takes_no_part(decode) -> None:
    rules = RULES | {"categories": [3, None, 90], "nms": "hard", "nms_iou": 0.5, "max_detections": 1}
    assert [row["category_id"] for row in decode(labelled(2), IMAGE, **rules)] == [90]


def test_boxes_are_divided_in_float32(decode) -> None:
    """The precision of the published evaluations; then x + w gives the corner back."""
    dets = np.float32([[10.1, 20.3, 40.7, 80.9, 0.6]])
    entry = {"image_id": 7, "file": "a.jpg", "scale": 1.6}
    (row,) = decode({"dets": dets, "labels": np.array([1])}, entry, **RULES, clip="none")
    x1, y1, x2, y2 = (float(value / np.float32(1.6)) for value in dets[0, :4])
    assert row["bbox"] == [x1, y1, x2 - x1, y2 - y1]


def test_nothing_found(decode) -> None:
    outputs = {"dets": np.zeros((100, 5), np.float32), "labels": np.zeros(100, np.int64)}
    assert decode(outputs, IMAGE, **RULES) == []
    assert decode(outputs, IMAGE, **RULES, nms="hard", nms_iou=0.5) == []
