"""What stages read back of earlier ones: whole, of its kind, or named with the key that is wrong."""

import json

import pytest

from detport import results
from detport.errors import Failure

REPORT = {
    "schema": 1,
    "model": "m",
    "verdict": "PASS",
    "backends": {
        "onnxruntime": {
            "accuracy": {"bbox": {"AP": 0.5, "per_class": {}}},
            "images": {"indexed": 1, "scored": 1},
            "performance": {"fps": 2.0},
            "simulator": {"accuracy": False, "performance": False},
        }
    },
    "gates": [{"backend": "onnxruntime", "verdict": "PASS"}],
    "parity": [{"backend": "onnxruntime", "rung": "eager", "verdict": "PASS", "told": ""}],
    "warnings": [],
}


def test_a_report_is_read(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(REPORT))
    assert results.read(path, "report") == REPORT


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps(REPORT)[:-5], "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "file: [] is not of type 'object'"),
        ("{}", "file: 'schema' is a required property"),
        (json.dumps(REPORT | {"verdict": "FINE"}), "verdict: 'FINE' is not one of"),
        (json.dumps(REPORT).replace("2.0", "NaN"), "not valid JSON (NaN is no number"),
        (
            json.dumps(REPORT).replace('"fps"', '"fsp"'),
            "backends.onnxruntime.performance: 'fps' is a required property",
        ),
    ],
    ids=["cut off", "deep", "a list", "empty", "another word", "not a number", "another key"],
)
def test_what_is_wrong_is_named(tmp_path, content, expected):
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(Failure) as raised:
        results.read(path, "report")
    assert f"{path}: {expected}" in str(raised.value)
    assert "delete it and run its stage again" in str(raised.value)
