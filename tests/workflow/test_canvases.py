"""A model with a landscape canvas, and its variant with a portrait one beside it, through the whole workflow."""

import gzip
import json
import re
import shutil
from pathlib import Path

import onnx
import pytest

from runs import IMAGES, planned, reduced_demo, snakemake

LANDSCAPE, PORTRAIT = "192x288", "288x192"
MODELS = ("gfocalv2", "gfocalv2_portrait")
ONE_SHARD = {"infer": 1, "decode": 1, "evaluate": 1, "benchmark": 1, "parity": 1, "report": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Both models, run to their reports, and their shards. Read only: copy it to change something."""
    folder = reduced_demo(tmp_path_factory.mktemp("canvases") / "demo", *MODELS, shards=1, parity=2)
    edit(folder, "gfocalv2", "min_runs: 30\n  min_seconds: 3", "min_runs: 3\n  min_seconds: 0")
    result = snakemake(folder, "--cores", "2", "all", *(f"shards/{model}" for model in MODELS))
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def edit(folder: Path, model: str, old: str, new: str) -> None:
    path = folder / "config" / "models" / f"{model}.yaml"
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def report(folder: Path, model: str) -> dict:
    return json.loads((folder / "reports" / f"{model}.json").read_text())


def images(folder: Path, model: str) -> dict[int, dict]:
    shard = json.loads((folder / "shards" / model / "0000" / "shard.json").read_text())
    return {image["image_id"]: image for image in shard["images"]}


def detections(folder: Path, model: str) -> dict[int, list[dict]]:
    """Detections by image."""
    path = folder / "results" / model / "onnxruntime" / "detections" / "0000.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    return {image: [row for row in content["detections"] if row["image_id"] == image] for image in content["images"]}


def test_both_reports(finished):
    one, two = (report(finished, model)["backends"]["onnxruntime"] for model in MODELS)
    for found in (one, two):
        assert found["images"] == {"indexed": IMAGES, "scored": IMAGES, "skipped": []}
        assert found["images_counted"] == IMAGES
        assert found["accuracy"]["bbox"]["AP"] > 0.3
        assert found["performance"]["canvas"] == LANDSCAPE
    assert one["performance"]["other_canvases"] == []
    (other,) = two["performance"]["other_canvases"]
    assert other["canvas"] == PORTRAIT
    assert other["fps"] > 0
    text = (finished / "reports" / "gfocalv2_portrait.txt").read_text()
    for part in (
        "AP      0.50:0.95  all            100  0.",
        "all, also those without an annotation",
        f"canvas {PORTRAIT}: ",
        "landscape canvas alone",
    ):
        assert part in text
    names = {Path(name).name for name in report(finished, "gfocalv2_portrait")["provenance"]["sha256"]}
    steps = ("exported", "simplified", "patched", "model")
    assert names >= {f"{step}{suffix}.onnx" for step in steps for suffix in ("", f"-{PORTRAIT}")}


def test_an_image_goes_where_it_is_larger(finished):
    one, two = (images(finished, model) for model in MODELS)
    assert {image["canvas"] for image in one.values()} == {LANDSCAPE}
    for image_id, image in two.items():
        assert image["canvas"] == (PORTRAIT if image["height"] > image["width"] else LANDSCAPE)
        larger = image["scale"] > one[image_id]["scale"]
        assert larger == (image["canvas"] == PORTRAIT)
        height, width = map(int, image["canvas"].split("x"))
        assert [side + pad for side, pad in zip(image["resized"], image["pad"], strict=True)] == [width, height]
    assert {image["canvas"] for image in two.values()} == {LANDSCAPE, PORTRAIT}


def test_only_portrait_images_are_detected_otherwise(finished):
    one, two = (detections(finished, model) for model in MODELS)
    changed = {image for image in one if one[image] != two[image]}
    assert changed == {image for image, found in images(finished, MODELS[1]).items() if found["canvas"] == PORTRAIT}


def test_a_canvas_more_or_less_makes_no_graph_again(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    target = "reports/gfocalv2_portrait.txt"
    assert planned(folder, target) == {}
    edit(folder, "gfocalv2_portrait", "width: 192}", "width: 192}\n    - {height: 256, width: 256}")
    new_graph = {"export": 1, "simplify": 1, "patch": 1, "compile": 1}
    assert planned(folder, target) == ONE_SHARD | new_graph
    edit(folder, "gfocalv2_portrait", "    - {height: 288, width: 192}\n    - {height: 256, width: 256}", "    []")
    assert planned(folder, target) == ONE_SHARD
    assert planned(folder, "reports/gfocalv2.txt") == {}


def test_a_change_of_the_base_reaches_the_variant(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    edit(folder, "gfocalv2", "opset: 11", "opset: 12")
    expected = ONE_SHARD | {"export": 2, "simplify": 2, "patch": 2, "compile": 2}
    assert planned(folder, "reports/gfocalv2_portrait.txt") == expected
    assert planned(folder, "shards/gfocalv2_portrait") == {}


@pytest.mark.parametrize("base", ["gfocal", "gfocalv2_portrait"])
def test_a_wrong_base_is_one_line(finished, tmp_path, base):
    shutil.copytree(finished / "config", tmp_path / "config")
    edit(tmp_path, "gfocalv2_portrait", "base: gfocalv2", f"base: {base}")
    result = snakemake(tmp_path, "-n")
    assert result.returncode == 2
    assert re.search(
        r"^detport: error: config/models/gfocalv2_portrait\.yaml:2: base: .+$", result.stderr, re.MULTILINE
    )
    assert "Traceback" not in result.stderr


def test_ascends_graph_is_proven_up_to_its_operator(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    target = f"results/gfocalv2_portrait/onnx/ascend/simplified-{PORTRAIT}.onnx"
    result = snakemake(folder, "--cores", "2", target, "--config", "backends=[onnxruntime,ascend310]")
    assert result.returncode == 0, result.stdout + result.stderr
    graph = onnx.load(folder / target).graph
    assert [node.op_type for node in graph.node].count("BatchMultiClassNMS") == 1
    assert [output.name for output in graph.output] == ["dets", "labels"]
    log = (folder / "logs" / "simplify" / "gfocalv2_portrait" / f"ascend-{PORTRAIT}.log").read_text()
    assert "without ONNX Runtime's kernel: BatchMultiClassNMS" in log
    assert re.search(r"largest difference after simplifying: \S+ of the scale of input [01] of BatchMultiClassNMS", log)
