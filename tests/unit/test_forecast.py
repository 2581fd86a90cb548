"""The plan: arithmetic on what is configured, and on what earlier runs left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from detport import config, disk, forecast

MODELS = {name: config.load(config.ROOT / "config" / "models" / f"{name}.yaml", "model") for name in ("retinamask",)}
DATASETS = {"coco_val2017": {"shards": 250}}
BACKENDS = {"onnxruntime": config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")}
SETTINGS = {"disk_limit_gb": 4, "keep_outputs_gb": 2}
HEADER = "s\th:m:s\tmax_rss\n"


@pytest.fixture
def run() -> forecast.Run:
    images = {"coco_val2017": 5000}
    return forecast.Run(MODELS, DATASETS, images, BACKENDS, disk.budget(MODELS, DATASETS, images, BACKENDS, SETTINGS))


def timed(folder: Path, stage: str, name: str, *rows: str) -> None:
    path = folder / stage / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))


def test_bytes_and_shards_at_once(run, tmp_path):
    (row,) = forecast.models_of(run, tmp_path)
    assert (row["images"], row["shards"], row["outputs"]) == (5000, 250, "temporary")
    assert row["shard_bytes"] == 5000 * 3 * 1344 * 1344 * 4
    assert row["peak"] == row["at_once"] * run.budget.shards["retinamask"] <= 4e9


def test_times_are_those_of_earlier_runs_where_there_are_any(run, tmp_path):
    timed(tmp_path, "preprocess", "retinamask/0000", "2.0\t0:00:02\t100")
    timed(tmp_path, "preprocess", "retinamask/0001", "4.0\t0:00:04\t100")
    timed(tmp_path, "index_dataset", "coco_val2017", "7.5\t0:00:07\t100")
    stages = {row["stage"]: row for row in forecast.stages_of(run, tmp_path)}
    assert stages["preprocess"] == {"stage": "preprocess", "jobs": 250, "seconds": 750.0}
    assert stages["index_dataset"]["seconds"] == 7.5
    assert stages["infer"]["seconds"] is None
    text = "\n".join(forecast.lines(forecast.models_of(run, tmp_path), list(stages.values()), 4))
    assert "preprocess              250       3.00       750\n" in text
    assert "infer                   250          -         -\n" in text
    assert text.splitlines()[-2].split() == ["all", str(sum(row["jobs"] for row in stages.values())), "-"]


def test_the_sum_is_told_as_soon_as_every_stage_has_run(run, tmp_path):
    for stage in forecast.work(run)["retinamask"]:
        timed(tmp_path, stage, "retinamask/x", "1.0\t0:00:01\t-")
    timed(tmp_path, "index_dataset", "coco_val2017", "1.0\t0:00:01\t-")
    stages = forecast.stages_of(run, tmp_path)
    instant = sum(row["jobs"] for row in stages if row["stage"] in forecast.INSTANT)
    total = sum(row["jobs"] for row in stages)
    assert forecast.lines([], stages, 4)[-2].split() == ["all", str(total), str(total - instant)]


@pytest.mark.parametrize(
    "content", ["", "x\n", HEADER, HEADER + "x\t1\n", HEADER + "nan\n", HEADER + "\n\t\n", "h:m:s\n0:00:01\n", "\0\xff"]
)
def test_benchmark_files_that_tell_no_time(run, tmp_path, content):
    path = tmp_path / "infer" / "retinamask" / "0000.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    assert forecast.seconds("infer", "retinamask", tmp_path) is None


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x", ""])
@pytest.mark.parametrize("option", ["--keep-outputs-gb", "--disk-limit-gb"])
def test_numbers_of_gigabytes(tmp_path, option, value):
    arguments = {"--keep-outputs-gb": "2", "--disk-limit-gb": "4"} | {option: value}
    command = [
        *(
            sys.executable,
            config.ROOT / "scripts" / "plan.py",
            "--model",
            config.ROOT / "config/models/retinamask.yaml",
        ),
        *("--dataset-config", config.ROOT / "config/config.yaml"),
        *("--backend", config.ROOT / "config/backends/onnxruntime.yaml"),
        *(f"{key}={text}" for key, text in arguments.items()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert f"argument {option}: {value!r} is no number of gigabytes" in result.stderr
    assert "Traceback" not in result.stderr
