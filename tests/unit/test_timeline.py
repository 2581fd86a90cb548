"""The timeline of a run, from records to the page."""

import json
import subprocess
import sys

import pytest

from detport import config, made, timeline
from detport.page import lanes
from detport.timeline import Span

SCRIPT = config.ROOT / "scripts" / "timeline.py"


def write(folder, name: str, began: dict, seconds: dict, **more: object) -> None:
    """A record as a stage leaves it."""
    path = folder / f"{name}.made"
    path.parent.mkdir(parents=True, exist_ok=True)
    made.write(path, {"schema": 1, "began": began, "seconds": seconds, "devices": {}} | more)


@pytest.fixture
def folder(tmp_path):
    """Two shards that take turns on a device, and what an earlier run has left."""
    times = {"preprocess": 10.0, "infer": 30.0, "decode": 1.0}
    write(tmp_path, "results/m/onnx/exported.onnx", {"export": 100.0}, {"export": 20.0})
    for k, device in enumerate(([1010.5, 20.0], [1031.0, 19.0])):
        began = {"preprocess": 1000.0, "infer": 1010.0, "decode": 1040.0 + 15 * k}
        write(tmp_path, f"results/m/b/detections/000{k}.json.gz", began, times, devices={"0": [device]})
    return tmp_path


def test_stages_and_devices_of_the_last_run(folder):
    stages, devices = timeline.last_run(folder)
    assert [span.what for span in stages] == ["preprocess", "infer", "decode", "decode"], "of the last run, each once"
    assert [(use.begin, use.end) for use in devices["0"]] == [(1010.5, 1030.5), (1031.0, 1050.0)]
    assert timeline.busy(devices["0"]) == (39.0, 39.5)
    assert timeline.waiting("0", devices["0"]).endswith("39.0 s of 39.5 s from the first to the last; idle 1.3%")


def test_stages_of_a_job_follow_each_other_on_a_lane():
    spans = [Span(*each, "") for each in ((0, 5, "a"), (0, 9, "x"), (5.5, 8, "b"), (9.5, 12, "c"), (10, 11, "y"))]
    assert [[span.what for span in lane] for lane in timeline.lanes(spans)] == [["a", "b", "y"], ["x", "c"]]


def test_the_page_says_what_each_bar_is():
    stages = [Span(50.0, 60.0, "infer", "results/a<b/0000")]
    page = lanes.page(stages, {"0": [Span(52.0, 58.0, "0", "results/a<b/0000")]}, ["device 0: idle 0.0%"])
    assert "<title>infer results/a&lt;b/0000: 0.0 to 10.0 s</title>" in page
    assert 'class="bar series-2"' in page and 'class="bar use"' in page and "device 0: idle 0.0%" in page


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command(folder, tmp_path):
    done = run("--directory", folder, "--output", tmp_path / "timeline.html")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "4 stages in 56.0 s")
    assert "idle 1.3%" in (tmp_path / "timeline.html").read_text()


def test_a_folder_without_a_run(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.made").write_text(json.dumps({"schema": 1}))
    done = run("--directory", tmp_path, "--output", tmp_path / "page")
    assert done.returncode == 2 and "no run has left records there" in done.stderr
    assert not (tmp_path / "page").exists()
