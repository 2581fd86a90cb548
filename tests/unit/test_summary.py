"""The summary of several reports."""

import csv
import json
from pathlib import Path

import pytest

import accept
import summary
from detport import made
from detport.errors import Failure
from detport.page import sections, words
from detport.report import ending


def report(model: str, verdicts: dict[str, list[str]], accuracy: dict) -> dict:
    """A report as far as the summary reads it; `verdicts` of the gates of every backend."""
    return {
        "schema": 1,
        "model": model,
        "warnings": [],
        "verdict": "PASS" if {"PASS"} == {each for found in verdicts.values() for each in found} else "FAIL",
        "parity": [],
        "gates": [{"backend": name, "verdict": each} for name, found in verdicts.items() for each in found],
        "backends": {
            name: {
                "accuracy": accuracy,
                "performance": {"fps": 4.25},
                "images": {"indexed": 8, "scored": 7},
                "simulator": {"accuracy": False, "performance": name == "ascend310"},
            }
            for name in verdicts
        },
    }


COCO = {"bbox": {"AP": 0.25, "AP50": 0.5, "per_class": {}}, "segm": {"AP": 0.125, "per_class": {}}}
VOC = {"voc07": {"mAP": 0.5, "per_class": {}}, "voc_area": {"mAP": None, "per_class": {}}}


@pytest.fixture
def written(tmp_path) -> Path:
    reports = [
        report("a", {"onnxruntime": ["PASS", "FAIL", "PASS"], "pytorch": ["PASS"]}, COCO),
        report("longer_name", {"onnxruntime": []}, VOC),
    ]
    for each in reports:
        (tmp_path / f"{each['model']}.json").write_text(json.dumps(each))
    files = [tmp_path / f"{each['model']}.json" for each in reports]
    forms = {"text": "txt", "json": "json", "csv": "csv", "html": "html"}
    outputs = [each for key, form in forms.items() for each in (f"--output-{key}", tmp_path / f"summary.{form}")]
    summary.main(list(map(str, ["--reports", *files, *outputs])))
    return tmp_path


def test_the_line_at_the_end_of_a_run():
    found = report("a", {"onnxruntime": ["PASS"], "ascend310": ["PASS"]}, COCO) | {"warnings": ["one", "two"]}
    assert ending.line(found, "reports/a.txt") == (
        "a: PASS; onnxruntime bbox.AP 0.2500, segm.AP 0.1250, 4.25 fps;"
        " ascend310 (FROM A SIMULATOR) bbox.AP 0.2500, segm.AP 0.1250, 4.25 fps; 2 warnings: reports/a.txt"
    )
    unmeasured = report("a", {"onnxruntime": []}, VOC)
    assert "onnxruntime voc07.mAP 0.5000, 4.25 fps: r" in ending.line(unmeasured, "r")


def test_the_end_of_a_run_names_the_first_warnings():
    found = report("a", {"onnxruntime": ["PASS"]}, COCO) | {"warnings": ["one", "two", "three", "four"]}
    *warned, last = ending.lines(found, "reports/a.txt")
    assert warned == ["a: warning: one", "a: warning: two", "a: warning: three"]
    assert last.startswith("a: PASS; ") and last.endswith("; 4 warnings: reports/a.txt")


def test_a_simulated_backend_is_marked():
    row, other = summary.rows_of(report("a", {"ascend310": ["PASS"], "pytorch": []}, COCO))
    assert summary.cells(row)["backend"] == "ascend310 (SIMULATOR)"
    assert summary.cells(other)["backend"] == "pytorch"


def test_a_row_per_model_and_backend(written):
    found = json.loads((written / "summary.json").read_text())
    assert found["verdict"] == "FAIL"
    assert [(row["model"], row["backend"], row["verdict"]) for row in found["rows"]] == [
        ("a", "onnxruntime", "FAIL"),
        ("a", "pytorch", "PASS"),
        ("longer_name", "onnxruntime", "NO GATES"),
    ]
    assert found["rows"][0]["gates"] == {"PASS": 2, "FAIL": 1}
    assert found["rows"][0]["accuracy"] == {"bbox.AP": 0.25, "segm.AP": 0.125}
    assert found["rows"][2]["accuracy"] == {"voc07.mAP": 0.5, "voc_area.mAP": None}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["PASS"], "PASS"),
        (["PASS", "FAIL", "UNDECIDED"], "FAIL"),
        (["PASS", "NOT MEASURED"], "UNDECIDED"),
        (["UNDECIDED"], "UNDECIDED"),
        (["NOT MEASURED"], "NOT MEASURED"),
        (["NO GATES"], "NO GATES"),
        (["PASS", "NO GATES"], "PASS"),
        (["NOT MEASURED", "NO GATES"], "NOT MEASURED"),
    ],
)
def test_overall_verdict(verdicts, expected):
    assert summary.overall(set(verdicts)) == expected


def test_text(written):
    lines = (written / "summary.txt").read_text().splitlines()
    assert "VERDICT: FAIL" in lines
    a, b, c = [line for line in lines if line.endswith("7/8")]
    assert "2 PASS, 1 FAIL" in a and "bbox.AP 0.2500, segm.AP 0.1250" in a
    assert "voc07.mAP 0.5000, voc_area.mAP -" in c
    assert a.index("4.25") == b.index("4.25") == c.index("4.25"), "columns are aligned"


def test_an_accuracy_that_could_not_be_measured_is_no_number():
    nothing = {"bbox": {"AP": -1.0, "per_class": {}}}
    (row,) = summary.rows_of(report("a", {"onnxruntime": []}, nothing))
    assert row["accuracy"] == {"bbox.AP": None}
    assert summary.cells(row)["accuracy"] == "bbox.AP -"


def accepted(folder: Path, verdicts: list[str]) -> None:
    """Run accept over reports with these verdicts."""
    files = [folder / f"model{i}.json" for i in range(len(verdicts))]
    for path, verdict in zip(files, verdicts, strict=True):
        path.write_text(json.dumps(report(path.stem, {}, {}) | {"verdict": verdict}))
    accept.main(["--reports", *map(str, files)])


def test_a_model_without_gates_does_not_keep_others_from_acceptance(tmp_path, capsys, caplog):
    accepted(tmp_path, ["PASS", "NO GATES"])
    assert capsys.readouterr().out.splitlines() == ["PASS         model0", "NO GATES     model1"]
    assert caplog.messages == ["no gates are declared for model1, so nothing of it was judged"]


@pytest.mark.parametrize("verdict", ["FAIL", "UNDECIDED", "NOT MEASURED"])
def test_any_other_verdict_is_not_accepted(tmp_path, verdict):
    with pytest.raises(Failure, match=r"not accepted: model1; the gates are in reports/model1\.txt"):
        accepted(tmp_path, ["PASS", verdict, "NO GATES"])


def test_a_report_that_somebody_edited_is_not_accepted(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(report("m", {}, {}) | {"verdict": "FAIL"}))
    made.put(made.begin(made.recipe("report", {}), {}), path)
    path.write_text(path.read_text().replace("FAIL", "PASS"))
    with pytest.raises(Failure, match=r"m\.json is not what stage report wrote"):
        accept.main(["--reports", str(path)])


def test_a_spreadsheet_has_a_column_for_every_figure(written):
    rows = list(csv.DictReader((written / "summary.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["a", "a", "longer_name"]
    assert (rows[0]["accuracy.bbox.AP"], rows[0]["accuracy.voc07.mAP"], rows[2]["accuracy.voc07.mAP"]) == (
        "0.25",
        "",
        "0.5",
    )
    assert rows[0]["fps"] == "4.25"


def test_memory_and_size_are_told_where_they_are_known():
    found = report("a", {"onnxruntime": ["PASS"], "ascend310": ["PASS"]}, COCO)
    found["backends"]["onnxruntime"] |= {"bytes": 4_250_000, "peak_bytes": 312_345_678}
    rows = summary.rows_of(found)
    assert [row["peak_bytes"] for row in rows] == [312_345_678, None]
    assert [(cells["model MB"], cells["memory MB"]) for cells in map(summary.cells, rows)] == [
        ("4.2", "312.3"),
        ("—", "—"),
    ]
    assert "312" in summary.pages.summary({"verdict": "PASS", "rows": rows})
    sheet = list(csv.DictReader(summary.sheet(rows).splitlines()))
    assert [row["peak_bytes"] for row in sheet] == ["312345678", ""]


def test_the_precision_of_a_backend_is_told_where_parity_knows_it():
    found = report("a", {"openvino_bf16": ["PASS"], "ascend310": ["PASS"]}, COCO)
    found["backends"]["openvino_bf16"]["parity"] = {"precisions": {"patched": "float32", "compiled": "bfloat16"}}
    rows = summary.rows_of(found)
    assert [row["precision"] for row in rows] == ["bfloat16", None]
    assert [summary.cells(row)["precision"] for row in rows] == ["bfloat16", "—"]
    assert "<td>bfloat16</td>" in summary.pages.summary({"verdict": "PASS", "rows": rows})


def test_a_spreadsheet_computes_nothing():
    assert summary.flattened({"model": "=1+1", "fps": -1.5}) == {"model": "'=1+1", "fps": -1.5}


def test_the_reference_is_the_first_that_states_the_figure():
    found = report("a", {"onnxruntime": ["PASS"]}, COCO)
    row = {"backend": "onnxruntime", "measured": 0.25, "ratio": 1.25}
    found["comparison"] = [
        row | {"figure": "fps", "reference": 4.0, "difference": 0.25, "of": "x"},
        row | {"figure": "bbox.AP", "reference": 0.2, "difference": 0.05, "of": "paper"},
        row | {"figure": "bbox.AP", "reference": 0.1, "difference": 0.15, "of": "guide"},
    ]
    (line,) = summary.rows_of(found)
    assert (line["reference"], line["difference"], line["reference_is"]) == (0.2, 0.05, "paper")
    assert line["interval"] == {"low": None, "high": None}, "nothing was resampled"
    found["backends"]["onnxruntime"]["intervals"] = {"bbox.AP": {"low": 0.19, "high": 0.28}}
    (line,) = summary.rows_of(found)
    assert line["interval"] == {"low": -0.01, "high": 0.08}
    page = summary.pages.summary({"verdict": "PASS", "rows": [line]})
    assert "−0.0100" in page and "+0.0800" in page


def test_the_page_has_a_row_and_a_link_for_every_model(written):
    page = (written / "summary.html").read_text()
    assert page.count('<tr><th scope="row">') == 3
    assert 'href="longer_name.html"' in page
    assert '<svg class="chart"' in page


def test_the_front_is_what_nothing_beats_in_both():
    rows = [("fast", 9.0, 0.1), ("good", 1.0, 0.9), ("both", 5.0, 0.5), ("beaten", 4.0, 0.4), ("equal", 5.0, 0.5)]
    made = [{"model": name, "backend": "b", "fps": fps, "accuracy": {"bbox.AP": ap}} for name, fps, ap in rows]
    drawn = sections.pareto(made, words.of({}))
    assert drawn.count('class="dot series-2"') == 4 and drawn.count('class="dot series-1"') == 1
    assert sections.pareto(made[:1], words.of({})) is None
