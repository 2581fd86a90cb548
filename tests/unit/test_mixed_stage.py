"""A YOLO in int8 without exclusions finds nothing; the search wins its detections back with one node in float32."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

import calibrate
import compile as compile_stage
import layers as layers_stage
import mixed
from detport import config, layers, shards
from detport.errors import Failure
from detport.files import sha256

DEMO = config.ROOT / "demo"
IMAGES = DEMO / "data" / "images"
INT8 = {"title": "all in int8", "family": "onnxruntime", "precision": "int8"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo's YOLO, its layers and what they are made from, on a few images."""
    folder = tmp_path_factory.mktemp("mixed")
    model = yaml.safe_load((DEMO / "config" / "models" / "yolo.yaml").read_text())
    model["parity"] = {"tolerances": {"int8": {"score_shift": 0.5}}}  # three images are few to calibrate on
    (folder / "yolo.yaml").write_text(yaml.safe_dump(model))
    (folder / "all.yaml").write_text(yaml.safe_dump(INT8 | {"calibration": {"images": 3, "exclude": "none"}}))
    rows = []
    for path in sorted(IMAGES.iterdir())[:4]:
        width, height = Image.open(path).size
        rows.append({"image_id": int(path.stem), "file": path.name, "width": width, "height": height})
        rows[-1] |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    shards.write_index(folder / "index.tsv", rows)
    given = {"model": folder / "yolo.yaml", "backend": folder / "all.yaml"}
    given |= {"index": folder / "index.tsv", "images": IMAGES, "onnx": DEMO / "weights" / "yolo.onnx"}
    run(calibrate, given, output=folder / "calibration.json")
    ranges = {"calibration": folder / "calibration.json"}
    run(compile_stage, without(given, "index", "images"), **ranges, output=folder / "model.onnx")
    own = without(given, "backend") | {"compiled": folder / "model.onnx", "count": 2, "memory-gb": 1}
    run(layers_stage, own, output=folder / "layers.tsv")
    return folder, given | ranges | {
        "reference": given["onnx"],
        "layers": folder / "layers.tsv",
        "count": 2,
        "steps": 4,
    }


def without(flags: dict, *names: str) -> dict:
    return {key: value for key, value in flags.items() if key not in names}


def run(stage, flags: dict, **more: object) -> None:
    """Run a stage in this process; what is given last counts."""
    stage.main([word for key, value in (flags | more).items() for word in (f"--{key}", str(value))])


def test_the_head_is_named_and_its_detections_are_won_back(made):
    folder, flags = made
    table = (folder / "layers.tsv").read_text().splitlines()
    assert table[0].startswith("# ") and "nothing optimised" in table[0]
    first, second, *_ = layers.read(folder / "layers.tsv")
    assert (first["node"], first["operator"]) == ("/Concat_7", "Concat")
    assert first["own_error"] > 5 * second["own_error"], "boxes up to 256 and scores up to 1: the scores are gone"
    assert first["error_in"] < 0.2 < 0.7 < first["error_out"]
    run(mixed, flags, output=folder / "mixed.yaml")
    text = (folder / "mixed.yaml").read_text()
    assert yaml.safe_load(text) == {"keep_fp32": ["/Concat_7"]}
    steps = [line.split()[1:3] for line in text.splitlines() if line.startswith("#   ")]
    assert steps == [["outside", "0"], ["inside", "1"]]
    assert "1 of 386 nodes stay in float32" in text
    record = json.loads((folder / "mixed.yaml.made").read_text())
    assert record["inputs"].keys() == {"index", "reference", "onnx", "layers", "calibration"}


def test_a_search_that_ends_without_a_list_fails_and_writes_nothing(made):
    folder, flags = made
    with pytest.raises(Failure, match=r"no list of nodes that was tried .* with 0 of 386 nodes .* mixed.steps"):
        run(mixed, flags, steps=1, output=folder / "none.yaml")
    assert not (folder / "none.yaml").exists()


def test_tensors_of_a_device_are_taken_from_the_folder_of_their_image(made):
    folder, flags = made
    dump = folder / "dump" / "000000000025"
    dump.mkdir(parents=True)
    np.save(dump / "_Concat_7.npy", np.zeros((1, 11, 1344), np.float16))
    np.save(dump / "Nobody.npy", np.zeros(1))
    own = without(flags, "backend", "calibration", "reference", "layers", "count", "steps")
    run(layers_stage, own | {"from-dump": dump.parent, "memory-gb": 1}, output=folder / "dumped.tsv")
    [row] = layers.read(folder / "dumped.tsv")
    assert (row["node"], row["own_error"], row["error_in"]) == ("/Concat_7", 1, 0)
    text = (folder / "dumped.tsv").read_text()
    assert "on '000000000025.jpg'" in text
    assert "1 tensors of floats compared; without a partner there: 26" in text
    assert "no tensor of the graph, or of another form: 1 (Nobody.npy)" in text
    record = json.loads((folder / "dumped.tsv.made").read_text())
    assert record["sources"]["dump"]["files"].keys() == {"000000000025/_Concat_7.npy", "000000000025/Nobody.npy"}
