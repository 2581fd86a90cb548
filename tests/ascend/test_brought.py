"""Outputs and logs that were made elsewhere: what is taken, what is refused, and the mark of a simulator."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import benchmark
import decode
import infer
from detport import config, detections
from detport.errors import Failure, UsageError

MODEL = config.ROOT / "demo" / "config" / "models" / "gfocalv2.yaml"
BACKEND = config.ROOT / "config" / "backends" / "ascend310.yaml"
DETS, LABELS = np.zeros((100, 5), np.float32), np.full(100, 3, np.int64)
GPU = "Test: [4490/5000]  Time: 0.976s (0.950s,    1.05/s)\n"


@pytest.fixture
def place(tmp_path) -> Path:
    """A shard of one image, a.jpg, and an empty folder for its outputs."""
    (tmp_path / "shard").mkdir()
    (tmp_path / "brought").mkdir()
    image = {"image_id": 7, "file": "a.jpg", "bin": "a.bin", "width": 64, "height": 64, "scale": 1.0, "bytes": 1}
    image |= {"pad": [0, 0], "resized": [64, 64], "canvas": "64x64"}
    (tmp_path / "shard" / "shard.json").write_text(json.dumps({"images": [image], "skipped": []}))
    return tmp_path


def bring(place: Path, folder: str = "brought") -> None:
    flags = {"model": MODEL, "backend": BACKEND, "shard": place / "shard", "output": place / "outputs"}
    flags["from-outputs"] = place / folder
    infer.main([str(word) for name, value in flags.items() for word in (f"--{name}", value)])


def write_binary(place: Path, form: str) -> None:
    """Both outputs, `form` naming the first and the second."""
    for i, array in enumerate((DETS, LABELS)):
        (place / "brought" / form.format(i=i, k=i + 1)).write_bytes(array.tobytes())


@pytest.mark.parametrize("form", ["a_{i}.bin", "a_output_{i}.bin", "a_{k}.bin"])
@pytest.mark.parametrize("simulated", [False, True])
def test_a_simulators_mark_goes_with_the_outputs(place, form, simulated):
    write_binary(place, form)
    if simulated:
        (place / "brought" / "SIMULATOR").touch()
    bring(place)
    assert (place / "outputs" / "SIMULATOR").exists() is simulated
    flags = {"model": MODEL, "shard": place / "shard", "outputs": place / "outputs", "output": place / "0.json.gz"}
    decode.main([str(word) for name, value in flags.items() for word in (f"--{name}", value)])
    assert detections.read(place / "0.json.gz")["simulator"] is simulated


def test_benchmarks_text_is_refused_where_integers_are_declared(place):
    """It writes the bytes of every output as if they were float32: the label 3 comes out as 0.000000 twice."""
    (place / "brought" / "a_1.txt").write_text("0.000000 " * 500)
    (place / "brought" / "a_2.txt").write_text("0.000000 " * 200)
    with pytest.raises(Failure, match=r"a_1\.txt is text and counted from 1.*bring -output_binary=True outputs"):
        bring(place)


def test_text_of_ais_bench_is_taken(place):
    (place / "brought" / "a_0.txt").write_text("0.000000 " * 500)
    (place / "brought" / "a_1.txt").write_text("3 " * 100)
    bring(place)
    assert (np.fromfile(place / "outputs" / "a_1.bin", np.int64) == 3).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sample_id_0_output_0.bin", "ais_infer.py before September 2022.*rename them to STEM_0.bin"),
        ("input0_output_0.txt", "ais_infer.py before September 2022.*rename them to STEM_0.bin"),
        ("a_0.npy", "NPY outputs are not read; bring those of --outfmt BIN"),
        ("b_0.bin", "'a.jpg'.*0 of 2 outputs"),
    ],
)
def test_other_forms_are_named_with_a_remedy(place, name, expected):
    (place / "brought" / name).write_bytes(b"")
    with pytest.raises(Failure, match=expected):
        bring(place)


def test_a_folder_that_is_not_there(place):
    with pytest.raises(UsageError, match="nosuch: no such folder"):
        bring(place, "nosuch")


def speed(place: Path, log: str, backend: Path) -> dict:
    (place / "log.txt").write_text(log)
    flags = {"model": MODEL, "backend": backend, "from-log": place / "log.txt", "output": place / "performance.json"}
    benchmark.main([str(word) for name, value in flags.items() for word in (f"--{name}", value)])
    return json.loads((place / "performance.json").read_text())


def test_chip_and_toolkit_of_a_log_are_the_yamls(place):
    found = speed(place, "ave_throughputRate: 1.50578samples/s, ave_latency: 664.142ms\n", BACKEND)
    assert found["machine"]["chip"] == "Ascend310 by the yaml"
    assert found["versions"] == {"CANN by the yaml": "5.0.4"}


def test_a_family_without_logs_says_so(place):
    with pytest.raises(UsageError, match="backend onnxruntime is of the family onnxruntime, which has no logs"):
        speed(place, GPU, config.ROOT / "config" / "backends" / "onnxruntime.yaml")


def test_a_gpus_speed_is_no_cards(place):
    """The four chips of a 310 card multiply an Ascend's speed, never a GPU's; that has a backend of its own."""
    with pytest.raises(UsageError, match=r"validate\.py on a GPU, backend ascend310 is an Ascend: .*family: pytorch"):
        speed(place, GPU, BACKEND)
    (place / "gpu.yaml").write_text(yaml.safe_dump({"title": "GPU", "family": "pytorch", "runs": "checkpoint"}))
    found = speed(place, GPU, place / "gpu.yaml")
    assert (found["fps"], found["fps_is"]) == (1.05, "of one GPU")
    assert "devices_per_card" not in found
