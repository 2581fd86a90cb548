"""The doctor: mistakes put into the yaml of the demo's YOLO-style detector are found again."""

import json
import shutil

import pytest

import doctor
import index_dataset
from detport import config, diagnosis, suspects
from detport.diagnosis import Trial

DEMO = config.ROOT / "demo"
IMAGES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with a few of the demo's images, and their index."""
    place = tmp_path_factory.mktemp("doctor")
    truth = json.loads((DEMO / "data" / "annotations" / "instances.json").read_text())
    truth["images"] = truth["images"][:IMAGES]
    kept = {image["id"] for image in truth["images"]}
    truth["annotations"] = [each for each in truth["annotations"] if each["image_id"] in kept]
    (place / "truth.json").write_text(json.dumps(truth))
    dataset = {"kind": "coco", "images": str(DEMO / "data" / "images"), "annotations": str(place / "truth.json")}
    (place / "config.yaml").write_text(json.dumps({"models": ["m"], "datasets": {"shapes": dataset}}))
    index_dataset.main(
        ["--dataset-config", str(place / "config.yaml"), "--dataset", "shapes", "--output", str(place / "index.tsv")]
    )
    shutil.copy(DEMO / "weights" / "yolo.onnx", place / "m.onnx")
    return place


def diagnosed(folder, *edits: tuple[str, str]) -> str:
    """doctor.txt of the demo's yaml with edits."""
    text = (DEMO / "config" / "models" / "yolo.yaml").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (folder / "m.yaml").write_text(text)
    files = {"model": "m.yaml", "index": "index.tsv", "dataset-config": "config.yaml", "onnx": "m.onnx"}
    options = [word for key, name in files.items() for word in (f"--{key}", str(folder / name))]
    doctor.main([*options, "--dataset", "shapes", "--output", str(folder / "doctor.txt")])
    return (folder / "doctor.txt").read_text()


def test_nothing_to_find(folder):
    first, *lines = diagnosed(folder).split("\n")
    assert first.startswith("m: your yaml gives AP 0.") and first.endswith("; nothing tried is better")
    assert any("preprocess.channels: BGR" in line for line in lines)
    assert any("the yaml as it is" in line for line in lines)


@pytest.mark.parametrize(
    ("edits", "found"),
    [
        ([("divide_by: 255", "divide_by: 1")], "with preprocess.divide_by: 255 0."),
        (
            [("divide_by: 255", "divide_by: 1"), ("box: cxcywh", "box: xywh")],
            "with preprocess.divide_by: 255, decode.box: cxcywh 0.",
        ),
        (
            [("objectness: false", "objectness: false\n  coordinates: normalised")],
            "with decode.coordinates: pixels 0.",
        ),
    ],
    ids=["scale", "two", "coordinates"],
)
def test_mistakes_are_found(folder, edits, found):
    first = diagnosed(folder, *edits).split("\n")[0]
    assert first.startswith("m: your yaml gives AP 0.0") and found in first


def test_classes_one_place_too_late(folder):
    """Classes by name, all one place too late."""
    categories = "[disc, square, triangle, star, ring, cross, crescent]"
    text = diagnosed(folder, (categories, "[nothing, disc, square, triangle, star, ring, cross]"))
    assert "decode.categories: [disc, square, triangle, star, ring, cross, null]" in text.split("\n")[0]


def test_without_ground_truth_it_cannot_tell(folder):
    dataset = {"kind": "folder", "images": str(DEMO / "data" / "images")}
    (folder / "alone.yaml").write_text(json.dumps({"models": ["m"], "datasets": {"shapes": dataset}}))
    files = {"model": "m.yaml", "index": "index.tsv", "dataset-config": "alone.yaml", "onnx": "m.onnx"}
    options = [word for key, name in files.items() for word in (f"--{key}", str(folder / name))]
    with pytest.raises(doctor.UsageError, match="dataset shapes has no ground truth"):
        doctor.main([*options, "--dataset", "shapes", "--output", str(folder / "none.txt")])


def test_images_that_cannot_be_read_are_left_out(folder, caplog):
    rows = [{"image_id": i, "file": f"{i}.jpg", "width": 9, "height": 9} for i in (1, 2)]
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [{"image_id": 1, "category_id": 1, "iscrowd": 0}]}
    assert doctor.few(rows, truth, folder) == ([], {"images": [], "annotations": []})
    assert "bad image '1.jpg': no such file" in caplog.text and "2.jpg" not in caplog.text, "nothing is in that one"


def test_the_simplest_of_equally_good_trials_is_advised():
    better = Trial({("preprocess", "channels"): "BGR", ("preprocess", "fill"): 0}, 0.309)
    simple = Trial({("preprocess", "channels"): "BGR"}, 0.305)
    own = Trial({}, 0.01)
    assert (
        diagnosis.verdict(own, [better, simple], 0.01)
        == "your yaml gives AP 0.010; with preprocess.channels: BGR 0.305"
    )
    failed = Trial({}, None, "row 3 scores 7")
    assert diagnosis.verdict(failed, [simple], 0.01).startswith(
        "your yaml gives no figure; with preprocess.channels: BGR"
    )
    assert diagnosis.verdict(own, [], 0.01).endswith(diagnosis.LEFT)


def test_colours_are_swapped_with_their_numbers():
    settings = {"channels": "RGB", "mean": [1, 2, 3], "std": [4, 4, 4], "fill": [7, 8, 9], "divide_by": 1}
    settings |= {"resize": {"rule": "stretch", "library": "opencv", "interpolation": "linear"}, "place": "top_left"}
    model = {"input": {"dtype": "float32"}, "preprocess": settings}
    swapped, *others = suspects.of_preprocessing(model)
    assert swapped == {
        ("preprocess", "channels"): "BGR",
        ("preprocess", "mean"): [3, 2, 1],
        ("preprocess", "fill"): [9, 8, 7],
    }
    assert {
        ("preprocess", "divide_by"): 255,
        ("preprocess", "mean"): [0, 0, 0],
        ("preprocess", "std"): [1, 1, 1],
    } in others


def test_strides_and_anchors_in_another_order():
    options = {"kind": "cells", "categories": [1], "strides": [8, 16], "anchors": [[[1, 1]], [[2, 2]]], "nms": "hard"}
    found = list(suspects.of_decoding({"decode": options}))
    turned = {("decode", "strides"): [16, 8], ("decode", "anchors"): [[[2, 2]], [[1, 1]]]}
    assert turned in found and {("decode", "anchors"): [[[2, 2]], [[1, 1]]]} in found


@pytest.mark.parametrize(("fits", "tried"), [(False, {"sigmoid", "softmax"}), (True, set())])
def test_an_activation_is_missing_only_where_scores_are_none(fits, tried):
    model = config.load(DEMO / "config" / "models" / "yolo.yaml", "model")
    ways = [changes for changes, _ in diagnosis.ways_to_decode(model, fits, pairs=False)]
    assert {changes["decode", "activation"] for changes in ways if ("decode", "activation") in changes} == tried
