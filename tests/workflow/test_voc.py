"""The road of a model on Pascal VOC: another order of images, annotations in a folder, its own figures and files."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import IMAGES, SHARDS, TOO_WIDE, planned, reduced_demo, snakemake
from test_demo import edit

TARGET = "reports/rfcn.txt"
RESULTS = Path("results/rfcn/onnxruntime")
ANNOTATIONS = Path("data/voc/Annotations")
IMAGE_SET = Path("data/voc/ImageSets/Main/test.txt")


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """A reduced demo of R-FCN that has run with the result files, no target named. Read only: copy it to change it."""
    folder = reduced_demo(tmp_path_factory.mktemp("voc") / "it's voc", "rfcn")
    edit(folder / "config" / "config.yaml", "models:", "comp4: true\nmodels:")
    result = snakemake(folder, "--cores", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def copy_of_voc(voc, tmp_path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(voc, tmp_path / "it's a copy"))


def names(folder: Path) -> list[str]:
    return (folder / IMAGE_SET).read_text().split()


def test_report(voc):
    report = json.loads((voc / "reports" / "rfcn.json").read_text())
    backend = report["backends"]["onnxruntime"]
    assert backend["images"] == {"indexed": IMAGES, "scored": IMAGES, "skipped": []}
    assert backend["accuracy"].keys() == {"voc07", "voc_area"}
    classes = ["disc", "square", "triangle", "star", "ring", "cross", "crescent"]
    for numbers in backend["accuracy"].values():
        assert list(numbers["per_class"]) == classes
    assert 0.3 < backend["accuracy"]["voc07"]["mAP"] <= 1
    assert backend["too_large"] == [{"image_id": TOO_WIDE, "file": f"{TOO_WIDE}.jpg", "too_large": "fit"}]
    assert backend["figures"]["voc07.mAP"] == backend["accuracy"]["voc07"]["mAP"]
    text = (voc / "reports" / "rfcn.txt").read_text()
    for part in ("11 points (VOC 2007)", f"TOO LARGE FOR THE NETWORK INPUT: 1 of {IMAGES}", TOO_WIDE):
        assert part in text


def test_images_are_in_the_order_of_the_image_set(voc):
    index = (voc / "results" / "datasets" / "shapes_voc" / "index.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in index] == names(voc)
    shards = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(voc.glob(f"{RESULTS}/detections/*.gz"))]
    assert [image for shard in shards for image in shard["images"]] == names(voc)


def test_digest_of_the_annotations(voc):
    """sha256 of what sha256sum prints."""
    lines = [
        f"{hashlib.sha256((voc / ANNOTATIONS / f'{name}.xml').read_bytes()).hexdigest()}  {name}.xml\n"
        for name in names(voc)
    ]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    report = json.loads((voc / "reports" / "rfcn.json").read_text())
    assert report["provenance"]["sha256"]["Annotations"] == expected


def test_result_files(voc):
    files = {path.name: path.read_text().splitlines() for path in (voc / RESULTS / "comp4").glob("*.txt")}
    assert len(files) == 7 and "comp4_det_test_disc.txt" in files
    accuracy = json.loads((voc / RESULTS / "accuracy.json").read_text())
    assert sum(map(len, files.values())) == accuracy["detections"]
    found = [line.split()[0] for line in files["comp4_det_test_disc.txt"]]
    assert found == sorted(found, key=names(voc).index)


def test_without_a_target_there_is_a_summary_too(voc):
    report = json.loads((voc / "reports" / "rfcn.json").read_text())["backends"]["onnxruntime"]
    (row,) = json.loads((voc / "reports" / "summary.json").read_text())["rows"]
    assert (row["model"], row["backend"], row["fps"]) == ("rfcn", "onnxruntime", report["performance"]["fps"])
    assert row["accuracy"]["voc07.mAP"] == report["accuracy"]["voc07"]["mAP"]
    assert f"{IMAGES}/{IMAGES}" in (voc / "reports" / "summary.txt").read_text()


SCORED_AGAIN = {"check": 1, "evaluate": 1, "comp4": 1, "report": 1}
INDEXED_AGAIN = SCORED_AGAIN | {"index_dataset": 1, "infer": SHARDS, "decode": SHARDS}


def drop_an_object(folder: Path) -> None:
    edit(folder / ANNOTATIONS / f"{TOO_WIDE}.xml", "<difficult>0</difficult>", "<difficult>1</difficult>")


def add_an_annotation(folder: Path) -> None:
    shutil.copy(folder / ANNOTATIONS / f"{TOO_WIDE}.xml", folder / ANNOTATIONS / "new.xml")


def correct_a_size(folder: Path) -> None:
    edit(folder / ANNOTATIONS / f"{TOO_WIDE}.xml", "<height>", "<height>1")


def reorder(folder: Path) -> None:
    (folder / IMAGE_SET).write_text("\n".join(sorted(names(folder))))


def touch_everything(folder: Path) -> None:
    for path in (folder / ANNOTATIONS).iterdir():
        path.touch()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (touch_everything, {}),
        (add_an_annotation, {}),
        (drop_an_object, SCORED_AGAIN),
        (correct_a_size, INDEXED_AGAIN),
        (reorder, {rule: n for rule, n in INDEXED_AGAIN.items() if rule != "check"}),
    ],
)
def test_only_what_changed_reruns(copy_of_voc, change, expected):
    """A changed flag has as many bytes as before; the annotations are compared by their content."""
    folder = copy_of_voc()
    change(folder)
    assert planned(folder, TARGET) == expected


def test_missing_annotations_are_named(copy_of_voc):
    folder = copy_of_voc()
    (folder / ANNOTATIONS / f"{TOO_WIDE}.xml").unlink()
    result = snakemake(folder, "--cores", "2", TARGET)
    assert result.returncode == 1
    assert f"{TOO_WIDE}.xml: no such file; add the annotation or take the image out of the set" in result.stderr


def test_a_dataset_without_its_list_of_images_is_refused(tmp_path):
    folder = reduced_demo(tmp_path / "demo", "rfcn")
    edit(folder / "config" / "config.yaml", "image_set:", "imageset:")
    result = snakemake(folder, "-n")
    assert result.returncode == 2
    assert "datasets.shapes_voc" in result.stderr and "did you mean 'image_set'" in result.stderr
