"""COCO metric: two evaluators agree on every number; areas of mask detections; refusals."""

import json
from pathlib import Path

import hotcoco
import numpy as np
import pytest

from detport import masks
from detport.datasets import coco as dataset
from detport.errors import Failure, UsageError
from detport.metrics import coco

SETTINGS = {"kind": "coco", "iou_types": ["bbox", "segm"], "max_detections": [1, 10, 100], "mask_area": "bbox"}
SIDE = 160


def scene(seed: int, images: int = 12, categories: tuple[int, ...] = (1, 4, 9)) -> tuple[dict, list[dict]]:
    """Random ground truth with crowds, gaps and empty images, and detections near it."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"class {c}"} for c in categories]}
    rows = []
    for image_id in range(1, images + 1):
        truth["images"].append({"id": image_id, "file_name": f"{image_id}.jpg", "width": SIDE, "height": SIDE})
        for _ in range(rng.integers(0, 6)):
            x, y = rng.integers(0, SIDE - 60, 2)
            w, h = rng.integers(4, 60, 2)
            category = int(rng.choice(categories))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [int(x), int(y), int(w), int(h)],
                    "area": int(w * h),
                    "iscrowd": int(rng.random() < 0.15),
                    "segmentation": ellipse(x, y, w, h),
                }
            )
            for _ in range(rng.integers(0, 3)):
                dx, dy, dw, dh = rng.normal(0, 4, 4)
                rows.append(detection(image_id, category, x + dx, y + dy, max(w + dw, 1), max(h + dh, 1), rng))
        for _ in range(rng.integers(0, 4)):
            x, y = rng.integers(0, SIDE - 60, 2)
            rows.append(detection(image_id, int(rng.choice(categories)), x, y, *rng.integers(4, 60, 2), rng))
    return truth, rows


def ellipse(x: float, y: float, w: float, h: float) -> dict:
    columns, lines = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((lines - y - h / 2) / (h / 2)) ** 2 <= 1
    return masks.encode(inside.astype(np.uint8))


def detection(image_id: int, category: int, x: float, y: float, w: float, h: float, rng) -> dict:
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [float(x), float(y), float(w), float(h)],
        "score": round(float(rng.random()), 2),  # ties are frequent
        "segmentation": ellipse(x, y, w, h),
    }


def written(tmp_path: Path, truth: object) -> Path:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(truth))
    return path


def read(tmp_path: Path, truth: dict) -> dict:
    """As evaluate.py has it from the file."""
    return dataset.read(written(tmp_path, truth))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mask_area", ["bbox", "mask"])
@pytest.mark.parametrize("max_detections", [[1, 10, 100], [100, 300, 1000], [1, 2, 3]])
def test_pycocotools_agrees_on_every_number(tmp_path, seed, mask_area, max_detections):
    truth, rows = scene(seed)
    settings = SETTINGS | {"mask_area": mask_area, "max_detections": max_detections}
    some = [image["id"] for image in truth["images"][: 12 - seed]]
    figures = coco.evaluate(read(tmp_path, truth), some, rows, settings, cross_check=True)
    assert len(figures["bbox"]) == 13
    assert 0 < figures["bbox"]["AP"] < 1


def test_disagreement_is_a_failure(tmp_path, monkeypatch):
    truth, rows = scene(0)
    skewed = {"bbox": {"AP": 0.1, "per_class": {}}}
    monkeypatch.setattr(
        coco, "score", lambda library, *_: {"bbox": {"AP": 0.2, "per_class": {}}} if library is hotcoco else skewed
    )
    with pytest.raises(Failure, match=r"bbox AP: hotcoco says 0\.2, pycocotools 0\.1"):
        coco.evaluate(read(tmp_path, truth), [1], rows, SETTINGS, cross_check=True)


def test_area_of_mask_detections_touches_only_the_sizes(tmp_path):
    truth, rows = scene(3)
    found, ids = read(tmp_path, truth), [image["id"] for image in truth["images"]]
    by_box = coco.evaluate(found, ids, rows, SETTINGS, cross_check=False)["segm"]
    by_mask = coco.evaluate(found, ids, rows, SETTINGS | {"mask_area": "mask"}, cross_check=False)["segm"]
    changed = {name for name in by_box if by_box[name] != by_mask[name]}
    assert changed
    assert changed <= {"APs", "APm", "APl", "ARs", "ARm", "ARl"}


def test_no_detection_at_all_is_zero(tmp_path):
    truth, _ = scene(1)
    ids = [image["id"] for image in truth["images"]]
    figures = coco.evaluate(read(tmp_path, truth), ids, [], SETTINGS, cross_check=True)
    assert figures["bbox"]["AP"] == figures["segm"]["AR100"] == 0


def test_only_the_given_images_count(tmp_path):
    truth, rows = scene(2)
    found, ids = read(tmp_path, truth), [image["id"] for image in truth["images"]]
    some = coco.evaluate(found, ids[:6], [row for row in rows if row["image_id"] in ids[:6]], SETTINGS, False)
    every = coco.evaluate(found, ids, [row for row in rows if row["image_id"] in ids[:6]], SETTINGS, False)
    assert some["bbox"]["AP"] > every["bbox"]["AP"]


def test_unknown_category_is_refused(tmp_path):
    truth, rows = scene(0)
    rows[0]["category_id"] = 77
    with pytest.raises(UsageError, match="category 77, which it does not list"):
        coco.evaluate(read(tmp_path, truth), [1], rows, SETTINGS, cross_check=False)


def test_categories_of_one_name_are_told_apart(tmp_path):
    """Each keeps its own figure; under the bare name one would hide the other."""
    truth, rows = scene(0)
    for category, name in zip(truth["categories"], ("fish", "fish", "fish (id 4)"), strict=True):
        category["name"] = name
    figures = coco.evaluate(read(tmp_path, truth), list(range(1, 13)), rows, SETTINGS, cross_check=True)["bbox"]
    assert list(figures["per_class"]) == ["fish (id 1)", "fish (id 4) (id 4)", "fish (id 4) (id 9)"]
    assert len(set(figures["per_class"].values())) == 3


def test_a_note_says_by_which_area_masks_are_sorted():
    assert "by the area of their box" in coco.notes({"bbox": {}, "segm": {}}, {"mask_area": "bbox"})[0]
    assert coco.notes({"bbox": {}}, {"mask_area": "bbox"}) == coco.notes({"segm": {}}, {"mask_area": "mask"}) == []


def test_images_without_annotation_or_too_small_are_left_out_on_request(tmp_path):
    truth = {
        "images": [
            {"id": 1, "file_name": "1.jpg", "width": 64, "height": 32},
            {"id": 2, "file_name": "2.jpg", "width": 64, "height": 31},
            {"id": 3, "file_name": "3.jpg", "width": 64, "height": 64},
            {"id": 4, "file_name": "4.jpg", "width": 64, "height": 64},
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": int(i == 4)}
            for i in (1, 2, 4)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    found, ids = read(tmp_path, truth), [4, 3, 2, 1]
    assert coco.counted(found, ids, {"images": "all"}) == ids
    assert coco.counted(found, ids, {"images": "annotated"}) == [4, 1]
    with pytest.raises(UsageError, match=r"metric\.images: annotated leaves nothing"):
        coco.counted(found, [3], {"images": "annotated"})


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda t: t.pop("images"), "'images' is missing"),
        (lambda t: t["images"].clear(), "lists no images"),
        (lambda t: t["images"].append(t["images"][0]), "is there twice"),
        (lambda t: t["images"][1].pop("file_name"), r"images\[1\]\.file_name"),
        (lambda t: t["images"][1].update(width="640"), r"images\[1\]\.width: expected a whole number, found '640'"),
        (lambda t: t["annotations"][0].pop("bbox"), r"annotations\[0\]\.bbox"),
        (lambda t: t["categories"].append(3), r"categories\[3\] is not an object"),
    ],
)
def test_broken_annotations_are_refused(tmp_path, edit, expected):
    truth, _ = scene(0)
    edit(truth)
    with pytest.raises(UsageError, match=expected):
        dataset.read(written(tmp_path, truth))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "<html>"])
def test_what_is_no_annotation_file_is_refused(tmp_path, text):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"instances\.json"):
        dataset.read(path)
