"""Gates and verdict."""

import argparse
import json

import pytest

import report
from detport import compared, config, made, provenance, timing
from detport.errors import UsageError
from detport.report import gates, text

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


def test_images_too_large_are_counted_and_named():
    assert text.too_large_lines([], 80) == ["IMAGES TOO LARGE FOR THE NETWORK INPUT: none"]
    cropped = [{"image_id": f"{i}", "file": f"{i}.jpg", "too_large": "crop"} for i in range(text.LISTED + 3)]
    fitted = {"image_id": "x", "file": "it's.jpg", "too_large": "fit"}
    head, fit, crop = text.too_large_lines([fitted, *cropped], 80)
    assert head == f"IMAGES TOO LARGE FOR THE NETWORK INPUT: {text.LISTED + 4} of 80"
    assert fit == """  made smaller to fit it: "it's.jpg\""""
    assert crop.startswith("  cropped to it, so that objects may be lost: '0.jpg', '1.jpg'") and crop.endswith("… (+3)")


def test_patches_say_what_they_changed_and_what_they_cost():
    lossy = {"name": "pad_maxpool_with_zero", "matches": 34, "changed": {}}
    lossy["effect"] = {"logits": {"largest": 5.0, "mean": 0.5}, "index": {"exchanged": 9, "of": 50}}
    int32 = {"name": "int64_to_int32", "matches": 16, "changed": {"initializer": 16, "beyond_int32": 1}, "effect": None}
    assert text.patch_lines("ascend310", [{"canvas": "64x64", "patches": [lossy, int32]}]) == [
        "PATCHES of the graph for ascend310",
        "  pad_maxpool_with_zero in 34 places (canvas 64x64)",
        "    lossy: logits differs by up to 5, mean 0.5 (random image, ONNX Runtime, optimisations off)",
        "    lossy: 9 of 50 rows of index are others; differences are of those that stay"
        " (random image, ONNX Runtime, optimisations off)",
        "  int64_to_int32 in 16 places, 16 initializer, 1 beyond_int32 (canvas 64x64)",
    ]
    assert text.patch_lines("onnxruntime", [{"canvas": None, "patches": []}]) == []


def test_the_provenance_is_what_each_stage_said_of_itself():
    step = {"stage": "decode", "versions": {"numpy": "2.3.5", "python": "3.11.2"}, "threads": 1, "processor": "a CPU"}
    brought = {"outputs behind results/m/ascend310/accuracy.json": {"files": 20, "sha256": "0" * 64}}
    provenance = {"sha256": {"w.pth": "1" * 64}, "brought": brought, "stages": [step], "command": "x", "date": "y"}
    assert text.provenance_lines(provenance) == [
        "PROVENANCE",
        f"  {'1' * 64}  w.pth",
        f"  BROUGHT from another machine: outputs behind results/m/ascend310/accuracy.json, 20 files, {'0' * 64}",
        "  decode: a CPU, threads 1; numpy 2.3.5, python 3.11.2",
        "  command: x",
        "  date: y",
    ]


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
    model |= {"metric": {"kind": "coco"}, "parity": {}, "statistics": {"confidence": 0.95}}
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


def written_report(speeds: dict[str, float], accuracy_simulated: bool = False) -> tuple[dict, str]:
    """JSON and text of a report over the given backends, that run at these fps and have the guide's accuracy."""
    numbers = dict.fromkeys(
        ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "AR300", "AR1000", "ARs", "ARm", "ARl"], 0.4061
    )
    backends = {
        name: {
            "title": name,
            "accuracy": {"bbox": numbers | {"per_class": {"cat": 0.4}}},
            "images": {"indexed": 5000, "scored": 5000, "skipped": []},
            "images_counted": 4952,
            **{
                "too_large": [],
                "patches": [],
                "calibration": [],
                "detections": 9,
                "unscored": {},
                "sample": None,
                "doubts": NO_DOUBTS,
            },
            "parity": None,
            "cross_checked": False,
            "simulator": {"accuracy": accuracy_simulated, "performance": False},
            "performance": {
                "fps": fps,
                "fps_is": "x",
                "canvas": "800x1216",
                "other_canvases": [
                    {
                        "canvas": "1216x800",
                        "fps": fps + 1,
                        "latency_ms": dict.fromkeys(("mean", "p50", "p90", "p99"), 1000 / fps),
                    }
                ],
                "latency_ms": dict.fromkeys(("mean", "p50", "p90", "p99"), 1000 / fps),
                **dict.fromkeys(("runs", "seconds", "warmup_runs", "batch", "threads"), 1),
                "timed": "x",
                "input": "x",
                "machine": {"processor": "x", "cores": 1, "load_before": 0.0},
                "versions": {},
            },
        }
        for name, fps in speeds.items()
    }
    for backend in backends.values():
        backend["intervals"] = {}
        backend["figures"] = gates.figures({"accuracy": backend["accuracy"]}, backend["performance"])
    measured = {name: backend["figures"] for name, backend in backends.items()}
    found = report.judged(PUBLISHED, measured, dict.fromkeys(backends, True))
    found |= {"model": "gfocalv2", "title": "x", "backends": backends, "warnings": [], "parity": []}
    found |= {"provenance": {"sha256": {}, "brought": {}, "stages": [], "command": "", "date": ""}}
    return found, text.render(found, PUBLISHED["metric"] | {"images": "annotated"})


def test_a_table_has_words_to_the_left_and_numbers_to_the_right():
    rows = [["disc", 0.5, 7], ["a long name", None, 1000]]
    table = {"title": "t", "columns": ["class", "AP", "count"], "rows": rows, "digits": 2, "notes": ["n"]}
    assert text.table_lines(table) == [
        "t",
        "  class          AP  count",
        "  disc         0.50      7",
        "  a long name     -   1000",
        "n",
    ]


def test_backends_are_side_by_side_and_no_line_is_too_long():
    """Five of them, a column each; of twelve the table goes on below."""
    names = ["pytorch", "onnxruntime", "onnxruntime_fp16", "onnxruntime_int8", "ascend310p"]
    lines = written_report({name: 10.0 + i for i, name in enumerate(names)})[1].splitlines()
    start = lines.index("BACKENDS SIDE BY SIDE")
    assert lines[start + 1].split() == names
    table = {line.split()[0]: line.split()[1:] for line in lines[start + 2 : start + 8]}
    assert table["bbox.AP"] == ["0.4061"] * 5
    assert table["fps"] == [f"{10 + i}.0000" for i in range(5)]
    assert "APs" not in " ".join(table), "every figure is in the backend's own table"
    many = [f"onnxruntime_number_{i}" for i in range(12)]
    block = written_report(dict.fromkeys(many, 1.0))[1].split("BACKENDS SIDE BY SIDE\n")[1].split("\n\n")[0]
    assert max(map(len, block.splitlines())) <= text.WIDTH
    assert [word for word in block.split() if word in many] == many
    assert "SIDE BY SIDE" not in written_report({"onnxruntime": 1.0})[1]


def test_a_simulators_accuracy_is_marked_beside_a_devices_speed():
    """Outputs of a simulator and a log of a device: the head names the backend, and the mark is at the accuracy."""
    _, lines = written_report({"ascend310": 17.92}, accuracy_simulated=True)
    assert "!! FIGURES OF ascend310 COME FROM A SIMULATOR" in lines
    assert "FROM A SIMULATOR, NOT FROM A DEVICE: this accuracy" in lines
    assert "NOT FROM A DEVICE: this speed" not in lines
    assert "SIMULATOR" not in written_report({"ascend310": 17.92})[1]


def test_report_of_a_run_without_the_guides_backends():
    found, lines = written_report({"onnxruntime": 0.5})
    assert found["verdict"] == "PASS"
    assert [row["name"] for row in found["gates"]] == ["box AP"]
    assert [gate["name"] for gate in found["gates_not_asked"]] == ["310P against 310", "310P against T4"]
    for part in (
        "    figure  IoU        area    detections  value\n    AP      0.50:0.95  all            100  0.406\n",
        "images that count: 4952, without those that have no annotation or a side under 32 px (metric.images: anno",
        "guide 310: 17.92 fps = 4 x 1000/223.21  (the factor 4 is arithmetic: one of 4 devices was timed)",
        "guide 310P: 34.49 fps = 1000/28.99\n",
        "guide T4: 9.4 fps, as published",
        "PASS (published)  310P against 310: fps 34.49/17.92 = 1.92, at least 1.2;",
        "PASS (published)  310P against T4: fps 34.49/9.4 = 3.67, at least 1.6;",
        "not asked    310P against 310: for ascend310p against ascend310, not in this run",
        "canvas 1216x800: 1.50 fps",
        "0.4100",
        "0.4060",
    ):
        assert part in lines, part


@pytest.mark.parametrize(
    ("speeds", "verdicts", "verdict"),
    [
        ({"ascend310p": 34.0}, {"310P against T4": "PASS"}, "PASS"),
        ({"ascend310p": 15.0}, {"310P against T4": "FAIL"}, "FAIL"),
        ({"ascend310": 18.0}, {}, "PASS"),
        ({"ascend310p": 30.0, "ascend310": 18.0}, {"310P against 310": "PASS", "310P against T4": "PASS"}, "PASS"),
        ({"ascend310p": 20.0, "ascend310": 18.0}, {"310P against 310": "FAIL", "310P against T4": "PASS"}, "FAIL"),
    ],
)
def test_the_same_gates_judge_measured_numbers(speeds, verdicts, verdict):
    found, lines = written_report(speeds)
    assert {row["name"]: row["verdict"] for row in found["gates"] if row["name"] != "box AP"} == verdicts
    assert found["verdict"] == verdict
    assert [row["verdict"] for row in found["published"]] == ["PASS", "PASS"]
    if "310P against 310" in verdicts:
        assert f"from ascend310, {speeds['ascend310p'] / speeds['ascend310']:.2f} times as much" in lines


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
        made.write(made.record_file(path), record | {"seconds": {"infer": seconds, "decode": 0.5}, "peak_bytes": 7})
    both = made.begin({"stage": "patch", "settings": {}, "code": "", "versions": {}}, {})
    for name in ("patched.onnx", "patches.json"):
        made.write(tmp_path / f"{name}.made", both | {"seconds": {"patch": 3.0}, "peak_bytes": 9})
    names = ("0.json.gz", "1.json.gz", "patched.onnx", "patches.json", "no such file")
    assert provenance.took([tmp_path / name for name in names]) == [
        {"stage": "infer", "jobs": 2, "seconds": 3.0, "peak_bytes": 0},
        {"stage": "decode", "jobs": 2, "seconds": 1.0, "peak_bytes": 7},
        {"stage": "patch", "jobs": 1, "seconds": 3.0, "peak_bytes": 9},
    ]


def test_figures_are_compared_with_every_reference():
    references = [*REFERENCES, REFERENCES[0] | {"name": "paper", "values": {"bbox.AP": 0.0}}]
    rows = gates.compared(references, {"onnxruntime": {"bbox.AP": 0.28}})
    assert [(row["figure"], row["of"], row["difference"], row["ratio"]) for row in rows] == [
        ("bbox.AP", "guide", 0.001, pytest.approx(1.003584)),
        ("fps", "guide", None, None),
        ("bbox.AP", "paper", 0.28, None),
    ]
