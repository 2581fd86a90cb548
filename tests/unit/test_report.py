"""Gates and verdict."""

import argparse
import json
from pathlib import Path

import pytest

import report
from detport import compared, config, made, provenance, timing
from detport.errors import UsageError
from detport.report import gates

REFERENCES = [
    {
        "name": "guide",
        "source": "x",
        "backend": None,
        "speed": None,
        "digests": {},
        "values": {"bbox.AP": 0.279, "fps": 4.3},
    },
]
GATE = {
    "name": "box AP",
    "measure": "bbox.AP",
    "reference": "guide",
    "against": None,
    "minus": 0.003,
    "times": 1,
    "margin": None,
    "backends": None,
}
ACCURACY = {"accuracy": {"bbox": {"AP": 0.28, "AP50": 0.5, "per_class": {"cat": 0.1}}}}
NO_DOUBTS = {"turned": [], "silent": [], "objects": 9, "tiny": 0, "readings": []}
PERFORMANCE = {"fps": 5.0, "latency_ms": {"mean": 200.0, "p50": 199.0}}


def judged(measured: float | None, trusted: bool = True, **changes) -> dict:
    figures = {} if measured is None else {GATE["measure"]: measured, "fps": measured}
    return gates.judge(GATE | changes, "onnxruntime", {"onnxruntime": figures}, REFERENCES, trusted)


def test_figures_have_the_names_that_gates_use():
    assert gates.figures(ACCURACY, PERFORMANCE) == {
        "bbox.AP": 0.28,
        "bbox.AP50": 0.5,
        "fps": 5.0,
        "latency_ms.mean": 200.0,
        "latency_ms.p50": 199.0,
    }


@pytest.mark.parametrize(("measured", "verdict"), [(0.276, "PASS"), (0.2759, "FAIL"), (None, "NOT MEASURED")])
def test_gate(measured, verdict):
    row = judged(measured)
    assert row["verdict"] == verdict
    assert row["required"] == pytest.approx(0.276)


@pytest.mark.parametrize(("allowed", "verdict"), [(0, "NOT MEASURED"), (1, "NOT MEASURED"), (2, "PASS"), (3, "PASS")])
def test_as_many_skipped_images_as_the_yaml_allows(tmp_path, allowed, verdict):
    """Two of eighty were skipped; the figures are over the others, and the report names them whatever the verdict."""
    skipped = [{"image_id": i, "file": f"{i}.jpg", "reason": "cannot be decoded"} for i in (7, 8)]
    accuracy = ACCURACY | {
        "images": {"indexed": 80, "scored": 78, "skipped": skipped},
        "annotations": {"file": "truth.json", "sha256": "0" * 64},
        **{"images_counted": 78, "too_large": [], "cross_checked": False, "schema": 1, "metric": {}, "detections": 9},
        **{"simulator": False, "unscored": {}, "sample": None, "doubts": NO_DOUBTS},
    }
    performance = PERFORMANCE | {
        **{"schema": 1, "canvas": "8x8", "other_canvases": [], "fps_is": "x", "batch": 1, "runs": 9, "timed": "x"},
        **{"input": "x", "machine": {"processor": "x", "cores": 1}, "versions": {}, "date": "x"},
    }
    model = {"name": "m", "title": "t", "dataset": "d", "allowed_skips": allowed, "references": REFERENCES}
    model |= {"metric": {"kind": "coco", "images": "all"}, "parity": {}, "statistics": {"confidence": 0.95}}
    analysis = {"schema": 1, "analysis": None}
    for name, content in (("accuracy", accuracy), ("analysis", analysis), ("performance", performance)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    args = argparse.Namespace(
        accuracy=[tmp_path / "accuracy.json"],
        analysis=[tmp_path / "analysis.json"],
        performance=[tmp_path / "performance.json"],
        **{"files": [], "patches": [], "calibration": [], "parity": [], "resampled": [], "detections": []},
        **{"command": "", "words": []},
    )
    found = report.assemble(model | {"gates": [GATE]}, {"onnxruntime": "ONNX Runtime"}, {"trail": []}, args)
    assert found["gates"][0]["verdict"] == found["verdict"] == verdict
    assert found["backends"]["onnxruntime"]["images"]["skipped"] == skipped


def test_gate_with_a_factor():
    assert judged(5.1, measure="fps", times=1.2, minus=0)["verdict"] == "FAIL"
    assert judged(5.2, measure="fps", times=1.2, minus=0)["verdict"] == "PASS"


def test_accuracy_over_too_few_images_is_not_measured_but_speed_is():
    assert judged(0.9, trusted=False)["verdict"] == "NOT MEASURED"
    assert judged(9.0, trusted=False, measure="fps")["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["PASS", "PASS"], "PASS"),
        (["PASS", "FAIL", "NOT MEASURED"], "FAIL"),
        (["PASS", "NOT MEASURED"], "UNDECIDED"),
        (["NOT MEASURED"], "NOT MEASURED"),
        ([], "NO GATES"),
    ],
)
def test_verdict(verdicts, expected):
    assert gates.verdict([{"verdict": verdict} for verdict in verdicts]) == expected


@pytest.mark.parametrize(
    ("verdicts", "expected"), [([], "NOT MEASURED"), (["PASS"], "NOT MEASURED"), (["FAIL"], "FAIL")]
)
def test_what_was_not_scored_cannot_pass(verdicts, expected):
    """Its speed alone can fail."""
    assert gates.verdict([{"verdict": verdict} for verdict in verdicts], scored=False) == expected


def test_gates_of_other_backends_only_are_not_no_gates():
    """The model asks for something; this run could not tell."""
    model = {"gates": [GATE | {"backends": ["ascend310"]}], "references": REFERENCES}
    found = report.judged(model, {"onnxruntime": {"bbox.AP": 0.9}}, {"onnxruntime": True})
    assert (found["verdict"], found["gates"]) == ("NOT MEASURED", [])
    assert report.judged(model | {"gates": []}, {"onnxruntime": {}}, {"onnxruntime": True})["verdict"] == "NO GATES"


@pytest.mark.parametrize("minus", [0.003, 5.0])
def test_nothing_to_find_is_not_measured(minus):
    """Where the ground truth has no large object, COCO's tools give -1 for APl; with minus: 5 that would pass."""
    figures = gates.figures({"accuracy": {"bbox": {"AP": 0.28, "APl": -1.0, "per_class": {"cat": -1.0}}}}, None)
    assert figures == {"bbox.AP": 0.28}
    gate = GATE | {"measure": "bbox.APl", "minus": minus}
    references = [REFERENCES[0] | {"values": {"bbox.APl": 0.4}}]
    row = gates.judge(gate, "onnxruntime", {"onnxruntime": figures}, references, trusted=True)
    assert (row["measured"], row["ratio"], row["verdict"]) == (None, None, "NOT MEASURED")


def test_a_reference_with_nothing_to_find_is_refused(tmp_path):
    path = tmp_path / "gfocalv2.yaml"
    published = (config.ROOT / "config" / "models" / "gfocalv2.yaml").read_text()
    path.write_text(published.replace("{bbox.AP: 0.406}", "{bbox.AP: 0.406, bbox.APl: -1}"))
    with pytest.raises(UsageError, match=r"references\.1\.values\.bbox\.APl: -1 is less than .* \(a figure"):
        config.load(path, "model")


def test_a_gate_must_name_a_reference_that_holds_its_figure():
    model = {"references": REFERENCES, "gates": [GATE | {"reference": "gide"}]}
    assert "no reference 'gide'; expected one of guide" in gates.check_references(model, "m.yaml")
    model = {"references": REFERENCES, "gates": [GATE | {"measure": "bbox.AP75"}]}
    assert "'guide' has no 'bbox.AP75'; it has bbox.AP, fps" in gates.check_references(model, "m.yaml")
    assert gates.check_references({"references": REFERENCES, "gates": [GATE]}, "m.yaml") is None


FASTER = GATE | {"measure": "fps", "reference": None, "against": "slow", "backends": ["fast"], "minus": 0, "times": 1.2}


@pytest.mark.parametrize(
    ("fast", "slow", "verdict"),
    [(12.0, 10.0, "PASS"), (11.9, 10.0, "FAIL"), (None, 1.0, "NOT MEASURED"), (1.0, None, "NOT MEASURED")],
)
def test_gate_against_another_backend(fast, slow, verdict):
    measured = {name: {} if fps is None else {"fps": fps} for name, fps in (("fast", fast), ("slow", slow))}
    row = gates.judge(FASTER, "fast", measured, REFERENCES, True)
    assert row["verdict"] == verdict
    assert row["required"] == (None if slow is None else pytest.approx(1.2 * slow))
    assert row["ratio"] == (None if verdict == "NOT MEASURED" else pytest.approx(fast / slow))


def test_a_gate_is_asked_where_both_of_its_backends_run():
    assert compared.asked(GATE, "any", ["any"])
    assert compared.asked(FASTER, "fast", ["slow", "fast"])
    assert not compared.asked(FASTER, "fast", ["fast"])
    assert not compared.asked(FASTER, "slow", ["slow", "fast"])
    close = FASTER | {"margin": 0.1, "backends": None}
    assert compared.asked(close, "fast", ["slow", "fast"]) and not compared.asked(close, "slow", ["slow", "fast"])
    assert compared.asked(close | {"against": "old.json"}, "slow", ["slow"]), "a file is always there"


@pytest.mark.parametrize(
    ("speed", "fps", "arithmetic"),
    [
        ({"latency_ms": 223.21, "devices": 4, "batch": 1}, 17.92, "4 x 1000/223.21"),
        ({"latency_ms": 28.99, "devices": 1, "batch": 1}, 34.49, "1000/28.99"),
        ({"latency_ms": 200, "devices": 1, "batch": 8}, 40, "8 x 1000/200"),
        ({"latency_ms": 200, "devices": 4, "batch": 8}, 160, "4 x 8 x 1000/200"),
        ({"fps_per_device": 1.50578, "devices": 4, "batch": 1}, 6.02, "4 x 1.50578"),
        ({"images": 4952, "seconds": 1370, "devices": 1, "batch": 1}, 3.61, "4952/1370"),
    ],
)
def test_published_speeds(speed, fps, arithmetic):
    found = gates.published_fps(speed)
    assert (round(found[0], 2), found[1]) == (fps, arithmetic)


PUBLISHED = config.load(config.ROOT / "config" / "models" / "gfocalv2.yaml", "model")


def test_what_the_guides_numbers_say():
    """The guide of GFocalV2 prints 17.92 fps, 34.49 fps, 1.92 and 3.67."""
    found = {each["name"]: gates.published_figures(each) for each in PUBLISHED["references"]}
    assert round(found["guide 310"]["fps"], 2) == 17.92
    assert round(found["guide 310P"]["fps"], 2) == 34.49
    rows = {row["name"]: row for row in gates.published(PUBLISHED["gates"], PUBLISHED["references"])}
    assert rows.keys() == {"310P against 310", "310P against T4"}
    assert [round(row["ratio"], 2) for row in rows.values()] == [1.92, 3.67]
    assert {(row["verdict"], row["basis"]) for row in rows.values()} == {("PASS", "published")}
    failing = [gate | {"times": 2.0} for gate in PUBLISHED["gates"] if gate["name"] == "310P against 310"]
    assert [row["verdict"] for row in gates.published(failing, PUBLISHED["references"])] == ["FAIL"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("latency_ms: 28.99", "latency: 28.99", "references.3.speed.latency: unknown key; did you mean 'latency_ms'?"),
        ("latency_ms: 28.99", "devices: 2", "references.3.speed: expected one of: latency_ms (with devices, batch)"),
        ("latency_ms: 28.99", "latency_ms: 0", "references.3.speed.latency_ms: 0"),
        (
            "against: ascend310,",
            "against: ascend310, reference: guide 310,",
            "gates.1: expected one of: reference, pub",
        ),
        (
            "against: ascend310, ",
            "",
            "gates.1: expected one of: reference, published figures; against, another backend",
        ),
        ("backends: [ascend310p], against", "against", "gates.1: missing key 'backends'"),
    ],
)
def test_mistakes_in_references_and_gates_are_named(tmp_path, old, new, expected):
    whole = (config.ROOT / "config" / "models" / "gfocalv2.yaml").read_text()
    assert old in whole
    path = tmp_path / "model.yaml"
    path.write_text(whole.replace(old, new, 1))
    with pytest.raises(UsageError) as refusal:
        config.load(path, "model")
    assert expected in str(refusal.value)
    assert str(refusal.value).startswith(f"{path}:")


def test_fps_is_stated_or_computed_but_not_both():
    twice = [reference | {"values": {"fps": 1.0}} for reference in PUBLISHED["references"]]
    message = gates.check_references({"references": twice, "gates": []}, "m.yaml")
    assert message == "m.yaml: references.2.values.fps: follows from speed; leave one of them out"


@pytest.mark.parametrize("runs", [1, 7, 200, 1001])
def test_latencies_over_time_are_bounded_and_lose_nothing(runs):
    seconds = [0.01 + 0.001 * (i % 5) for i in range(runs)]
    found = timing.over_time(seconds)
    histogram, trace = found["latency_histogram"], found["latency_trace"]
    assert sum(histogram["runs"]) == runs and len(histogram["edges_ms"]) == len(histogram["runs"]) + 1
    assert len(trace["seconds"]) == len(trace["ms"]) == min(runs, timing.POINTS)
    assert trace["seconds"][-1] == pytest.approx(sum(seconds), abs=1e-3)
    assert 10 <= min(trace["ms"]) <= max(trace["ms"]) <= 14


def test_an_interrupted_run_does_not_squeeze_the_histogram():
    found = timing.over_time([0.01] * 500 + [0.02] * 500 + [5.0])
    assert found["latency_histogram"]["edges_ms"][-1] == pytest.approx(20)
    assert found["latency_histogram"]["runs"][-1] == 501


def test_what_each_stage_took_counts_a_job_of_several_files_once(tmp_path):
    for shard, seconds in (("0", 1.0), ("1", 2.0)):
        path = tmp_path / f"{shard}.json.gz"
        path.write_text(shard)
        record = made.begin({"stage": "decode", "settings": {"shard": shard}, "code": "", "versions": {}}, {})
        made.write(
            made.record_file(path), record | {"seconds": {"infer": seconds, "decode": 0.5}, "memory": {"decode": 7}}
        )
    both = made.begin({"stage": "patch", "settings": {}, "code": "", "versions": {}}, {})
    for name in ("patched.onnx", "patches.json"):
        made.write(tmp_path / f"{name}.made", both | {"seconds": {"patch": 3.0}, "memory": {"patch": 9}})
    names = ("0.json.gz", "1.json.gz", "patched.onnx", "patches.json", "no such file")
    assert provenance.took([tmp_path / name for name in names]) == [
        {"stage": "infer", "jobs": 2, "seconds": 3.0, "peak_bytes": 0},
        {"stage": "decode", "jobs": 2, "seconds": 1.0, "peak_bytes": 7},
        {"stage": "patch", "jobs": 1, "seconds": 3.0, "peak_bytes": 9},
    ]


def recorded(path: Path, family: str, peak: int | None, sources: dict, device: str = "") -> Path:
    """Detections whose outputs a backend of this family has made, or that were brought."""
    recipe = {"settings": {"backend": {"family": family}}}
    record = made.begin({"stage": "decode", "settings": {}, "code": "", "versions": {}}, {}, sources)
    record |= {"recipes": {"infer": recipe}, "memory": {} if peak is None else {"infer": peak}}
    record["trail"] = [{"stage": "infer"} | ({"device": device} if device else {})]
    path.write_text("")
    made.put(record, path)
    return path


def test_the_memory_is_the_most_of_a_process_of_infer_where_it_held_the_model(tmp_path):
    files = [recorded(tmp_path / f"{peak}", "onnxruntime", peak, {}) for peak in (70, 90, 80)]
    assert provenance.memory(files) == 90
    assert provenance.memory([recorded(tmp_path / "chip", "ascend", 90, {})]) is None
    assert provenance.memory([recorded(tmp_path / "gpu", "pytorch", 90, {}, "cuda:0")]) is None
    old = recorded(tmp_path / "old", "onnxruntime", None, {})
    record = made.read(old)
    made.write(made.record_file(old), {key: value for key, value in record.items() if key != "memory"})
    assert provenance.memory([old]) is None and provenance.took([old])[0]["peak_bytes"] == 0
    brought = {"outputs": {"files": {}, "sha256": "0"}}
    assert provenance.memory([recorded(tmp_path / "brought", "onnxruntime", 90, brought)]) is None


def test_figures_are_compared_with_every_reference():
    references = [*REFERENCES, REFERENCES[0] | {"name": "paper", "values": {"bbox.AP": 0.0}}]
    rows = gates.compared(references, {"onnxruntime": {"bbox.AP": 0.28}})
    assert [(row["figure"], row["of"], row["difference"], row["ratio"]) for row in rows] == [
        ("bbox.AP", "guide", 0.001, pytest.approx(1.003584)),
        ("fps", "guide", None, None),
        ("bbox.AP", "paper", 0.28, None),
    ]
