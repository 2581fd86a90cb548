"""The ladder in a report: what is judged, by which tolerances, and how it is told."""

import copy

import pytest

from detport import config
from detport.parity import precisions
from detport.report import ladder, text

MODEL = config.ROOT / "config" / "models" / "retinamask.yaml"
ALLOWED = config.load(MODEL, "model")["parity"]
CHANGES = {
    **{"before": 41, "after": 41, "matched": 41, "lost": 0, "new": 0, "flips": 0, "images": []},
    **{"score_shift": {"largest": 1e-6, "p99": 1e-6}, "box_shift": {"largest": 1e-4, "p99": 1e-4}},
    **{"least_iou": 1.0, "least_mask_iou": None},
}
TENSOR = {"largest": 1e-5, "relative": 1e-6, "cosine": 1.0, "signs": 0.0, "rows": None, "apart": 1e-6}


def rung(name: str, previous: str | None, **more) -> dict:
    beside = previous and {"rung": previous, "tensors": {"logits": dict(TENSOR)}, "detections": dict(CHANGES)}
    common = {"runner": "x", "reason": None, "simulator": False, "problem": None, "detections": 41}
    strange = {"logits": {"nan": 0, "inf": 0}}
    return {"rung": name, **common, "strange": strange, "previous": beside, "first": copy.deepcopy(beside), **more}


def parity(**precision: str) -> dict:
    levels = {"largest": 1.0, "far": 0.0, "mean": -0.1, "padding": 0.0}
    names = ["eager", "exported", "simplified", "patched", "compiled"]
    rungs = [rung(name, names[i - 1] if i else None) for i, name in enumerate(names)]
    first = {"rung": "preprocess", "runner": "beside a reference", "reason": None, "levels": levels, "file": "it.jpg"}
    own = {"patched": "float32", "compiled": "float32"} | precision
    told = {"images": [{}] * 8, "seed": 0, "score": 0.3, "input": "float32 NCHW", "skipped": []}
    return {"backend": "onnxruntime", "precisions": own, "rungs": [first, *rungs], **told}


def verdicts(found: dict) -> dict[str, tuple[str, str]]:
    return {row["rung"]: (row["verdict"], row["told"]) for row in ladder.judged(found, ALLOWED)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lost": 3}, "3 of 41 detections lost"),
        ({"new": 2}, "2 new detections"),
        ({"flips": 1}, "1 of 41 detections of another category now"),
        ({"score_shift": {"largest": 0.011, "p99": 0}}, "a score changes by 0.011, 0.01 allowed"),
        ({"box_shift": {"largest": 2.5, "p99": 0}}, "a box moves by 2.5 pixels, 1 allowed"),
        ({"least_iou": 0.9}, "a box has IoU 0.900 with what it was, 0.95 asked for"),
        ({"least_mask_iou": 0.8}, "a mask has IoU 0.800 with what it was, 0.9 asked for"),
    ],
)
def test_the_rung_that_changes_detections_is_named(change, told):
    found = parity()
    found["rungs"][3]["previous"]["detections"] |= change
    assert verdicts(found) == dict.fromkeys(verdicts(parity()), ("PASS", "")) | {"simplified": ("FAIL", told)}
    assert ladder.gate_lines(ladder.judged(found, ALLOWED)) == [
        ("FAIL", f"FAIL         parity: simplified      onnxruntime    {told}"),
        ("PASS", "PASS         parity                  onnxruntime    preprocess, eager, exported, patched, compiled"),
    ]


def test_outputs():
    found = parity(compiled="float16")
    for i in (3, 5):
        found["rungs"][i]["previous"]["tensors"]["logits"]["apart"] = 0.02
    assert verdicts(found)["simplified"] == ("FAIL", "logits differs by 0.02 of its scale, 0.001 allowed")
    assert verdicts(found)["compiled"] == ("PASS", ""), "float16 asks for detections alone"


def test_numbers_that_are_none_are_told_where_they_begin():
    found = parity()
    for i in (4, 5):
        found["rungs"][i]["strange"]["logits"] = {"nan": 7, "inf": 2}
        found["rungs"][i]["problem"] = "it cannot be decoded"
        found["rungs"][i]["previous"]["detections"] = None
    begun = "7 NaN, 2 infinite numbers in logits"
    assert verdicts(found)["patched"] == ("FAIL", f"{begun}; it cannot be decoded")
    carried = f"{begun}, as in the rung before; no detections, as in the rung before"
    assert verdicts(found)["compiled"] == ("FAIL", carried)


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ({"largest": 2.5}, "2.5 grey levels off ('it.jpg'), 2 allowed"),
        ({"mean": -1.0}, "-1 grey levels off over a channel, 0.75 allowed"),
        ({"padding": 1.0}, "1 grey levels off around the image, 0.1 allowed"),
    ],
)
def test_the_preprocessing(levels, told):
    found = parity()
    found["rungs"][0]["levels"] |= levels
    assert verdicts(found)["preprocess"] == ("FAIL", told)


def test_what_could_not_be_run_is_told_and_fails_nothing():
    found = parity()
    for i in (3, 4):
        found["rungs"][i] = {"rung": found["rungs"][i]["rung"], "runner": "x", "reason": "no kernel " + "x" * 300}
    rows = ladder.judged(found, ALLOWED)
    assert {row["verdict"] for row in rows} == {"PASS", "NOT MEASURED"}
    verdict, line = ladder.gate_lines(rows)[-1]
    assert verdict == "NOT MEASURED" and "simplified, patched: no kernel xxx" in line and line.endswith("x…")


def test_the_table_is_small_and_says_what_it_has():
    found = parity() | {"skipped": [{"image_id": 1, "file": "gone.jpg", "reason": "no such file"}]}
    lines = text.parity_lines("onnxruntime", found, ladder.judged(found, ALLOWED))
    assert len(lines) <= 12
    assert " ".join(lines[5].split()) == "simplified PASS 41 0 0 0 1.0e-06 1.0e-04 1.0000 1.0e-06 1.000000"
    assert lines[8].startswith("  compiled beside eager: of 41, lost 0, new 0")
    assert "largest 1.00, mean -0.100, padding 0.000 grey levels" in " ".join(lines[9:11])
    assert lines[-1] == "  1 image that cannot be used: 'gone.jpg' no such file"
    for entry in found["rungs"][1:]:
        entry["detections"] = 0
    assert "no detection from score 0.3 on" in "\n".join(
        text.parity_lines("onnxruntime", found, ladder.judged(found, ALLOWED))
    )


ASCEND = {"family": "ascend", "runs": "compiled"}


@pytest.mark.parametrize(
    ("backend", "options", "expected"),
    [
        ({"family": "onnxruntime"}, {}, "float32"),
        ({"family": "onnxruntime", "precision": "int8"}, {}, "int8"),
        (ASCEND, {}, "float16"),
        (ASCEND | {"atc": {"precision_mode": "force_fp32"}}, {}, "float32"),
        (ASCEND | {"atc": {"precision_mode": "force_fp32"}}, {"precision_mode": "allow_mix_precision"}, "float16"),
        (ASCEND, {"precision_mode_v2": "origin"}, "float32"),
    ],
)
def test_precision(backend, options, expected):
    assert precisions.by_rung([], options, backend) == {"patched": "float32", "compiled": expected}
    assert precisions.by_rung([{"name": "x"}], options, backend)["patched"] == expected
