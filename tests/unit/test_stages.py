"""Every stage is a command line of its own: --help, wrong usage, refusals."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from detport import config, detections, schemas, shards

SCRIPTS = sorted(path for path in (config.ROOT / "scripts").glob("*.py"))
MODEL = config.ROOT / "config" / "models" / "retinamask.yaml"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, config.ROOT / "scripts" / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_help(path):
    result = run(path.name, "--help")
    assert result.returncode == 0
    assert f"Example: python scripts/{path.name}" in result.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_wrong_usage(path):
    result = run(path.name, "--no-such-option")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_stages_know_no_model():
    """What is special about a model stands in its yaml and in modules that its yaml names."""
    names = {*schemas.kinds("networks"), *(path.stem for path in (config.ROOT / "config" / "models").iterdir())}
    assert {"retinamask", "gfocalv2", "efficientdet", "rfcn"} <= names
    for path in (config.ROOT / "Snakefile", *(config.ROOT / "rules").iterdir(), *SCRIPTS):
        found = [name for name in names if name in path.read_text().lower()]
        assert not found, path


def write_detections(path: Path, images: list, skipped: list | None = None) -> Path:
    detections.write(path, [{"image_id": image} for image in images], skipped or [], [])
    return path


@pytest.fixture
def dataset(tmp_path) -> dict[str, Path]:
    """An index of four images and its annotations."""
    rows = [{"image_id": i, "file": f"{i}.jpg", "width": 8, "height": 8, "bytes": 1} for i in (25, 125, 225, 325)]
    shards.write_index(tmp_path / "index.tsv", rows)
    truth = {
        "images": [{"id": r["image_id"], "file_name": r["file"], "width": 8, "height": 8} for r in rows],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return {"index": tmp_path / "index.tsv", "annotations": tmp_path / "truth.json", "folder": tmp_path}


def evaluate(dataset: dict[str, Path], *files: Path, model: Path = MODEL) -> subprocess.CompletedProcess:
    return run(
        "evaluate.py",
        *("--model", model, "--index", dataset["index"], "--annotations", dataset["annotations"]),
        *("--detections", *files, "--output", dataset["folder"] / "accuracy.json"),
    )


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([[25, 125], [225]], "1 images missing: 325"),
        ([[25, 125], [225, 325, 25]], "1 images there more than once: 25"),
        ([[25, 125], [225, 325, 5]], "1 images not in the index: 5"),
        ([[]], "4 images missing: 25, 125, 225, 325"),
    ],
)
def test_refuses_to_score_unless_every_image_is_there_once(dataset, parts, expected):
    files = [write_detections(dataset["folder"] / f"{i}.json.gz", images) for i, images in enumerate(parts)]
    result = evaluate(dataset, *files)
    assert result.returncode == 1
    assert expected in result.stderr
    assert not (dataset["folder"] / "accuracy.json").exists()


def test_skipped_images_are_accounted_for(dataset):
    skipped = [{"image_id": 325, "file": "325.jpg", "reason": "broken"}]
    result = evaluate(dataset, write_detections(dataset["folder"] / "0.json.gz", [25, 125, 225], skipped))
    assert result.returncode == 0, result.stderr
    images = json.loads((dataset["folder"] / "accuracy.json").read_text())["images"]
    assert images == {"indexed": 4, "scored": 3, "skipped": skipped}


@pytest.mark.parametrize("name", ["retinamask", "rfcn"], ids=["metric coco", "metric voc"])
def test_no_number_where_every_image_was_skipped(dataset, name):
    skipped = [{"image_id": i, "file": f"{i}.jpg", "reason": "is broken"} for i in (25, 125, 225, 325)]
    model = MODEL.with_name(f"{name}.yaml")
    result = evaluate(dataset, write_detections(dataset["folder"] / "0.json.gz", [], skipped), model=model)
    assert result.returncode == 1
    assert "no image could be scored: all 4 were skipped, the first ('25.jpg') because it is broken" in result.stderr
    assert not (dataset["folder"] / "accuracy.json").exists()


def test_a_truncated_detections_file_is_named(dataset):
    path = write_detections(dataset["folder"] / "0.json.gz", [25, 125, 225, 325])
    path.write_bytes(path.read_bytes()[:-12])
    result = evaluate(dataset, path)
    assert result.returncode == 1
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bare_list_of_results_is_refused(dataset):
    path = dataset["folder"] / "0.json.gz"
    path.write_bytes(gzip.compress(b"[]"))
    result = evaluate(dataset, path)
    assert result.returncode == 1
    assert "expected an object with images, skipped and detections" in result.stderr


def test_a_missing_file_is_named(dataset):
    result = evaluate(dataset, dataset["folder"] / "none.json.gz")
    assert result.returncode == 2
    assert "none.json.gz: no such file" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("threads", "expected"), [("0", "0 is less than 1"), ("-3", "-3 is less than 1"), ("two", "invalid positive value")]
)
def test_a_number_of_threads_is_positive(threads, expected):
    result = run("index_dataset.py", "--dataset-config", "c", "--dataset", "d", "--output", "o", "--threads", threads)
    assert result.returncode == 2
    assert f"argument --threads: {expected}" in result.stderr


GOOD = {"image_id": 1, "category_id": "cat", "bbox": [0, 0.5, 1, 2], "score": 0.5}


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"bbox": [0, 0, 1]},
        {"bbox": "0011"},
        {"bbox": [0, 0, 1, "1"]},
        {"score": None},
        {"score": "0.5"},
        {"score": True},
        {"bbox": [0, 0, float("inf"), 1]},
        {"image_id": 1.0},
        {"category_id": None},
        7,
        "image_id",
        [1],
    ],
)
def test_every_row_of_detections_is_a_result(bad):
    row = GOOD | bad if bad and isinstance(bad, dict) else bad
    assert detections.are_results([GOOD, GOOD | {"image_id": "a"}]) and detections.are_results([])
    assert not detections.are_results([GOOD, row])
