"""The benchmarks call the library as it is: what is timed runs once here. What is measured is in the page."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import backends
import claims
import full_size
import intervals
import psroi_share
import rows_decode
import rows_models
import rows_sessions
import sessions
import side_by_side
from detport import canvases, config, memory, networks, outputs
from detport.errors import UsageError
from detport.graph.export import export

SMALL = {"images": 80, "sets": 40, "resamples": 300, "classes": 2, "worse": 0.1, "noise": 0.4, "say": False}
DEMO = config.ROOT / "demo"
YOLO = DEMO / "weights" / "yolo.onnx"
LEVELS = (16, 8, 4, 2, 1)  # map sides at 128
PLACED = {"resized": [128, 96], "scale": 0.2, "pad": [0, 32]}
ROW = side_by_side.Row("is", "it", lambda folder: None, required=3)


def test_the_pages_have_the_figures_that_were_measured():
    for path in claims.PAGES:
        assert claims.page(path) == path.read_text(encoding="utf-8"), "make bench writes them"
    known = json.loads(claims.MEASURED.read_text(encoding="utf-8"))["claims"]
    assert list(known) == [name for name in map(claims.label, claims.rows()) if name in known]


def test_ratios_of_pairs_are_above_one_where_ours_is_better():
    measured = side_by_side.of_pairs([(1, 4), (2, 4), (2, 6)], "ms")
    assert measured == ([4, 2, 3], 2, 4, "ms")
    kept = claims.entry(ROW, measured)
    assert (kept["ratio"], kept["low"], kept["high"]) == (3, 2.5, 3.5)
    assert claims.holds(kept) and not claims.holds(claims.entry(ROW._replace(most=1), measured))


def test_turns_count_the_processor_time_of_programs():
    command = [sys.executable, "-c", "sum(range(1_000_000))"]
    measured = side_by_side.turns(lambda: subprocess.run(command, check=True), lambda: None, rounds=1)
    assert measured.ours > 5 > measured.other


def test_a_peak_is_that_of_the_program_alone():
    rest = np.ones(40_000_000, np.int8)  # which a child of this process would begin with
    assert side_by_side.peak([sys.executable, "-c", "pass"]) < 40 < len(rest)


def test_a_process_tells_its_own_peak():
    rest = np.ones(40_000_000, np.int8)  # which `getrusage` of a child would begin with
    command = "import side_by_side as s; print(s.own_peak_mb())"
    path = {"PYTHONPATH": str(claims.BENCH)}
    said = subprocess.run([sys.executable, "-c", command], env=path, check=True, stdout=subprocess.PIPE)
    assert 10 < float(said.stdout) < side_by_side.own_peak_mb() and len(rest)


def test_what_a_machine_cannot_measure_is_told(monkeypatch, capsys):
    def refuse(core: object, backend: dict) -> None:
        raise UsageError(f"{backend['name']}: Some CPU has no bf16")

    monkeypatch.setattr(rows_models, "require_device", refuse)
    row = next(row for row in rows_models.ROWS if "bfloat16" in row.name)
    kept = claims.outcome(row)
    assert kept == {"not_measured": "openvino_bf16: Some CPU has no bf16", "slow": True}
    assert claims.line("bf16", kept) == "bf16: NOT MEASURED: openvino_bf16: Some CPU has no bf16"
    assert claims.cells("bf16", kept)[:3] == ("bf16", "NOT MEASURED", "openvino_bf16: Some CPU has no bf16")
    measured = claims.entry(ROW, side_by_side.Measured([1.0], 1, 1))
    for known in (kept, measured):  # there, and on another machine
        assert not list(claims.lost([row], {claims.label(row): known}))
    assert capsys.readouterr().out.count("NOT MEASURED") == 1


@pytest.mark.parametrize(("stage", "key"), [("export", "onnxruntime"), ("infer", "openvino")])
def test_a_peak_beside_its_estimate(stage, key, monkeypatch, tmp_path):
    yaml = config.ROOT / "config" / "models" / "gfocalv2.yaml"
    taken = backends.Taken([1.0], 1000.0, 1)
    monkeypatch.setattr(rows_models, "taken", lambda model, key: taken)
    monkeypatch.setattr(full_size, "prepare", lambda *model: full_size.Prepared(yaml, {"export": 1000.0}))
    measured = rows_models.estimated(stage, ("gfocalv2", ""), key)(tmp_path)
    backend = config.load_backend(full_size.backend_yaml(key))
    assert measured.other == memory.job_mb(stage, config.load(yaml, "model"), backend)  # no such file: the usual size
    assert measured.ratios == [measured.other / 1000] and measured.unit == "MB"


def test_a_model_runs_on_a_backend_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "ROUNDS", 2)
    truth = json.loads((DEMO / "data" / "annotations" / "instances.json").read_text(encoding="utf-8"))["images"][0]
    row = f"{truth['id']}\t{truth['file_name']}\t{truth['width']}\t{truth['height']}\t1"
    (tmp_path / "index.tsv").write_text(f"image_id\tfile\twidth\theight\tbytes\n{row}\n", encoding="utf-8")
    yaml = tmp_path / "yolo.yaml"
    yaml.write_bytes((DEMO / "config" / "models" / yaml.name).read_bytes())
    peaks: dict[str, float] = {}
    images = ("--index", tmp_path / "index.tsv", "--images", DEMO / "data" / "images", "--output", tmp_path / "shard")
    full_size.run(peaks, "preprocess", "--model", yaml, *images, "--shard", "0/1")
    assert 30 < peaks["preprocess"] < 300
    monkeypatch.setattr(full_size, "prepare", lambda *model: full_size.Prepared(yaml, peaks))
    monkeypatch.setattr(full_size, "compiled", lambda model, key: YOLO)
    found = backends.in_turns((("yolo", ""),), ("onnxruntime", "openvino"))
    assert list(found) == [("yolo", "", "onnxruntime"), ("yolo", "", "openvino")]
    declared = outputs.size(config.load(yaml, "model")["outputs"])
    for taken in found.values():
        assert len(taken.milliseconds) == 2 * backends.RUNS and min(taken.milliseconds) > 0
        assert taken.bytes == declared and 50 < taken.peak_mb < 500


def test_settings_of_a_session_in_turns():
    chosen = [sessions.DEFAULT, rows_sessions.OTHERS["arena: false"]]
    taken, peaks = sessions.in_turns(str(YOLO), chosen, 2)
    assert list(taken) == list(peaks) == ["as it is", "arena: false"]
    assert all(len(found) == 2 and min(found) > 0 for found in taken.values()) and min(peaks.values()) > 50


@pytest.mark.parametrize(("where", "said"), [("here", "json: is"), ("there", "(of there, this is here: ratios differ")])
def test_a_loss_beside_another_processors_table_says_so(where, said, monkeypatch):
    monkeypatch.setattr(claims, "processor", lambda: "here")
    row = ROW._replace(measure=lambda folder: side_by_side.Measured([0.5], 1, 1))
    known = {claims.label(row): claims.entry(row, side_by_side.Measured([1.0], 1, 1))}
    assert said in claims.check([row], {"processor": where, "claims": known})


@pytest.mark.parametrize(("ratio", "losses"), [(0.79, 1), (0.81, 0)])
def test_a_loss_of_more_than_a_fifth_is_told(ratio, losses, capsys):
    row = ROW._replace(measure=lambda folder: side_by_side.Measured([ratio], 1, ratio))
    known = {claims.label(row): claims.entry(row, side_by_side.Measured([1.0], 1, 1))}
    found = list(claims.lost([row], known))
    assert len(found) == losses and all("is / it" in text for text in found)
    assert capsys.readouterr().out.count("is / it") == 1 + losses  # it is measured twice before it is told


@pytest.mark.parametrize("make", [rows_decode.retinamask, rows_decode.gfocalv2, rows_decode.rfcn])
def test_decoding_of_a_model(make, tmp_path):
    model = rows_decode.published(make.__name__)
    rows = rows_decode.decoding(tmp_path, *make(np.random.default_rng(0)), model)()
    assert len(rows) > 80 and all(np.isfinite(row["bbox"]).all() and 0 < row["score"] < 1 for row in rows)


def test_decoding_of_efficientdet(tmp_path):
    model = config.load_model(rows_decode.MODELS / "efficientdet_d7.yaml", "decode")
    maps = rows_decode.random_maps(LEVELS, 90, np.random.default_rng(0))
    rows = rows_decode.decoding(tmp_path, rows_decode.compact(maps, model), PLACED, model)()
    assert len(rows) == model["decode"]["max_detections"]
    assert all(np.isfinite(row["bbox"]).all() and 0 < row["score"] < 1 for row in rows)


@pytest.mark.parametrize("objectness", [True, False])
def test_decoding_of_yolo(objectness, tmp_path):
    rows = rows_decode.decoding(tmp_path, *rows_decode.yolo((500, 85 if objectness else 84), objectness))()
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
