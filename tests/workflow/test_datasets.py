"""Own datasets through the whole workflow: YOLO's folders with classes by name, images alone, a sample."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from runs import IMAGES, planned, reduced_demo, snakemake

NAMES = ["disc", "square", "triangle", "star", "ring", "cross", "crescent"]
SAMPLE = 3


def as_yolo(folder: Path) -> None:
    """The demo's ground truth in YOLO's form, without its crowds, in the order of the model's classes backwards."""
    truth = json.loads((folder / "data/annotations/instances.json").read_text())
    numbers = {category["id"]: NAMES[::-1].index(category["name"]) for category in truth["categories"]}
    for image in truth["images"]:
        path = folder / "data/mine/images/val/some of them" / image["file_name"]
        labels = folder / "data/mine/labels/val/some of them" / f"{path.stem}.txt"
        for each in (path, labels):
            each.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "data/images" / image["file_name"], path)
        size = [image["width"], image["height"]]
        lines = []
        for entry in truth["annotations"]:
            if entry["image_id"] == image["id"] and not entry["iscrowd"]:
                x, y, *sides = entry["bbox"]
                box = [x + sides[0] / 2, y + sides[1] / 2, *sides]
                fractions = (f"{value / size[i % 2]:.8f}" for i, value in enumerate(box))
                lines.append(f"{numbers[entry['category_id']]} {' '.join(fractions)}\n")
        if lines:
            labels.write_text("".join(lines))
    described = {"path": "/elsewhere", "train": "images/train", "val": "images/val", "names": NAMES[::-1]}
    (folder / "data/mine/data.yaml").write_text(yaml.safe_dump(described))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working directory with a model on each kind of dataset."""
    place = reduced_demo(tmp_path_factory.mktemp("datasets") / "demo", "yolo", "gfocalv2")
    as_yolo(place)
    configuration = yaml.safe_load((place / "config/config.yaml").read_text())
    described = "data/mine/data.yaml"
    configuration["models"] = ["yolo", "mine", "alone", "gfocalv2"]
    configuration["datasets"] |= {
        "mine": {"kind": "yolo", "images": "data/mine", "annotations": described, "split": "val"},
        "alone": {"kind": "folder", "images": "data/images"},
    }
    (place / "config/config.yaml").write_text(yaml.safe_dump(configuration))
    for name in ("mine", "alone"):
        own = {"base": "yolo", "dataset": name, "gates": [], "decode": {"categories": [*NAMES[:-1], "moon"]}}
        (place / "config/models" / f"{name}.yaml").write_text(yaml.safe_dump(own))
    return place


def report(folder: Path, model: str) -> dict:
    return json.loads((folder / "reports" / f"{model}.json").read_text())["backends"]["onnxruntime"]


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    reports = [f"reports/{name}" for name in ("yolo.txt", "mine.txt", "alone.txt", "alone.html")]
    result = snakemake(folder, "--cores", "2", "--", *reports, "results/alone/onnxruntime/preview.html")
    assert result.returncode == 0, result.stderr
    assert "detport: mine: classes that are no category of data/mine/data.yaml" in result.stderr
    assert result.stderr.index("not scored: moon") < result.stderr.index("rule index_dataset")
    assert "never found: crescent" in result.stderr
    assert "results/alone/onnxruntime/preview.html: " in result.stdout
    return folder


def test_yolos_labels_score_as_the_cocos_that_they_were_made_from(finished):
    """Classes are paired by name, whatever their numbers; the one that is misspelt finds nothing."""
    coco, yolo = report(finished, "yolo"), report(finished, "mine")
    assert yolo["images"] == {"indexed": IMAGES, "scored": IMAGES, "skipped": []}
    assert yolo["unscored"]["moon"] > 0 and yolo["accuracy"]["bbox"]["per_class"]["crescent"] <= 0
    # without the image that EXIF turns and the crowds the two cannot be equal
    for name in ("square", "ring"):
        classes = [each["accuracy"]["bbox"]["per_class"][name] for each in (coco, yolo)]
        assert classes[1] == pytest.approx(classes[0], abs=0.15) and classes[1] > 0.3
    text = (finished / "reports/mine.txt").read_text()
    assert "not scored, because the dataset has no such category: moon" in text


def test_images_alone_have_detections_and_speed(finished):
    found = report(finished, "alone")
    assert found["accuracy"] == {} and found["detections"] > 0 and found["performance"]["fps"] > 0
    text = (finished / "reports/alone.txt").read_text()
    assert f"onnxruntime: NOT MEASURED, the dataset has no ground truth; {found['detections']} detections in" in text
    assert json.loads((finished / "reports/alone.json").read_text())["verdict"] == "NOT MEASURED", (
        "although no gate asks"
    )


def test_images_alone_have_pages(finished):
    for page, images in (("reports/alone.html", IMAGES), ("results/alone/onnxruntime/preview.html", min(IMAGES, 8))):
        text = (finished / page).read_text(encoding="utf-8")
        assert text.count("<img ") == images
        assert 'name="truth"' not in text and "moon" in text


def test_a_sample_says_so_and_is_judged_by_intervals(finished, tmp_path):
    place = tmp_path / "sampled"
    shutil.copytree(finished, place, ignore=shutil.ignore_patterns("results", "reports", ".snakemake"))
    result = snakemake(place, "--cores", "2", "--config", f"sample={SAMPLE}", "models=[yolo]", "--", "reports/yolo.txt")
    assert result.returncode == 0, result.stderr
    found = json.loads((place / "reports/yolo.json").read_text())
    assert found["backends"]["onnxruntime"]["sample"] == {"images": SAMPLE, "of": IMAGES}
    for gate in found["gates"]:
        surplus = gate["interval"]
        assert gate["verdict"] == ("PASS" if surplus["low"] >= 0 else "FAIL" if surplus["high"] < 0 else "UNDECIDED")
        assert surplus["value"] == pytest.approx(gate["measured"] - gate["required"], abs=1e-6)
    head = (place / "reports/yolo.txt").read_text().splitlines()[:5]
    assert f"!! A SAMPLE: {SAMPLE} OF {IMAGES} IMAGES; ONLY INTERVALS DECIDE GATES ON ACCURACY" in head
    assert "95 % interval of AP" in (place / "reports/yolo.txt").read_text()
    again = planned(place, "reports/yolo.txt")
    assert again["index_dataset"] == again["evaluate"] == 1 and "export" not in again, "all images are asked for now"


def test_a_model_that_is_onnx_stops_only_a_run_that_is_about_it(folder):
    dry = ("-n", "--config", "backends=[pytorch]", "--")
    result = snakemake(folder, *dry, "reports/gfocalv2.txt")
    assert result.returncode == 0, result.stderr
    result = snakemake(folder, *dry, "reports/yolo.txt")
    assert result.returncode == 2
    assert "config/models/yolo.yaml: is ONNX already; backend pytorch needs a checkpoint" in result.stderr
