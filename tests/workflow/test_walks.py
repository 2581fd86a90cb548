"""The walks of docs/adding-a-model.md, executed as they are written, in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stages
from runs import IMAGES, ROOT

PAGE = ROOT / "docs" / "adding-a-model.md"
# Three marks with a language, and where the lines go: to the shell, into a file, at the end of one.
FENCE = re.compile(r"^```(sh|(?:yaml|python) (file|append)=(\S+))\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str, str]]:
    """What is to be done, step by step: sh, file or append; a path; lines."""
    return [(found[2] or "sh", found[3] or "", found[4]) for found in FENCE.finditer(text)]


def walk(number: int) -> list[tuple[str, str, str]]:
    text = PAGE.read_text(encoding="utf-8")
    return blocks(re.search(rf"^## Walk {number}: .*?(?=^## )", text, re.MULTILINE | re.DOTALL)[0])


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of the repository with the demo's images as a dataset of one's own, and its detector in three forms."""
    folder = stages.copy_repository(tmp_path_factory.mktemp("walks") / "repository")
    truth = json.loads((ROOT / "demo" / "data" / "annotations" / "instances.json").read_text())
    truth["images"] = truth["images"][:IMAGES]
    kept = {image["id"] for image in truth["images"]}
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] in kept]
    (folder / "data" / "own" / "images").mkdir(parents=True)
    (folder / "data" / "own" / "instances.json").write_text(json.dumps(truth))
    for image in truth["images"]:
        shutil.copy(ROOT / "demo" / "data" / "images" / image["file_name"], folder / "data" / "own" / "images")
    (folder / "weights").mkdir()
    shutil.copy(ROOT / "demo" / "weights" / "yolo.onnx", folder / "weights")
    plain = onnx.load(folder / "weights" / "yolo.onnx")
    del plain.metadata_props[:]
    onnx.save(plain, folder / "weights" / "plain.onnx")
    onnx.save(with_nms(plain), folder / "weights" / "mine.onnx")
    do(walk(1)[:1], folder)  # the dataset of all walks
    return folder


def with_nms(model: onnx.ModelProto) -> onnx.ModelProto:
    """The detector with an NMS behind it: dets [K, 5] and labels [K]."""
    name = model.graph.output[0].name
    constants = {
        "four": np.int64([4]),
        "two": np.int64([2]),
        "zero": np.int64([0]),
        "end": np.int64([99]),
        "one": np.int64([1]),
        "half": np.float32(0.5),
        "most": np.int64([100]),
        "iou": np.float32([0.7]),
        "score": np.float32([0.25]),
        "class": np.int64(1),
        "box": np.int64(2),
        "flat": np.int64([-1, 4]),
        "ends": np.int64([-1]),
    }
    steps = [
        ("Slice", [name, "zero", "four", "one"], "centred", {}),
        ("Slice", [name, "four", "end", "one"], "scores", {}),
        ("Slice", ["centred", "zero", "two", "one"], "middles", {}),
        ("Slice", ["centred", "two", "four", "one"], "sides", {}),
        ("Mul", ["sides", "half"], "halves", {}),
        ("Sub", ["middles", "halves"], "low", {}),
        ("Add", ["middles", "halves"], "high", {}),
        ("Concat", ["low", "high"], "turned", {"axis": 1}),
        ("Transpose", ["turned"], "corners", {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", ["corners", "scores", "most", "iou", "score"], "found", {}),
        ("Gather", ["found", "class"], "labels", {"axis": 1}),
        ("Gather", ["found", "box"], "rows", {"axis": 1}),
        ("Reshape", ["corners", "flat"], "table", {}),
        ("Gather", ["table", "rows"], "boxes", {"axis": 0}),
        ("GatherND", ["scores", "found"], "best", {}),
        ("Unsqueeze", ["best", "ends"], "column", {}),
        ("Concat", ["boxes", "column"], "dets", {"axis": 1}),
    ]
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    for kind, inputs, output, attributes in steps:
        model.graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["K", 5]))
    model.graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["K"]))
    return model


def do(steps: list[tuple[str, str, str]], folder: Path) -> str:
    """Follow the steps; what the commands print."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = ""
    for what, name, lines in steps:
        path = folder / name
        if what == "sh":
            result = subprocess.run(
                ["bash", "-e", "-c", lines], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
            )
            assert result.returncode == 0, f"{lines}\n{result.stdout}{result.stderr}"
            printed += result.stdout
        elif what == "append":
            path.write_text(path.read_text() + lines)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines)
    return printed


def report(folder: Path, name: str) -> tuple[dict, float]:
    """A report, and the AP in it."""
    found = json.loads((folder / "reports" / f"{name}.json").read_text())
    return found, found["backends"]["onnxruntime"]["accuracy"]["bbox"]["AP"]


def test_walk_1_a_model_that_ends_in_its_nms(repository):
    said = do(walk(1)[1:], repository)
    assert "NonMaxSuppression keeps scores above 0.25 only" in said
    assert "QUESTION decode.categories: [" in said
    assert re.search(r"^results/mine/onnxruntime/preview.html: \d images, \d+ detections", said, re.MULTILINE)
    assert "mine: your yaml gives AP 0." in said and "nothing tried is better" in said
    found, accuracy = report(repository, "mine")
    assert accuracy > 0.45
    assert any("keeps scores above 0.25 only" in line for line in found["warnings"])
    assert "WARNINGS" in said.split("VERDICT", 1)[1][:400], "on the first screen"


def test_walk_2_a_yolo_style_model(repository):
    said = do(walk(2), repository)
    yaml = (repository / "config" / "models" / "yolo.yaml").read_text()
    assert "GUESS:" not in yaml and "QUESTION:" not in yaml
    _, accuracy = report(repository, "yolo")
    assert accuracy > 0.5
    assert "GUESS preprocess.fill: 114" in said and "QUESTION decode.categories" in said
    doctor = (repository / "results" / "plain" / "doctor.txt").read_text()
    assert "nothing tried is better" in doctor.split("\n")[0]


def test_walk_3_a_new_network_with_its_own_decoder(repository):
    do(walk(3), repository)
    found, accuracy = report(repository, "hotspots")
    assert accuracy < 0.02 and {*found["backends"]} == {"onnxruntime", "pytorch"}
    assert any("results/hotspots/doctor.txt" in line for line in found["warnings"])


def test_the_chinese_page_has_the_same_steps():
    page = PAGE.with_name("adding-a-model.zh-CN.md").read_text(encoding="utf-8")
    assert blocks(page) == walk(1)
