"""The decode stage: what it asks of shard.json, and what it says of outputs that cannot be detections."""

import json
from pathlib import Path

import numpy as np
import pytest

import decode as stage
from detport import config, decoders, detections, schemas
from detport.errors import Failure

MODEL = config.ROOT / "demo" / "config" / "models" / "gfocalv2.yaml"  # categories 1 2 4 5 7 8 11, background last
ENTRY = {"image_id": 7, "file": "a b.jpg", "width": 8, "height": 8, "scale": 1.0, "bin": "a.bin"}


def decoded(folder: Path, dets: np.ndarray, labels: list[int], entry: dict = ENTRY, model: Path = MODEL) -> list[dict]:
    """Detections of one image whose first rows are these."""
    for i, (rows, shape, dtype) in enumerate(((dets, (100, 5), np.float32), (labels, (100,), np.int64))):
        array = np.zeros(shape, dtype)
        array[: len(rows)] = rows
        array.tofile(folder / f"a_{i}.bin")
    (folder / "shard.json").write_text(json.dumps({"images": [entry], "skipped": []}))
    target = folder / "detections.json.gz"
    stage.main(list(map(str, ["--model", model, "--shard", folder, "--outputs", folder, "--output", target])))
    return detections.read(target)["detections"]


DETS = np.array([[0, 0, 4, 4, 0.75], [1, 1, 3, 3, 0.5]], np.float32)


def test_labels_become_categories_and_the_background_nothing(tmp_path):
    found = decoded(tmp_path, DETS, [6, 7])
    assert [(row["category_id"], row["score"]) for row in found] == [(11, 0.75)]


def test_classes_have_the_names_of_categories_or_none(tmp_path):
    """Detections say the name; which id that is in the dataset is for the evaluation to know."""
    model = tmp_path / "m.yaml"
    model.write_text(MODEL.read_text().replace("[1, 2, 4, 5, 7, 8, 11]", "[1, a dog, null, null, 7, 8, 11]"))
    found = decoded(tmp_path, np.concatenate([DETS, DETS]), [3, 1, 0, 2], model=model)
    assert [(row["category_id"], row["score"]) for row in found] == [(1, 0.75), ("a dog", 0.5)]


def test_a_label_beyond_the_background_names_image_and_row(tmp_path):
    with pytest.raises(Failure, match=r"^'a b\.jpg': row 1 of the outputs has the label 8; by .* there are 0 to 7\."):
        decoded(tmp_path, DETS, [6, 8])


def test_a_box_that_is_none_names_image_output_and_place(tmp_path):
    dets = DETS.copy()
    dets[1, 2] = np.nan
    with pytest.raises(Failure, match=r"^'a b\.jpg': .*a_0\.bin: dets holds NaN or infinity, first at \[1, 2\]"):
        decoded(tmp_path, dets, [0, 0])


def test_detections_that_are_no_numbers_are_refused_whoever_made_them():
    rows = [{"category_id": 3, "bbox": [0.0, 1.0, 2.0, 3.0], "score": score} for score in (0.5, float("nan"))]
    with pytest.raises(Failure, match=r"'a\.jpg': detection 1, of category 3, has box \[0\.0, .*\] and score nan"):
        stage.require_finite(rows, "a.jpg")


def test_what_the_decoder_needs_is_asked_of_the_shard(tmp_path):
    entry = {key: value for key, value in ENTRY.items() if key != "scale"}
    with pytest.raises(Failure, match=r"shard\.json: 'a b\.jpg' has no scale; make the shard again"):
        decoded(tmp_path, DETS, [0, 0], entry)


WRITTEN = {"image_id", "file", "width", "height", "canvas", "resized", "scale", "pad", "bin", "bytes"}


@pytest.mark.parametrize("kind", schemas.kinds("decoders"))
def test_decoders_need_what_preprocess_writes(kind):
    assert set(decoders.load(kind).NEEDS) <= WRITTEN
