"""The preview: what a model sees in a few images, with ground truth and without."""

import json
import shutil

import pytest
import yaml

import index_dataset
import pages
import preview
from detport import config, datasets
from detport.errors import Failure
from detport.page import ground

DEMO = config.ROOT / "demo"
IMAGES = 8
SETTINGS = {"kind": "coco", "iou_types": ["bbox"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few of the demo's images, with their annotations and as a folder, and the demo's YOLO-style detector."""
    place = tmp_path_factory.mktemp("preview")
    truth = json.loads((DEMO / "data" / "annotations" / "instances.json").read_text())
    truth["images"] = truth["images"][:IMAGES]
    kept = {image["id"] for image in truth["images"]}
    truth["annotations"] = [each for each in truth["annotations"] if each["image_id"] in kept]
    (place / "truth.json").write_text(json.dumps(truth))
    for image in truth["images"]:
        path = place / "images" / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        shutil.copy(DEMO / "data" / "images" / path.name, path)
    images = {"images": str(place / "images")}
    known = {"shapes": {"kind": "coco", "annotations": str(place / "truth.json")}, "photos": {"kind": "folder"}}
    settings = {"models": ["m"], "datasets": {name: dataset | images for name, dataset in known.items()}}
    (place / "config.yaml").write_text(json.dumps(settings))
    for name in known:
        flags = ["--dataset-config", str(place / "config.yaml"), "--dataset", name]
        index_dataset.main([*flags, "--output", str(place / f"{name}.tsv")])
    return place


def page(folder, dataset: str, *flags: str, **changes: object) -> tuple[str, dict]:
    """The text of a preview and its gallery, of the demo's model with other outputs, or other keys of decode."""
    model = yaml.safe_load((DEMO / "config" / "models" / "yolo.yaml").read_text())
    model["outputs"] = changes.pop("outputs", model["outputs"])
    model["decode"] |= changes
    (folder / "m.yaml").write_text(yaml.safe_dump(model))
    files = {"model": folder / "m.yaml", "backend": config.ROOT / "config" / "backends" / "onnxruntime.yaml"}
    files |= {"index": folder / f"{dataset}.tsv", "dataset-config": folder / "config.yaml"}
    files |= {"compiled": DEMO / "weights" / "yolo.onnx", "output": folder / "preview.html"}
    options = [word for key, path in files.items() for word in (f"--{key}", str(path))]
    preview.main([*options, "--dataset", dataset, "--count", "3", *flags])
    text = (folder / "preview.html").read_text(encoding="utf-8")
    return text, pages.gallery_in(text)


def test_with_ground_truth_detections_are_judged(folder, capsys):
    text, found = page(folder, "shapes")
    assert len(found["pictures"]) == text.count("<img ") == 3
    assert found["judged"] and any(picture["objects"] for picture in found["pictures"])
    assert found["classes"][:2] == ["disc", "square"]
    shown = [row for picture in found["pictures"] for row in picture["rows"][0]]
    seen = sum(row[1] >= 0.3 for row in shown)
    said = f"{folder / 'preview.html'}: 3 images, {seen} detections with a score of 0.3 or more"
    assert seen > 0 and capsys.readouterr().out.splitlines() == [said]


def test_images_alone_show_what_the_model_sees(folder):
    text, found = page(folder, "photos", "--images", "none")
    assert not found["judged"] and found["classes"][0] == "disc"
    assert "<img " not in text and 'name="truth"' not in text
    assert [picture["objects"] for picture in found["pictures"]] == [[], [], []]


def test_the_seed_says_which_images_again_and_again(folder):
    names = [
        [picture["name"] for picture in page(folder, "photos", "--seed", seed)[1]["pictures"]]
        for seed in ("0", "0", "1")
    ]
    assert names[0] == names[1] != names[2]


def test_a_model_that_sees_nothing_is_told_where_to_ask(folder, capsys):
    _, found = page(folder, "shapes", score_above=0.9999)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "nothing above score 0.3 on any image (there is no detection at all): see docs/adding-a-model.md"
    assert [picture["rows"] for picture in found["pictures"]] == [[[]]] * 3


def test_classes_that_the_dataset_lacks_are_shown_under_their_own_names(folder):
    """Nobody has checked whether the classes fit: that is what one looks for."""
    _, found = page(folder, "shapes", categories=[999, "square", "moon", "star", "ring", "cross", "crescent"])
    assert {"999", "moon"} <= set(found["classes"])
    named = {found["classes"][row[0]] for picture in found["pictures"] for row in picture["rows"][0]}
    assert named & {"999", "moon"}


def test_outputs_that_are_not_the_models_are_refused(folder):
    declared = [{"name": "output0", "shape": [1, 11, 1343], "dtype": "float32"}]
    with pytest.raises(Failure, match=r"jpg': output output0 is float32 \[1, 11, 1344\]; the model's yaml declares"):
        page(folder, "shapes", outputs=declared)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("coco80", ["person", "bicycle", "car"]),
        ("coco91", ["person", "bicycle", "car"]),
        ([1, 3, None], ["1", "3"]),
        (["cat", "dog"], ["cat", "dog"]),
    ],
)
def test_names_of_classes_where_no_ground_truth_says_them(declared, expected):
    found = ground.alone([], SETTINGS, declared)
    assert found.classes[: len(expected)] == expected
    assert len(found.ids) == (80 if ground.is_coco(declared) else len(expected))


def test_names_of_voc_are_the_metrics():
    found = ground.alone([], {"kind": "voc", "classes": ["aeroplane", "bicycle"]}, [1, 2])
    assert found.classes == ["aeroplane", "bicycle"]


def test_names_of_coco_are_in_the_order_of_its_ids():
    listed = json.loads((config.ROOT / "tests/golden/data/gfocalv2/annotations.json").read_text())["categories"]
    assert [each["name"] for each in listed] == ground.COCO
    assert [each["id"] for each in listed] == ground.alone([], SETTINGS, "coco80").ids
    assert datasets.load("folder").truth({}, []) is None
