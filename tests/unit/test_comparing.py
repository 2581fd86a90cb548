"""Two runs compared: what is beyond noise, which images changed, and what the runs were made with."""

import copy
import html
import json
import re
from pathlib import Path

import pytest

import compare
import evaluate
from detport import config, detections, shards
from detport.comparing import runs, text, worth
from detport.errors import Failure, UsageError
from detport.report import gates

IMAGES = 30
OWN = Path("results/m/onnxruntime")
MODEL = (config.ROOT / "demo" / "config" / "models" / "yolo.yaml").read_text(encoding="utf-8")


def truth() -> dict:
    """An object in every image, of two classes in turns."""
    box = [10, 10, 40, 40]
    objects = [
        {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": box, "area": 1600, "iscrowd": 0} for i in images()
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in images()],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": objects,
    }


def images() -> range:
    return range(1, IMAGES + 1)


def run(folder: Path, shifts: dict[int, int], fps: float = 10.0, forgotten: int = 0) -> Path:
    """A working directory after a run whose boxes are shifted by so many pixels in some images; of the ground truth's
    objects, some are forgotten."""
    (folder / OWN / "detections").mkdir(parents=True)
    for place in ("config", "data", "reports", "results/datasets/d"):
        (folder / place).mkdir(parents=True)
    annotated = truth() | {"annotations": truth()["annotations"][forgotten:]}
    (folder / "data" / "truth.json").write_text(json.dumps(annotated))
    dataset = {"kind": "coco", "images": "data", "annotations": "data/truth.json", "shards": 1}
    (folder / "config" / "config.yaml").write_text(json.dumps({"models": ["m"], "datasets": {"d": dataset}}))
    (folder / "m.yaml").write_text(MODEL)
    index = [{"image_id": i, "file": f"{i}.jpg", "width": 100, "height": 100, "bytes": 1} for i in images()]
    shards.write_index(folder / "results/datasets/d/index.tsv", index)
    rows = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [10 + shifts.get(i, 0), 10, 40, 40], "score": 0.9}
        for i in images()
    ]
    found = folder / OWN / "detections" / "0000.json.gz"
    detections.write(found, [{"image_id": i, "file": f"{i}.jpg"} for i in images()], [], rows)
    files = {"model": folder / "m.yaml", "index": folder / "results/datasets/d/index.tsv", "detections": found}
    files |= {"annotations": folder / "data" / "truth.json", "output": folder / OWN / "accuracy.json"}
    evaluate.main([word for key, path in files.items() for word in (f"--{key}", str(path))])
    accuracy = json.loads((folder / OWN / "accuracy.json").read_text())
    (folder / "reports" / "m.json").write_text(json.dumps(report(accuracy, fps)))
    return folder


def report(accuracy: dict, fps: float) -> dict:
    """The report of a run as far as it is compared."""
    latency = {"mean": 1000 / fps, "p50": 1000 / fps, "p90": 1050 / fps, "p99": 1100 / fps}
    performance = {"fps": fps, "latency_ms": latency}
    step = {"stage": "compile", "versions": {"CANN": "6.0"}, "threads": 1, "processor": "a"}
    backend = {"accuracy": accuracy["accuracy"], "images": accuracy["images"], "performance": performance}
    backend |= {"simulator": {"accuracy": False, "performance": False}, "figures": gates.figures(accuracy, performance)}
    return {
        **{"schema": 1, "model": "m", "dataset": "d", "verdict": "PASS", "warnings": [], "parity": []},
        "backends": {"onnxruntime": backend},
        "gates": [{"name": "box AP", "backend": "onnxruntime", "verdict": "PASS"}],
        "provenance": {"date": "2026-01-01", "sha256": {"truth.json": "1" * 64}, "stages": [step], "command": "x"},
    }


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("exact") / "run", {})


def compared(before: Path, after: Path, scratch: Path) -> dict:
    return worth.compared(runs.read(before, scratch), runs.read(after, scratch))


def edited(folder: Path, place: Path, edit) -> Path:
    """A report alone, after an edit."""
    found = json.loads((folder / "reports" / "m.json").read_text())
    edit(found)
    place.write_text(json.dumps(found))
    return place


def test_equal_runs_are_equal(exact, capsys):
    compare.main([str(exact), str(exact), "--fail-on", "any"])
    said = capsys.readouterr().out
    assert said.startswith("0 worse, 0 better, beyond noise")
    assert "accuracy is the same, to the last digit" in said
    assert "made with the same files, packages, processor and command" in said


def test_what_is_worse_beyond_noise_has_its_interval_and_its_images(exact, tmp_path, capsys):
    worse = run(tmp_path / "worse", dict.fromkeys(range(1, 21), 12))
    found = compared(exact, worse, tmp_path)
    backend = found["models"]["m"]["backends"]["onnxruntime"]
    figure = next(row for row in backend["figures"] if row["measure"] == "bbox.AP")
    assert figure["change"] == worth.WORSE and figure["interval"][1] < 0
    assert figure["interval"][0] < figure["difference"] < figure["interval"][1]
    assert {row["image_id"] for row in backend["images"]} <= set(range(1, 21))
    assert {row["class"] for row in backend["classes"]} == {"dog", "cat"}
    with pytest.raises(Failure, match=r"worse is worse than .* in \d+ points"):
        compare.main([str(exact), str(worse), "--fail-on", "worse"])
    assert "WORSE   bbox.AP" in capsys.readouterr().out
    compare.main([str(worse), str(exact), "--fail-on", "worse"])
    assert "better  bbox.AP" in capsys.readouterr().out


def test_a_difference_that_chance_explains_is_noise(exact, tmp_path):
    """One image of thirty: some draws do not have it."""
    found = compared(exact, run(tmp_path / "one", {1: 12}), tmp_path)
    figures = {row["measure"]: row for row in found["models"]["m"]["backends"]["onnxruntime"]["figures"]}
    assert figures["bbox.AP"]["change"] == worth.NOISE and figures["bbox.AP"]["interval"][1] == 0
    assert found["models"]["m"]["backends"]["onnxruntime"]["images"][0]["image_id"] == 1
    assert found["different"]


@pytest.mark.parametrize(("fps", "change"), [(9.8, "noise"), (9.0, "worse"), (12.0, "better"), (10.0, "same")])
def test_a_speed_is_compared_by_its_own_spread(exact, tmp_path, fps, change):
    def edit(found: dict) -> None:
        found["backends"]["onnxruntime"]["performance"]["fps"] = fps

    after = edited(exact, tmp_path / "after.json", edit)
    (row,) = compared(exact / "reports" / "m.json", after, tmp_path)["models"]["m"]["backends"]["onnxruntime"]["speed"]
    assert row["change"] == change and row["noise"] == pytest.approx(0.05)


def test_gates_and_origins(exact, tmp_path, capsys):
    def edit(found: dict) -> None:
        found["verdict"] = found["gates"][0]["verdict"] = "UNDECIDED"
        found["provenance"]["stages"][0]["versions"]["CANN"] = "7.0"
        found["provenance"]["sha256"]["model.om"] = "2" * 64

    after = edited(exact, tmp_path / "after.json", edit)
    with pytest.raises(Failure):
        compare.main([str(exact / "reports" / "m.json"), str(after), "--fail-on", "worse"])
    said = capsys.readouterr().out
    assert "m: PASS -> UNDECIDED" in said and "WORSE   gate box AP on onnxruntime: PASS -> UNDECIDED" in said
    assert "CANN of compile: 6.0 -> 7.0" in said and f"sha256 of model.om: - -> {'2' * text.DIGEST}" in said
    assert "no intervals: A: " in said and "is a report alone" in said


def test_what_one_run_alone_has_is_told(exact, tmp_path):
    def more(found: dict) -> None:
        found["backends"]["ascend310"] = copy.deepcopy(found["backends"]["onnxruntime"])

    after = edited(exact, tmp_path / "after.json", more)
    found = compared(exact / "reports" / "m.json", after, tmp_path)["models"]["m"]
    assert (found["only_before"], found["only_after"]) == ([], ["ascend310"])
    other = edited(exact, tmp_path / "other.json", lambda each: each.update(model="n"))
    both = worth.compared(runs.read(after, tmp_path), runs.read(other, tmp_path))
    assert (both["only_before"], both["only_after"], both["worse"]) == (["m"], ["n"], 1)


def test_another_ground_truth_gives_no_interval(exact, tmp_path):
    """Although both runs have one: a difference would not be the detector's. One that was edited is none at all."""
    other = run(tmp_path / "other", {1: 12}, forgotten=2)
    found = compared(exact, other, tmp_path)["models"]["m"]
    assert found["without"] == [None, None] and not found["backends"]["onnxruntime"]["intervals"]
    (other / "data" / "truth.json").write_text(json.dumps(truth()))
    assert "other annotations than were scored against" in runs.read(other, tmp_path)["m"].without


def page_of(folder: Path, after: Path, before: Path) -> tuple[str, dict]:
    """The page of two runs, and its data, which stands beside it."""
    outputs = [f"--output-{form}={folder / 'compared'}.{form}" for form in ("json", "html")]
    compare.main([str(before), str(after), *outputs])
    return (folder / "compared.html").read_text(), json.loads((folder / "compared.json").read_text())


def test_the_comparison_as_data(exact, tmp_path):
    _, found = page_of(tmp_path, exact, exact)
    assert (found["schema"], found["worse"], found["runs"]) == (1, 0, [str(exact), str(exact)])


def test_the_comparison_as_a_page_has_every_figure_of_the_data(exact, tmp_path):
    text, found = page_of(tmp_path, run(tmp_path / "worse", dict.fromkeys(range(1, 21), 12), fps=7.0), exact)
    shown = {
        tuple(json.loads(html.unescape(place))): value
        for value, place in re.findall(r'<data value="([^"]*)" data-from="([^"]*)">', text)
    }
    for place, value in shown.items():
        figure = found
        for key in place:
            figure = figure[key]
        assert float(value) == figure
    own = ("models", "m", "backends", "onnxruntime")
    for key, count in (("figures", 8), ("classes", 2), ("images", 10), ("speed", 1)):
        assert len(found["models"]["m"]["backends"]["onnxruntime"][key]) == count
        assert {place[len(own) + 1] for place in shown if place[: len(own) + 1] == (*own, key)} == set(range(count))
    assert (*own, "figures", 0, "interval", 0) in shown and (*own, "speed", 0, "latency_ms", "p99", "after") in shown


def test_names_on_the_page_are_text(exact, tmp_path):
    def edit(found: dict) -> None:
        found["gates"] = [{"name": "<b>AP</b>", "backend": "onnxruntime", "verdict": "FAIL"}]
        found["provenance"]["command"] = "snakemake </script><script>alert(1)</script>"
        found["provenance"]["sha256"]["قطة <i>.onnx"] = "2" * 64

    text, _ = page_of(tmp_path, edited(exact, tmp_path / "after.json", edit), exact)
    assert "&lt;b&gt;AP" in text and "<script>alert" not in text and "<i>.onnx" not in text
    assert text.count("No intervals, because of") == 1 and "No intervals, because of B:" in text
    assert "default-src 'none'" in text and not re.search(r'(?:src|href)="(?!#)', text)


@pytest.mark.parametrize("name", ["nothing.txt", "empty"])
def test_what_is_no_run_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"expected reports/MODEL\.json|has no reports/MODEL\.json"):
        compare.main([str(tmp_path / name), str(tmp_path / name)])
