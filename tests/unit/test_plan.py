"""The plan: the workflow's own jobs, arithmetic on what is configured, and what earlier runs left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import plan
from detport import config
from detport.errors import UsageError

HEADER = "s\th:m:s\tmax_rss\n"
SUMMARY = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan\n"


def summary(path: Path, *rows: tuple[str, str, str]) -> Path:
    """A table as Snakemake prints it: rule, file, and what is planned for it."""
    lines = [f"{file}\t-\t{rule}\tlog\tmissing\t{planned}\n" for rule, file, planned in rows]
    path.write_text(SUMMARY + "".join(lines))
    return path


def timed(folder: Path, name: str, *rows: str) -> None:
    path = folder / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{row}\t0:00:01\t100\n" for row in rows))


def test_jobs_are_counted_by_rule_and_by_what_they_are_about(tmp_path):
    table = summary(
        tmp_path / "jobs.tsv",
        ("index_dataset", "results/datasets/d/index.tsv", "no update"),
        ("infer", "results/m/b/outputs/0000/made.json", "no update"),
        ("infer", "results/m/b/outputs/0001/made.json", "update pending"),
        ("infer", "results/m2/b/outputs/0000/made.json", "update pending"),
        ("patch", "results/m/b/patched.onnx", "update pending"),
        ("patch", "results/m/b/patches.json", "update pending"),
        ("report", "reports/m.txt", "no update"),
        ("report", "reports/m.json", "no update"),
        ("report", "reports/m.json", "no update"),  # Snakemake lists a file once for each job that reads it
    )
    assert plan.jobs_of(table, {"patch": "2", "report": "2"}) == {
        ("index_dataset", "d"): (1, 0),
        ("infer", "m"): (2, 1),
        ("infer", "m2"): (1, 1),
        ("patch", "m"): (1, 1),
        ("report", "m"): (1, 0),
    }


@pytest.mark.parametrize("content", ["", SUMMARY])
def test_a_table_without_files_is_refused(tmp_path, content):
    (tmp_path / "jobs.tsv").write_text(content)
    with pytest.raises(UsageError, match=r"jobs\.tsv: lists no files"):
        plan.jobs_of(tmp_path / "jobs.tsv", {})


def test_times_are_those_of_earlier_runs_where_there_are_any(tmp_path):
    timed(tmp_path, "infer/m/b/0000", "2.0")
    timed(tmp_path, "infer/m/b/0001", "4.0")
    timed(tmp_path, "index_dataset/d", "7.5")
    jobs = {
        ("index_dataset", "d"): plan.Jobs(1, 0),
        ("infer", "m"): plan.Jobs(250, 100),
        ("decode", "m"): plan.Jobs(250, 250),
    }
    lines = [line.split() for line in plan.job_lines(jobs, tmp_path)]
    assert lines[1:5] == [
        ["index_dataset", "1", "0", "7.50", "0"],
        ["infer", "250", "100", "3.00", "300"],
        ["decode", "250", "250", "-", "-"],
        ["all", "501", "350", "-"],
    ]


def test_the_sum_is_told_as_soon_as_every_rule_that_is_to_run_has_run(tmp_path):
    timed(tmp_path, "infer/m/b/0000", "1.5")
    timed(tmp_path, "report/m", "2.0")
    timed(tmp_path, "summary", "0.5")
    jobs = {("infer", "m"): plan.Jobs(4, 4), ("report", "m"): plan.Jobs(1, 1), ("summary", "summary"): plan.Jobs(1, 1)}
    jobs |= {("benchmark", "m"): plan.Jobs(1, 0)}
    assert plan.job_lines(jobs, tmp_path)[-2].split() == ["all", "7", "6", "8"]


@pytest.mark.parametrize(
    "content", ["", "x\n", HEADER, HEADER + "x\t1\n", HEADER + "nan\n", HEADER + "\n\t\n", "h:m:s\n0:00:01\n", "\0\xff"]
)
def test_benchmark_files_that_tell_no_time(tmp_path, content):
    path = tmp_path / "infer" / "m" / "0000.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    assert plan.seconds("infer", "m", tmp_path) is None


def test_detections_are_counted_where_there_are_any(tmp_path):
    model = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
    assert plan.detection_bytes("m", model, "b", 5000, tmp_path) == 5000 * 100 * plan.ROW_WITH_MASK
    (tmp_path / "m" / "b" / "detections").mkdir(parents=True)
    (tmp_path / "m" / "b" / "detections" / "0000.json.gz").write_bytes(bytes(77))
    assert plan.detection_bytes("m", model, "b", 5000, tmp_path) == 77


def run(folder: Path, **changes: object) -> subprocess.CompletedProcess:
    """The plan of the published RetinaMask with the guide's large outputs from a table of four jobs."""
    (folder / "compact.yaml").write_text((config.ROOT / "config/models/retinamask.yaml").read_text())
    (folder / "retinamask.yaml").write_text("base: compact\nnetwork: {contract: guide}\n")
    dataset = {"kind": "coco", "images": "images", "annotations": "truth.json", "count": 5000, "shards": 250}
    settings = {"models": ["retinamask"], "datasets": {"coco_val2017": dataset}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    table = summary(
        folder / "jobs.tsv",
        ("index_dataset", "results/datasets/coco_val2017/index.tsv", "update pending"),
        ("export", "results/retinamask/onnx/standard/exported.onnx", "update pending"),
        ("detect", "results/retinamask/onnxruntime/detections/0000.json.gz", "update pending"),
        ("detect", "results/retinamask/onnxruntime/detections/0001.json.gz", "update pending"),
    )
    flags = {
        "--summary": table,
        "--model": folder / "retinamask.yaml",
        "--dataset-config": folder / "config.yaml",
        "--backend": config.ROOT / "config/backends/onnxruntime.yaml",
        "--cores": 4,
        "--disk-limit-gb": 4,
        "--keep-outputs-gb": 2,
    }
    words = [f"{flag}={value}" for flag, value in (flags | changes).items()]
    command = [sys.executable, config.ROOT / "scripts" / "plan.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_bytes_and_the_peak(tmp_path):
    """Four jobs at work, each with 20 images of 21.7 MB and their outputs of 3.2 MB."""
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "retinamask 5000 108.380 GB 15.800 GB temporary 0.498 GB 0.265 GB" in rows
    assert "retinamask onnxruntime 250 20 as the configuration says" in rows
    assert "at most 1.992 GB (disk_limit_gb 4), 1.992 GB of jobs at work on 4 cores" in result.stdout
    many = run(tmp_path, **{"--cores": 64}).stdout
    assert "at most 4.000 GB (disk_limit_gb 4), 4.000 GB of jobs at work on 64 cores" in many, "more do not start"
    assert "all 4 4 -" in rows


def test_a_kept_model_takes_its_outputs_besides(tmp_path):
    said = run(tmp_path, **{"--keep-outputs-gb": 16, "--disk-limit-gb": 40}).stdout
    assert "kept" in said
    assert "of jobs at work on 4 cores and 15.8" in said


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x", ""])
@pytest.mark.parametrize("option", ["--keep-outputs-gb", "--disk-limit-gb"])
def test_numbers_of_gigabytes(option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        plan.main([f"{option}={value}"])
    assert ended.value.code == 2
    assert f"argument {option}: {value!r} is no number of gigabytes" in capsys.readouterr().err


def test_the_number_of_images_is_asked_for_where_nothing_tells_it(tmp_path):
    dataset = {"kind": "coco", "annotations": str(tmp_path / "truth.json"), "count": None}
    with pytest.raises(UsageError, match=r"datasets\.d: .*truth\.json: No such file .* or set datasets\.d\.count"):
        plan.count("d", dataset)
    assert plan.count("d", dataset | {"count": 7}) == 7
    (tmp_path / "truth.json").write_text(json.dumps({"images": [{"file_name": "a"}, {"file_name": "b"}]}))
    assert plan.count("d", dataset) == 2


def test_what_parity_costs():
    """Runs of the model: eager, three graphs and the compiled one; a ready graph has no eager."""
    checkpoint, ready = {"network": {}}, {"onnx": "x"}
    backends = {"onnxruntime": {"runs": "compiled"}, "pytorch": {"runs": "checkpoint"}}
    (line,) = plan.parity_lines(8, {"m": checkpoint, "r": ready}, backends)
    assert line.endswith("so often besides: m 40 on onnxruntime, 8 on pytorch; r 32 on onnxruntime, 0 on pytorch.")
    assert plan.parity_lines(0, {"m": checkpoint}, backends) == []
