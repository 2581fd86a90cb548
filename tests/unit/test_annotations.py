"""Bad annotations are named by their place in the file; what is tolerated scores the same in both evaluators."""

import copy
import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from pycocotools import mask as coco_mask

from detport import masks
from detport.datasets import annotations, coco
from detport.errors import UsageError
from detport.metrics import coco as metric

SETTINGS = {
    "kind": "coco",
    "iou_types": ["bbox", "segm"],
    "max_detections": [1, 10, 100],
    "mask_area": "bbox",
    "images": "all",
}
SQUARE = np.zeros((30, 40), np.uint8)
SQUARE[2:12, 2:12] = 1
ROWS = [{"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "score": 0.9, "segmentation": masks.encode(SQUARE)}]
NAN = float("nan")


def truth(**changes) -> dict:
    """Two images, one object; the object's keys can be changed, ... takes one away."""
    found = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
    found |= {"segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]} | changes
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in (1, 2)],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{key: value for key, value in found.items() if value is not ...}],
    }


def evaluate(folder: Path, content: dict) -> dict:
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return metric.evaluate(coco.read(path), [1, 2], ROWS, SETTINGS, cross_check=True)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"image_id": 99}, "image_id: there is no image 99"),
        ({"category_id": 99}, "category_id: there is no category 99"),
        ({"bbox": [2, 2, -10, 10]}, "bbox"),
        ({"bbox": [1, 2]}, "bbox"),
        ({"bbox": ["2", 2, 10, 10]}, "bbox"),
        ({"bbox": [NAN, 2, 10, 10]}, "bbox"),
        ({"bbox": [float("inf"), 2, 10, 10]}, "bbox"),
        ({"bbox": [10**400, 2, 10, 10]}, "bbox"),
        ({"bbox": [True, 2, 10, 10]}, "bbox"),
        ({"area": "x"}, "area"),
        ({"area": -1}, "area"),
        ({"iscrowd": 2}, "iscrowd"),
        ({"segmentation": ...}, "segmentation"),
        ({"segmentation": []}, "segmentation: holds no polygon"),
        ({"segmentation": [[]]}, "segmentation"),
        ({"segmentation": [[1, 2, 3, 4]]}, "segmentation"),
        ({"segmentation": [[2, 2, 12, 2, 12, 12, 2]]}, "segmentation"),
        ({"segmentation": [["a"] * 6]}, "segmentation"),
        ({"segmentation": [[NAN] * 6]}, "segmentation"),
        ({"segmentation": [[1e9] * 6]}, "segmentation"),
        ({"segmentation": {"size": [10, 10], "counts": [100]}}, "segmentation: size"),
        ({"segmentation": {"size": [30, 40], "counts": [5, 10]}}, "segmentation: counts add up to 15"),
        ({"segmentation": {"size": [30, 40], "counts": [-5, 1205]}}, "segmentation: counts"),
        ({"segmentation": {"size": [30.0, 40.0], "counts": [1200]}}, "segmentation: size"),
        ({"segmentation": {"size": [30, 40], "counts": [10**4000] * 20}}, "segmentation: counts"),
        ({"segmentation": {"size": [30, 40], "counts": [True, 1199]}}, "segmentation: counts"),
        ({"segmentation": {"size": [30, 40], "counts": "o" * 10**6}}, "segmentation: counts"),
        ({"image_id": 10**4000}, "image_id: 1000"),
        ({"image_id": ...}, "image_id: expected a whole number or text, found None"),
        ({"image_id": 1.5}, "image_id: expected a whole number or text, found 1.5"),
        ({"image_id": True}, "image_id: expected a whole number or text, found True"),
        ({"image_id": "\ud800"}, "image_id: expected a whole number or text"),
        ({"category_id": -1}, "category_id: -1; expected 0 to"),
        ({"category_id": "y"}, "category_id: there is no category 'y'"),
        ({"segmentation": {"size": [30, 40], "counts": "\x00"}}, "segmentation: counts"),
        ({"segmentation": {"size": [30, 40], "counts": "o"}}, "segmentation: counts"),
        ({"segmentation": {"size": [30, 40]}}, "segmentation: counts"),
    ],
)
def test_a_bad_annotation_is_one_line(tmp_path, changes, key):
    with pytest.raises(UsageError) as error:
        evaluate(tmp_path, truth(**changes))
    assert f"truth.json: annotations[0].{key}" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("changes", "ap"),
    [
        ({"bbox": [100, 100, 10, 10]}, 0.0),
        ({"bbox": [-5, -5, 12, 12]}, 0.0),
        ({"bbox": [2, 2, 0, 0]}, 0.0),
        ({"segmentation": [[-50, 2, 12, 2, 12, 12, -50, 12]]}, 1.0),
        ({"iscrowd": 1, "segmentation": masks.encode(SQUARE)}, -1.0),
    ],
    ids=["outside", "over the edge", "no area", "polygon over the edge", "crowd"],
)
def test_what_is_tolerated(tmp_path, changes, ap):
    assert evaluate(tmp_path, truth(**changes))["bbox"]["AP"] == pytest.approx(ap)


def test_images_without_annotations_are_scored(tmp_path):
    assert evaluate(tmp_path, truth() | {"annotations": []})["bbox"]["AP"] == -1


@pytest.mark.parametrize(
    ("section", "change", "expected"),
    [
        ("images", {"width": 0}, "images[0]: is 0x30 pixels"),
        ("images", {"width": 10**30}, "images[0]: is 1000000000000000000000000000000x30 pixels"),
        ("images", {"height": 65536}, "images[0]: is 40x65536 pixels"),
        ("images", {"width": 40.5}, "images[0].width: expected a whole number, found 40.5"),
        ("images", {"id": -1}, "images[0].id: -1; expected 0 to 9007199254740992"),
        ("images", {"id": 10**25}, "images[0].id: 10000000000000000000000000; expected 0 to"),
        ("categories", {"id": -1}, "categories[0].id"),
        ("categories", {"id": 2**70}, "categories[0].id"),
        ("images", {"id": 2}, "images[1].id: 2 is there twice"),
        ("images", {"file_name": "2.jpg"}, "images[1].file_name: '2.jpg' is there twice"),
        ("images", {"file_name": "a\0b"}, "images[0].file_name"),
        ("images", {"file_name": "\ud800.jpg"}, "images[0].file_name"),
        ("images", {"file_name": ""}, "images[0].file_name"),
        ("images", {"id": "2"}, "images[1].id: 2 is there twice"),
        ("annotations", {"bbox": None}, "annotations[0].bbox: expected list"),
    ],
)
def test_bad_images_and_types_are_named(tmp_path, section, change, expected):
    content = copy.deepcopy(truth())
    content[section][0] |= change
    with pytest.raises(UsageError) as error:
        evaluate(tmp_path, content)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "{}",
        '{"images": []}',
        "[" * 100_000,
        "1" * 10_000,
        '{"images": [], "annotations": [], "categories": []}',
        "\ud800".encode("utf-16-le", "surrogatepass").decode("latin-1"),
    ],
)
def test_files_that_are_no_annotations(tmp_path, content):
    path = tmp_path / "truth.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"truth\.json"):
        coco.read(path)


@pytest.mark.parametrize("identity", [0, 2**53])
def test_the_ends_of_the_ids_are_scored(tmp_path, identity):
    content = copy.deepcopy(truth(image_id=identity, category_id=identity))
    content["images"][0]["id"] = content["categories"][0]["id"] = identity
    (tmp_path / "truth.json").write_text(json.dumps(content))
    rows = [ROWS[0] | {"image_id": identity, "category_id": identity}]
    found = metric.evaluate(coco.read(tmp_path / "truth.json"), [identity, 2], rows, SETTINGS, cross_check=True)
    assert found["segm"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("iou_types", [["bbox", "segm"], ["bbox"]])
def test_masks_are_checked_before_inference_where_they_are_scored(tmp_path, iou_types):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth(segmentation=[[1, 2]])))
    assert len(coco.index_rows({"annotations": path, "images": tmp_path})) == 2
    settings = SETTINGS | {"iou_types": iou_types}
    if "segm" in iou_types:
        with pytest.raises(UsageError, match=r"annotations\[0\]\.segmentation"):
            metric.check(coco.read(path), [1, 2], [], settings)
    else:
        metric.check(coco.read(path), [1, 2], [], settings)


@hypothesis.given(strategies.lists(strategies.booleans(), min_size=12, max_size=12))
def test_runs_are_read_as_pycocotools_writes_them(pixels):
    mask = np.array(pixels, np.uint8).reshape(3, 4)
    encoded = masks.encode(mask)
    counts = annotations.decoded(encoded["counts"])
    assert sum(counts) == 12
    assert annotations.runs_problem(encoded, [3, 4]) is None
    plain = coco_mask.frPyObjects({"size": [3, 4], "counts": counts}, 3, 4)
    assert coco_mask.area(plain) == mask.sum()


def test_long_runs():
    mask = np.zeros((1000, 700), np.uint8)
    mask[100:900, 3:650] = 1
    assert annotations.runs_problem(masks.encode(mask), [1000, 700]) is None
