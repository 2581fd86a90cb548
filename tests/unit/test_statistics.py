"""Verdicts that allow for chance, and the stage behind them: resample.py on files of a small run."""

import gzip
import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import yaml

import record_reference
import resample
import resampled_truth
from detport import config, detections, provenance, recorded, results, shards, yamlfile
from detport.errors import Failure, UsageError
from detport.metrics import coco
from detport.report import gates, statistics

MARGIN = {"name": "g", "measure": "bbox.AP", "reference": None, "against": "base", "minus": 0, "times": 1}
MARGIN |= {"margin": 0.01, "backends": None}
FIXED = MARGIN | {"margin": None, "against": None, "reference": "guide", "minus": 0.02}
MODEL = {
    "references": [{"name": "guide", "speed": None, "values": {"bbox.AP": 0.4}}],
    "statistics": {"confidence": 0.95},
}


def resampled(values: np.ndarray, value: float, images: str = "same", seed: int = 0) -> dict:
    return {
        "statistics": {"seed": seed, "resamples": len(values)},
        "images": {"counted": 100, "sha256": images},
        "measures": {"bbox.AP": {"value": value, "resamples": values.tolist()}},
    }


def pair(difference: float, spread: float, **other) -> dict[str, dict]:
    """A backend and its baseline, whose difference is spread evenly around its value."""
    noise = np.random.default_rng(0).normal(0, 0.05, 1001)  # common to both
    steps = np.linspace(-spread, spread, 1001)
    return {
        "own": resampled(0.4 + difference + noise + steps, 0.4 + difference),
        "base": resampled(0.4 + noise, 0.4, **other),
    }


def judged(gate: dict, found: dict, images_of: int | None = None, trusted: bool = True) -> dict:
    measured = {name: {"bbox.AP": each["measures"]["bbox.AP"]["value"]} for name, each in found.items()}
    row = gates.judge(gate, "own", measured, MODEL["references"], trusted)
    return statistics.judge(row, gate, found, MODEL, images_of)


@pytest.mark.parametrize(
    ("difference", "spread", "verdict"),
    [
        (0.0, 0.005, "PASS"),
        (-0.008, 0.001, "PASS"),  # worse, but by less than the margin
        (-0.008, 0.01, "UNDECIDED"),
        (-0.012, 0.01, "UNDECIDED"),
        (-0.012, 0.001, "FAIL"),
        (0.02, 0.1, "UNDECIDED"),
    ],
)
def test_the_interval_of_the_difference_decides(difference, spread, verdict):
    """What both have in common, a spread of 0.05, has no part in it."""
    row = judged(MARGIN, pair(difference, spread))
    assert row["verdict"] == verdict
    assert row["required"] == pytest.approx(0.39)
    assert row["interval"]["value"] == pytest.approx(difference)
    assert row["interval"]["low"] == pytest.approx(difference - 0.95 * spread)
    assert row["interval"]["high"] == pytest.approx(difference + 0.95 * spread)
    assert (row["interval"]["images_to_decide"] is not None) == (verdict == "UNDECIDED")
    assert f"of base is {difference:+.4f} (95 % interval {row['interval']['low']:+.4f} to" in row["note"]


def test_the_images_that_would_decide():
    """The margin is 0.002 away and the interval reaches 0.0095: (0.0095 / 0.002)² times as many images."""
    row = judged(MARGIN, pair(-0.008, 0.01))
    assert row["interval"]["images_to_decide"] == pytest.approx(100 * 4.75**2, abs=1)
    assert row["interval"]["images_if_equal"] == pytest.approx(100 * 0.95**2, abs=1)
    assert row["note"].endswith(
        "; about 2,300 images would decide it if the difference stays as it is, about 91 if there is none"
    )
    assert judged(MARGIN, pair(-0.008, 0.01), images_of=500)["note"].endswith(" (the dataset has 500)")
    assert "so near the limit that no number of images would decide it" in judged(MARGIN, pair(-0.01, 0.01))["note"]


def test_resamples_of_other_images_are_not_compared():
    for other in ({"images": "others"}, {"seed": 1}):
        row = judged(MARGIN, pair(0.0, 0.001, **other))
        assert (row["verdict"], row["interval"]) == ("NOT MEASURED", None)
        assert "other images" in row["note"]
    lone = {"own": pair(0.0, 0.001)["own"]}
    assert judged(MARGIN, lone)["verdict"] == "NOT MEASURED"
    assert judged(MARGIN, pair(0.0, 0.001), trusted=False)["verdict"] == "NOT MEASURED"


def test_on_a_sample_only_an_interval_decides():
    """0.4 - 0.02 is asked for. On all images the figure alone decides."""
    steps = np.linspace(-0.01, 0.01, 1001)
    for value, verdict in ((0.395, "PASS"), (0.385, "UNDECIDED"), (0.375, "UNDECIDED"), (0.365, "FAIL")):
        found = {"own": resampled(value + steps, value)}
        row = judged(FIXED, found, images_of=5000)
        assert row["verdict"] == verdict
        assert row["interval"]["value"] == pytest.approx(value - 0.38)
        assert judged(FIXED, found)["verdict"] == ("PASS" if value >= 0.38 else "FAIL")
    speed = FIXED | {"measure": "fps", "minus": 0}
    row = gates.judge(speed, "own", {"own": {"fps": 5.0}}, [MODEL["references"][0] | {"values": {"fps": 4}}], True)
    assert statistics.judge(row, speed, {}, MODEL, 5000)["verdict"] == "PASS"


def test_a_figure_that_most_resamples_lack_has_no_interval():
    values = np.full(100, np.nan)
    values[:50] = 0.5
    assert statistics.interval(0.5, values, 0.95, 10, False) is None
    values[50] = 0.5
    assert statistics.interval(0.5, values, 0.95, 10, False).resamples == 51


def test_an_interval_of_a_figure_is_corrected_for_its_bias():
    """Where the resamples are a quarter of their deviation above the value, both ends move down by half of it."""
    normal = NormalDist()
    values = np.array([normal.inv_cdf((i + 0.5) / 10_000) for i in range(10_000)])
    found = statistics.interval(-0.25, values, 0.95, 10, of_difference=False)
    assert (found.low, found.high) == pytest.approx((-0.5 - 1.96, -0.5 + 1.96), abs=0.01)
    found = statistics.interval(-0.25, values, 0.95, 10, of_difference=True)
    assert (found.low, found.high) == pytest.approx((-1.96, 1.96), abs=0.01)


def test_undecided_is_no_pass():
    assert gates.verdict([{"verdict": "UNDECIDED"}, {"verdict": "PASS"}]) == "UNDECIDED"
    assert gates.verdict([{"verdict": "UNDECIDED"}]) == "UNDECIDED"
    assert gates.verdict([{"verdict": "UNDECIDED"}, {"verdict": "FAIL"}]) == "FAIL"


def test_a_figure_that_is_not_the_evaluators_is_refused():
    found = resampled(np.zeros(3), 0.25)
    statistics.require_agreement("own", found, {"bbox.AP": 0.25})
    with pytest.raises(Failure, match=r"own: bbox.AP is 0.26 in accuracy.json, 0.25 in resampled.json"):
        statistics.require_agreement("own", found, {"bbox.AP": 0.26})


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A dataset, a model and the detections of two shards, as other stages leave them."""
    monkeypatch.chdir(tmp_path)
    truth, rows = resampled_truth.drawn_by_chance(8, seed=9)
    Path("truth.json").write_text(json.dumps(truth))
    Path("images").mkdir()
    dataset = {"kind": "coco", "images": "images", "annotations": "truth.json"}
    Path("config.yaml").write_text(yaml.safe_dump({"models": ["m"], "datasets": {"d": dataset}}))
    model = yaml.safe_load((config.ROOT / "demo/config/models/retinamask.yaml").read_text())
    model |= {"dataset": "d", "statistics": {"resamples": 100}}
    Path("m.yaml").write_text(yaml.safe_dump(model))
    index = [
        image | {"image_id": image["id"], "file": image["file_name"], "bytes": 1, "sha256": ""}
        for image in truth["images"]
    ]
    shards.write_index(Path("index.tsv"), [{key: row[key] for key in shards.INDEX_COLUMNS} for row in index])
    for k in range(2):
        images = [row for row in index if row["image_id"] % 2 == k]
        ids = {row["image_id"] for row in images}
        detections.write(Path(f"{k}.json.gz"), images, [], [row for row in rows if row["image_id"] in ids])
    Path("bare.json").write_text(json.dumps(rows))
    return tmp_path


def made(*source: str, output: str) -> dict:
    arguments = ["--model", "m.yaml", "--index", "index.tsv", "--dataset-config", "config.yaml", "--dataset", "d"]
    resample.main([*arguments, "--measure", "bbox.AP", "segm.AP", "--name", "x", *source, "--output", output])
    return results.read(Path(output), "resampled")


def test_shards_and_recorded_files_are_resampled_alike(run):
    """Their draws are the same, so that of the same detections nothing is left of the difference."""
    own = made("--detections", "0.json.gz", "1.json.gz", output="own.json")
    bare = made("--recorded", "bare.json", output="bare.made.json")
    assert own == bare
    assert len(own["measures"]["bbox.AP"]["resamples"]) == 100
    row = judged(MARGIN, {"own": own, "base": bare})
    assert (row["verdict"], row["interval"]["low"], row["interval"]["high"]) == ("PASS", 0, 0)
    content = json.loads(Path("bare.json").read_text())
    truth = json.loads(Path("truth.json").read_text())
    settings = config.load_model(Path("m.yaml"), "resample")["metric"]
    exact = coco.evaluate(truth, [image["id"] for image in truth["images"]], content, settings, False)
    assert own["measures"]["segm.AP"]["value"] == pytest.approx(exact["segm"]["AP"], abs=1e-12)


def test_recorded_detections_of_something_else_are_refused(run):
    rows = json.loads(Path("bare.json").read_text())
    Path("others.json").write_text(json.dumps([row | {"image_id": 99} for row in rows]))
    Path("classes.json").write_text(json.dumps([row | {"category_id": 99} for row in rows]))
    for name, problem in (
        ("others.json", "has no detection in any of the 8 images"),
        ("classes.json", "has category 99, which the dataset has not"),
        ("0.json.gz", "lacks 4 of the 8 images: 1, 3, 5, 7; a recorded run of the same images is needed"),
        ("truth.json", "neither detections as decode.py writes them nor a list of COCO results"),
        ("m.yaml", "not valid JSON"),
    ):
        with pytest.raises(UsageError, match=problem):
            made("--recorded", name, output="x.json")
    Path("cut.json.gz").write_bytes(gzip.compress(b"[]")[:-4])
    with pytest.raises(UsageError, match="not a whole gzip file of JSON"):
        recorded.read(Path("cut.json.gz"), [1])
    assert not Path("x.json").exists()


def test_no_ground_truth_no_figures():
    model = {"metric": {"kind": "coco"}, "statistics": {"resamples": 100, "seed": 0}}
    assert resample.resampled(None, [1, 2], [], ["bbox.AP"], model, "x")["measures"] == {}


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        (
            "measure: bbox.APs, against: pytorch, margin: 0.01",
            "on a figure that can be resampled, which 'bbox.APs' cannot",
        ),
        ("measure: bbox.AP, margin: 0.01", "expected one of: reference, published figures; against"),
        (
            "measure: bbox.AP, against: pytorch, margin: 0.01, minus: 0.1",
            "not allowed .margin takes the place of minus",
        ),
        ("measure: bbox.AP, against: pytorch", "missing key 'backends'"),
    ],
)
def test_mistakes_in_gates_with_a_margin_are_named(tmp_path, gate, problem):
    path = tmp_path / "m.yaml"
    text = (config.ROOT / "demo/config/models/retinamask.yaml").read_text()
    path.write_text(f"{text}  - {{name: g, {gate}}}\n")
    with pytest.raises(UsageError, match=problem):
        config.load(path, "model")


def test_a_file_of_recorded_detections_is_no_backend(tmp_path):
    path = tmp_path / "m.yaml"
    text = (config.ROOT / "demo/config/models/retinamask.yaml").read_text()
    path.write_text(f"{text}  - {{name: g, measure: bbox.AP, against: runs/old.json.gz, margin: 0.01}}\n")
    config.check_backend_names(path, {"onnxruntime"})
    path.write_text(f"{text}  - {{name: g, measure: bbox.AP, against: pytroch, margin: 0.01}}\n")
    with pytest.raises(UsageError, match="no backend 'pytroch'; did you mean 'pytorch'"):
        config.check_backend_names(path, {"pytorch", "onnxruntime"})


REPORT = {
    "schema": 1,
    "model": "m",
    "dataset": "d",
    "verdict": "PASS",
    "warnings": [],
    "gates": [],
    "backends": {
        "pytorch": {
            "accuracy": {"bbox": {"AP": 0.5}},
            "images": {"indexed": 8, "scored": 8},
            "performance": {"fps": 2.5},
            "simulator": {"accuracy": False, "performance": False},
            "sample": None,
            "figures": {"bbox.AP": 0.123456789012345, "fps": 2.5, "latency_ms.p50": 4.0},
        }
    },
    "provenance": {"date": "2026-01-02T03:04:05", "measured_with": {"checkpoint": "a" * 64, "annotations": "b" * 64}},
}


def recorded_reference(report: dict, capsys) -> tuple[dict, str]:
    Path("report.json").write_text(json.dumps(report))
    given = ["--report", "report.json", "--backend", "pytorch", "--name", "eager: mine"]
    record_reference.main([*given, "--output", "own.yaml"])
    return config.resolved_reference({"file": "own.yaml"}), capsys.readouterr().out


def test_a_recorded_reference_is_read_from_its_file_or_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found, said = recorded_reference(REPORT, capsys)
    assert found["values"] == {"bbox.AP": 0.123456789012345, "fps": 2.5}
    assert (found["name"], found["backend"]) == ("eager: mine", "pytorch")
    assert found["source"] == "own run of d on pytorch, 8 of 8 images, 2026-01-02"
    pasted, _ = yamlfile.parse_yaml("references:" + said.rpartition("references:")[2], "x")
    assert pasted["references"][0]["values"] == found["values"] and pasted["references"][0]["name"] == "eager: mine"


def test_a_reference_of_something_else_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found, _ = recorded_reference(REPORT, capsys)
    own = REPORT["provenance"]["measured_with"]
    assert provenance.mismatch([found], own) is None
    assert provenance.mismatch([found], own | {"checkpoint": "c" * 64}) == (
        "references.0: 'eager: mine' was measured with checkpoint aaaaaaaaaaaa…, this run has cccccccccccc…;"
        " record it again (record_reference.py), or take it out"
    )
    assert "with annotations bbbb" in provenance.mismatch([found], own | {"annotations": "c" * 64})


def test_samples_and_simulators_are_no_reference(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    backend = REPORT["backends"]["pytorch"]
    for changes, problem in (
        ({"sample": {"images": 4, "of": 8}}, "is of a sample of 4 images; record a run of all 8"),
        ({"simulator": {"accuracy": True, "performance": False}}, "come from a simulator"),
    ):
        with pytest.raises(UsageError, match=problem):
            recorded_reference(REPORT | {"backends": {"pytorch": backend | changes}}, capsys)
    with pytest.raises(UsageError, match="has no backend 'pytorch'"):
        recorded_reference(REPORT | {"backends": {"onnxruntime": backend}}, capsys)
