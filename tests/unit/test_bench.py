"""The benchmarks call the library as it is: what is timed runs once here, on small maps."""

import argparse
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import intervals
import postprocess
import psroi_share
from detport import canvases, config, networks
from detport.graph.export import export

SMALL = {"images": 80, "sets": 40, "resamples": 300, "classes": 2, "worse": 0.1, "noise": 0.4, "say": False}
LEVELS = (16, 8, 4, 2, 1)  # map sides at 128
IMAGE = postprocess.IMAGE | {"resized": [128, 96], "scale": 0.2, "pad": [0, 32]}


def test_postprocessing_of_one_image(tmp_path):
    model = config.load_model(postprocess.MODEL_YAML, "decode")
    postprocess.write_compact(tmp_path, postprocess.random_maps(LEVELS, classes=90), model)
    rows = postprocess.ours(tmp_path, model, IMAGE)
    assert len(rows) == model["decode"]["max_detections"]
    assert all(np.isfinite(row["bbox"]).all() and 0 < row["score"] < 1 for row in rows)


@pytest.mark.parametrize("objectness", [True, False])
def test_dense_outputs_of_yolo(objectness):
    table = postprocess.dense_outputs((500, 85 if objectness else 84), objectness)
    rows = postprocess.dense(table, objectness)()
    assert len(rows) == 300 and rows == sorted(rows, key=lambda row: -row["score"])


@pytest.fixture(scope="module")
def rfcn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of the demo's R-FCN, untrained."""
    path = tmp_path_factory.mktemp("rfcn") / "rfcn.onnx"
    yaml = config.ROOT / "demo" / "config" / "models" / "rfcn.yaml"
    model = canvases.select(config.load_model(yaml, "export"), None)
    export(networks.build(model), model, "standard", path)
    return path


def test_share_of_the_pooling(rfcn):
    times = psroi_share.group_times(rfcn, runs=1)
    assert set(times) == {"convolutions", "position-sensitive pooling", "the rest"}
    assert all(time > 0 for time in times.values())


def test_the_products_of_the_map_with_the_masks_are_pooling(rfcn):
    graph = onnx.load(rfcn).graph
    groups = psroi_share.node_groups(graph)
    assert {groups[node.name] for node in graph.node if node.op_type == "MatMul"} == {"position-sensitive pooling"}
    assert {groups[node.name] for node in graph.node if node.op_type == "Conv"} == {"convolutions"}


def test_intervals_cover_simulated_truth(capsys):
    """Of 40 sets, so that their share is known to some 4 %."""
    intervals.cover(argparse.Namespace(**SMALL))
    shares = dict(re.findall(r"^(difference|AP of one) +([0-9.]+) %", capsys.readouterr().out, re.MULTILINE))
    assert 87 <= float(shares["difference"]) <= 100
    assert 80 <= float(shares["AP of one"]) <= 100


def test_two_detectors_apart_in_words(capsys):
    intervals.say(argparse.Namespace(**SMALL), sizes=(64, 500), population=1000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("true AP 0.") and len(lines) == 5
    assert all("of backend less that of baseline is" in line for line in lines[1:])
