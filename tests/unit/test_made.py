"""Records: what made a file, told by settings, code, versions and inputs; and whether it is still what was made."""

import json
import os
import platform
import time
from pathlib import Path

import pytest

from detport import made
from detport.errors import Failure


def recipe(stage: str = "export", **changes) -> dict:
    plain = {"stage": stage, "settings": {"opset": 11}, "code": "c0de", "versions": {"onnx": "1.20.0"}}
    return plain | changes


def written(path: Path, content: str, made_by: dict | None = None, **inputs) -> Path:
    """A file with its record."""
    path.write_text(content)
    made.put(made.begin(made_by or recipe(), inputs), path)
    return path


def folder(path: Path, made_by: dict, digests: dict[str, str | None], **inputs) -> Path:
    """A folder of files with their record."""
    path.mkdir()
    for name in digests:
        (path / name).write_text(name)
    made.put_folder(made.begin(made_by, inputs), path, digests)
    return path


def test_a_recipe_has_the_code_and_versions_of_its_stage():
    found = made.recipe("simplify", {"sizes": (8, 8), "names": {"b": 1, "a": 2}})
    assert found["stage"] == "simplify"
    assert found["settings"] == {"sizes": [8, 8], "names": {"b": 1, "a": 2}}, "lists, as JSON gives them back"
    assert len(found["code"]) == 12
    assert {"onnx", "onnxsim", "onnxruntime", "numpy"} <= found["versions"].keys()


@pytest.mark.parametrize(
    ("other", "inputs"),
    [
        (recipe("patch"), {"onnx": ["a", "b"]}),
        (recipe(settings={"opset": 12}), {"onnx": ["a", "b"]}),
        (recipe(code="other"), {"onnx": ["a", "b"]}),
        (recipe(versions={"onnx": "1.21.0"}), {"onnx": ["a", "b"]}),
        (recipe(), {"onnx": ["b", "a"]}),
        (recipe(), {"onnx": ["a"]}),
        (recipe(), {"weights": ["a", "b"]}),
    ],
    ids=["stage", "settings", "code", "versions", "order of inputs", "an input less", "another role"],
)
def test_the_identity_is_that_of_recipe_and_inputs(other, inputs):
    assert made.identity(other, inputs) != made.identity(recipe(), {"onnx": ["a", "b"]})


def test_the_identity_does_not_depend_on_the_order_of_keys():
    one, two = recipe(settings={"a": 1, "b": 2}), recipe(settings={"b": 2, "a": 1})
    assert made.identity(one, {"x": ["1"], "y": ["2"]}) == made.identity(two, {"y": ["2"], "x": ["1"]})


def test_the_record_beside_a_file(tmp_path):
    weights = written(tmp_path / "weights", "w", recipe("convert_checkpoint"))
    graph = written(tmp_path / "graph", "g", weights=weights)
    record = json.loads((tmp_path / "graph.made").read_text())
    assert record.pop("seal") == made.digest_of(record)
    assert record == made.read(graph)
    assert (record["schema"], record["stage"], record["folder"]) == (1, "export", False)
    assert record["identity"] == made.identity(recipe(), {"weights": [made.read(weights)["identity"]]})
    assert record["recipes"] == {"export": recipe()}
    assert record["inputs"] == {"weights": made.content([made.read(weights)])}
    assert record["files"] == {"graph": [1, graph.stat().st_mtime_ns, record["sha256"]]}
    assert record["seconds"].keys() == {"export"} and record["memory"]["export"] > 1e6
    assert [step["stage"] for step in record["trail"]] == ["convert_checkpoint", "export"]
    assert record["trail"][-1]["versions"] == {"onnx": "1.20.0", "python": platform.python_version()}
    assert record["trail"][-1]["threads"] == 1 and record["trail"][-1]["processor"]


def test_the_record_in_a_folder_is_handed_on_because_the_folder_may_go(tmp_path):
    index = written(tmp_path / "index", "i", recipe("index_dataset"))
    shard = folder(tmp_path / "shard", recipe("preprocess"), {"a.bin": None}, index=index)
    outputs = folder(tmp_path / "outputs", recipe("infer"), {"a_0.bin": "d1", "a_1.bin": "d2"}, shard=shard)
    assert (outputs / "made.json").exists()
    detections = made.read(written(tmp_path / "detections", "d", recipe("decode"), outputs=outputs))
    assert detections["recipes"].keys() == {"preprocess", "infer", "decode"}
    assert detections["inputs"].keys() == {"index", "shard", "outputs"}
    assert detections["inputs"]["index"] == made.content([made.read(index)])
    assert detections["seconds"].keys() == detections["memory"].keys() == {"preprocess", "infer", "decode"}
    assert made.read(written(tmp_path / "accuracy", "a", recipe("evaluate"), x=tmp_path / "detections"))[
        "recipes"
    ].keys() == {"evaluate"}


def test_a_stage_refuses_what_was_not_planned(tmp_path):
    graph = written(tmp_path / "graph", "g")
    expected = made.identity(recipe("patch"), {"onnx": [made.read(graph)["identity"]]})
    assert made.begin(recipe("patch"), {"onnx": graph}, expect=expected)["identity"] == expected
    with pytest.raises(Failure, match="are not those that the workflow planned this job with"):
        made.begin(recipe("patch", code="edited meanwhile"), {"onnx": graph}, expect=expected)


def test_a_stage_refuses_an_input_that_is_not_as_it_was_made(tmp_path):
    graph = written(tmp_path / "graph", "g")
    graph.write_text("G")
    with pytest.raises(Failure, match=rf"{graph}: graph is not what stage export wrote; .* or delete {graph}\.made"):
        made.begin(recipe("patch"), {"onnx": graph})
    (tmp_path / "graph.made").unlink()
    assert made.begin(recipe("patch"), {"onnx": graph})


def test_of_a_file_without_a_record_the_content_counts(tmp_path):
    graph, identities = tmp_path / "graph", []
    for content in ("g", "G", "g"):
        graph.write_text(content)
        identities.append(made.begin(recipe("patch"), {"onnx": graph})["identity"])
    assert identities[0] == identities[2] != identities[1]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"schema": 2}', "\x00"])
def test_a_record_that_is_none(tmp_path, content):
    (tmp_path / "graph").touch()
    (tmp_path / "graph.made").write_text(content)
    assert made.read(tmp_path / "graph") is None
    assert made.read(tmp_path / "missing") is None


def test_an_edited_record_is_none(tmp_path):
    """Whatever was edited: a digest of it is in it."""
    record = tmp_path / "graph.made"
    graph, whole = written(tmp_path / "graph", "g"), record.read_text()
    for old, new in (('"threads": 1', '"threads": 2'), ('"files"', '"filse"'), ('"schema": 1', '"schema": 2')):
        assert old in whole
        record.write_text(whole.replace(old, new))
        assert made.read(graph) is None
    record.write_text(whole)
    assert made.read(graph)["stage"] == "export"


def later(path: Path) -> None:
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda path: None, True),
        (later, True),
        (lambda path: (path.write_text("B"), later(path)), False),
        (lambda path: path.write_text("aa"), False),
        (lambda path: path.unlink(), False),
        (lambda path: (path.unlink(), path.mkdir()), False),
    ],
    ids=["nothing", "another time", "other content of the same size", "another size", "gone", "a folder"],
)
def test_whether_a_file_is_as_it_was_made(tmp_path, change, same):
    path = written(tmp_path / "a", "a")
    record = made.read(path)
    change(path)
    assert made.changed_file(tmp_path, record["files"]) == (None if same else "a")


def test_a_file_of_which_nobody_computed_a_digest_is_known_by_its_size(tmp_path):
    """Tensors in a scratch folder, which do not live long."""
    shard = folder(tmp_path / "shard", recipe("preprocess"), {"a.bin": None, "b.bin": None})
    files = made.read(shard)["files"]
    (shard / "a.bin").write_text("other")
    later(shard / "a.bin")
    assert made.changed_file(shard, files) is None
    (shard / "b.bin").write_text("longer")
    assert made.changed_file(shard, files) == "b.bin"


def test_what_a_person_brought_is_on_record_by_name_and_content(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    before = made.source(tmp_path, ["a", "b", "missing"])
    assert before["files"]["missing"] == [None, None, None]
    assert made.changed_file(tmp_path, before["files"]) is None
    (tmp_path / "missing").touch()
    assert made.changed_file(tmp_path, before["files"]) == "missing"
    (tmp_path / "missing").unlink()
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert made.changed_file(tmp_path, before["files"]) == "a", "two that have changed places"
    assert made.source(tmp_path, ["a", "b", "missing"])["sha256"] != before["sha256"]


def test_what_was_brought_is_told_of_all_that_follows(tmp_path):
    """Outputs of two shards, and a log; of what this machine has made nothing."""
    for name in ("0_0.bin", "1_0.bin", "1_1.bin", "log"):
        (tmp_path / name).write_text(name)
    sources = [made.source(tmp_path, names) for names in (["0_0.bin"], ["1_0.bin", "1_1.bin"])]
    detections = []
    for k, source in enumerate(sources):
        outputs = tmp_path / f"outputs{k}"
        outputs.mkdir()
        made.put_folder(made.begin(recipe("infer"), {}, {"outputs": source}), outputs, {})
        detections.append(written(tmp_path / f"detections{k}", f"{k}", recipe("decode"), outputs=outputs))
    told = made.read(written(tmp_path / "accuracy", "a", recipe("evaluate"), detections=detections))["brought"]
    assert told == {"outputs": {"files": 3, "sha256": made.digest_of([source["sha256"] for source in sources])}}
    log = made.source(tmp_path, ["log"])
    told = made.begin(recipe("benchmark"), {}, {"log": log})["brought"]
    assert told == {"log": {"files": 1, "sha256": log["sha256"]}}
    assert made.begin(recipe("convert_checkpoint"), {}, {"checkpoint": log})["brought"] == {}


def test_each_step_is_told_once(tmp_path):
    index = written(tmp_path / "index", "i", recipe("index_dataset"))
    parts = [written(tmp_path / f"{k}", f"{k}", recipe("decode"), index=index) for k in range(3)]
    trail = made.begin(recipe("evaluate"), {"index": index, "detections": parts})["trail"]
    assert [step["stage"] for step in trail] == ["index_dataset", "decode", "evaluate"]


def test_a_record_of_a_folder_tells_of_the_folder():
    assert made.told_by("results/m/b/outputs/0000/made.json") == "results/m/b/outputs/0000"
    assert made.told_by("results/m/b/accuracy.json") == "results/m/b/accuracy.json"
