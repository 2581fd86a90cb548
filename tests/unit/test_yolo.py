"""YOLO's folders: where labels are, what they say, which images belong to a split; mistakes are named by their line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import index_dataset
from detport import lineage, made, shards
from detport import stale as stale_files
from detport.datasets import yolo
from detport.errors import UsageError
from detport.metrics import coco as metric

SETTINGS = {"kind": "coco", "iou_types": ["bbox"], "max_detections": [1, 10, 100], "mask_area": "bbox", "images": "all"}


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def picture(path: Path, width: int = 200, height: int = 100, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path, **options)


@pytest.fixture
def dataset(tmp_path: Path) -> dict:
    """Three images in nested folders: one with two objects, one with an empty file of labels, one without any."""
    for name in ("a", "deep/b", "deep/c"):
        picture(tmp_path / "images/val" / f"{name}.jpg")
    write(tmp_path / "labels/val/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.4\n")
    write(tmp_path / "labels/val/deep/b.txt", "")
    write(tmp_path / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: dog\n  1: cat\n")
    return {"kind": "yolo", "images": str(tmp_path / "images/val"), "annotations": str(tmp_path / "data.yaml")}


def written_config(folder: Path, dataset: dict) -> str:
    return str(write(folder / "config.yaml", json.dumps({"models": ["m"], "datasets": {"d": dataset | {"shards": 1}}})))


def rows_of(dataset: dict) -> list[dict]:
    return [row | {"width": 200, "height": 100} for row in yolo.index_rows(dataset)]


def test_images_of_all_folders_are_named_after_their_files(dataset):
    assert yolo.index_rows(dataset) == [
        {"image_id": "a", "file": "a.jpg"},
        {"image_id": "deep/b", "file": "deep/b.jpg"},
        {"image_id": "deep/c", "file": "deep/c.jpg"},
    ]
    assert yolo.count(dataset) == 3


def test_boxes_and_polygons_are_pixels_and_categories_are_the_classes_numbers(dataset):
    truth = yolo.truth(dataset, rows_of(dataset))
    assert truth["categories"] == [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]
    box, polygon = truth["annotations"]
    assert (box["image_id"], box["category_id"], box["bbox"]) == ("a", 1, [75, 25, 50, 50])
    assert (polygon["category_id"], polygon["bbox"]) == (0, pytest.approx([20, 10, 40, 30]))
    assert polygon["segmentation"] == [pytest.approx([20, 10, 60, 10, 60, 40])]


def test_images_without_labels_have_no_objects_and_are_scored(dataset):
    """A detection on one of them is a false positive."""
    rows = [
        {"image_id": image, "category_id": 1, "bbox": [75, 25, 50, 50], "score": score}
        for image, score in (("a", 0.5), ("deep/c", 0.9))
    ]
    truth = yolo.truth(dataset, rows_of(dataset))
    images = ["a", "deep/b", "deep/c"]
    good = metric.evaluate(truth, images, rows[:1], SETTINGS, cross_check=True)
    both = metric.evaluate(truth, images, rows, SETTINGS, cross_check=True)
    assert good["bbox"]["per_class"] == {"dog": 0.0, "cat": pytest.approx(1.0)}
    assert both["bbox"]["per_class"]["cat"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("images", "file", "labels"),
    [
        ("d/images/val", "a/b.jpg", "d/labels/val/a/b.txt"),
        ("d/valid/images", "b.c.png", "d/valid/labels/b.c.txt"),
        ("d", "images/val/b.jpg", "d/labels/val/b.txt"),
        ("images/d/images", "b.jpg", "images/d/labels/b.txt"),
        ("d/images.v2", "b.jpg", "d/images.v2/b.txt"),
        ("d", "images.jpg", "d/images.txt"),
    ],
)
def test_where_the_labels_of_an_image_are(images, file, labels):
    assert yolo.label_file(images, file) == Path(labels)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5 0.1", "has 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 6 numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 has no name; names has 2"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 has no name"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 has no name"),
        ("0 50 0.5 0.1 0.1", "50 is no fraction of the image"),
        ("0 0.5 0.5 -0.005 0.1", "-0.005 is no fraction"),
        ("0 nan 0.5 0.1 0.1", "'nan' is no number"),
        ("0 1e999 0.5 0.1 0.1", "inf is no fraction"),
        ("dog 0.5 0.5 0.1 0.1", "'dog' is no number"),
        ("0 0_5 0.5 0.1 0.1", "'0_5' is no number"),
    ],
)
def test_a_bad_label_is_named_by_its_line(dataset, tmp_path, line, problem):
    write(tmp_path / "labels/val/deep/b.txt", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(UsageError) as error:
        yolo.index_rows(dataset)
    assert f"b.txt:3: {problem}" in str(error.value)


def test_a_line_that_is_there_twice_is_one_object(dataset, tmp_path):
    write(tmp_path / "labels/val/a.txt", "1 0.5 0.5 0.25 0.5\n1 0.50 0.5 0.25 0.5\n1.0 0.5 0.5 0.25 0.6\r\n")
    assert len(yolo.truth(dataset, rows_of(dataset))["annotations"]) == 2


def test_a_dataset_without_a_single_label_is_a_wrong_path(dataset, tmp_path):
    (tmp_path / "labels").rename(tmp_path / "label")
    with pytest.raises(UsageError, match=r"none of its 3 images has a label, .*labels/val/a\.txt"):
        yolo.index_rows(dataset)


def test_masks_are_asked_for_only_where_they_are_scored(dataset):
    truth = yolo.truth(dataset, rows_of(dataset))
    assert metric.check(truth, ["a"], ["dog", "cat"], SETTINGS) == []
    with pytest.raises(UsageError, match=r"labels/val/a\.txt\.segmentation: None; expected polygons"):
        metric.check(truth, ["a"], ["dog", "cat"], SETTINGS | {"iou_types": ["segm"]})


def test_a_split_of_data_yaml(dataset, tmp_path):
    picture(tmp_path / "images/train/t.jpg")
    whole = dataset | {"images": str(tmp_path / "images")}
    assert [row["file"] for row in yolo.index_rows(whole | {"split": "val"})] == [
        "val/a.jpg",
        "val/deep/b.jpg",
        "val/deep/c.jpg",
    ]
    with pytest.raises(UsageError, match=r"holds the splits train, val of .*; choose one: datasets\.NAME\.split"):
        yolo.index_rows(whole)
    with pytest.raises(UsageError, match="vla: no such split; it has train, val"):
        yolo.index_rows(whole | {"split": "vla"})
    with pytest.raises(UsageError, match="is not inside"):
        yolo.index_rows(dataset | {"split": "train"})


@pytest.mark.parametrize(
    "entry",
    ["path: /elsewhere\nval: images/val", "val: ../images/val", "path: ../nowhere\nval: [images/val]", "val: val.txt"],
)
def test_splits_as_exporters_write_them(dataset, tmp_path, entry):
    """A path of another machine, ../ too many, a list, a file with the images' names."""
    write(tmp_path / "val.txt", "./images/val/a.jpg\nimages/val/deep/b.jpg\n\nimages/val/deep/c.jpg\n")
    write(tmp_path / "data.yaml", f"{entry}\nnames: [dog, cat]\n")
    found = yolo.index_rows(dataset | {"images": str(tmp_path), "split": "val"})
    assert [row["file"] for row in found] == ["images/val/a.jpg", "images/val/deep/b.jpg", "images/val/deep/c.jpg"]


def test_a_list_of_images(dataset, tmp_path):
    path = write(tmp_path / "some.txt", f"{tmp_path}/images/val/deep/c.jpg\na.jpg\n")
    assert [row["file"] for row in yolo.index_rows(dataset | {"image_set": str(path)})] == ["a.jpg", "deep/c.jpg"]
    for line in ("gone.jpg", "/etc/passwd", "../../../../../../../../etc/passwd"):
        write(path, f"a.jpg\n{line}\n")
        with pytest.raises(UsageError, match=r"some\.txt:2: .* is no file inside"):
            yolo.index_rows(dataset | {"image_set": str(path)})


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("nc: 2", "expected a list of names"),
        ("names: {0: dog, 2: cat}", "there is no class 1"),
        ("names: [dog, dog]", "two classes are called 'dog'"),
        ("names: [dog, ]\n- x", r"data\.yaml:2: YAML"),
        ("names: [dog, [cat]]", r"class 1 is \['cat'\], which is no name"),
        ("- dog", "expected the keys of a data.yaml"),
        ("names: !!python/object/apply:os.system [x]", "tags are not allowed here"),
    ],
)
def test_bad_names(dataset, names, problem):
    Path(dataset["annotations"]).write_text(names)
    with pytest.raises(UsageError, match=problem):
        yolo.index_rows(dataset)


def test_the_index_has_the_size_of_the_image_as_its_exif_turns_it(dataset, tmp_path):
    """YOLO's fractions are of the image as people see it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "images/val/a.jpg", 200, 100, exif=exif)
    index, config = tmp_path / "index.tsv", written_config(tmp_path, dataset)
    index_dataset.main(["--dataset-config", config, "--dataset", "d", "--output", str(index)])
    assert [(row["file"], row["width"], row["height"]) for row in shards.read_index(index)] == [
        ("a.jpg", 100, 200),
        ("deep/b.jpg", 200, 100),
        ("deep/c.jpg", 200, 100),
    ]


def stale(dataset: dict) -> dict:
    """What is stale of the dataset's index and why."""
    return stale_files.find([lineage.of_dataset("d", dataset, {"on_bad_image": "fail", "sample": None})])


def test_what_makes_the_index_stale(dataset, tmp_path, monkeypatch):
    """Another list of images does; other labels are for the evaluation to notice."""
    monkeypatch.chdir(tmp_path)
    config = written_config(tmp_path, dataset)
    index = "results/datasets/d/index.tsv"
    index_dataset.main(["--dataset-config", config, "--dataset", "d", "--output", index])
    assert stale(dataset) == {}
    before = made.source(*yolo.scored(dataset))["sha256"]
    write(tmp_path / "labels/val/deep/c.txt", "0 0.5 0.5 0.1 0.1\n")
    assert stale(dataset) == {}
    assert made.source(*yolo.scored(dataset))["sha256"] != before
    picture(tmp_path / "images/val/d.jpg")
    assert "d.txt changed" in stale(dataset)[index]


def test_digits_alone_are_one_id_in_index_and_truth(dataset, tmp_path):
    """The index reads the name 17 back as a number, and 017 as text."""
    for name in ("17", "017"):
        picture(tmp_path / "images/val" / f"{name}.jpg")
        write(tmp_path / "labels/val" / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    shards.write_index(tmp_path / "index.tsv", [row | {"bytes": 1} for row in rows_of(dataset)])
    rows = shards.read_index(tmp_path / "index.tsv")
    truth = yolo.truth(dataset, rows)
    assert {entry["id"] for entry in truth["images"]} == {17, "017", "a", "deep/b", "deep/c"}
    found = [{"image_id": 17, "category_id": 0, "bbox": [50, 25, 100, 50], "score": 0.5}]
    figures = metric.evaluate(truth, [17], found, SETTINGS, cross_check=True)["bbox"]
    assert np.isclose(figures["AP"], 1)
