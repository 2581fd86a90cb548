"""Temporary shards and outputs stay below disk_limit_gb, whatever runs beside what."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
import yaml

from detport import config, cutting, disk, memory
from runs import IMAGES, planned, snakemake
from stages import with_stand_ins

SHARDS = 16
MODEL = "config/models/retinamask.yaml"
TARGET = "results/retinamask/onnxruntime/accuracy.json"
GB = 1e9


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return with_stand_ins(tmp_path_factory.mktemp("stand-ins") / "repository")


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    """A dataset of one small image per shard and a model with small tensors; weights are only named, never read."""
    model = yaml.safe_load((repository / MODEL).read_text())
    # A network that has no say in its outputs; nobody builds it.
    model["network"] = yaml.safe_load((repository / "config/models/gfocalv2.yaml").read_text())["network"]
    model |= {"dataset": "many", "input": {"name": "input", "height": 128, "width": 128}, "references": [], "gates": []}
    model["outputs"] = [{"name": "boxes", "shape": [100, 50], "dtype": "float32"}]
    limits = {"nms": "hard", "nms_iou": 0.5, "max_detections": 100, "min_score": 0.0}
    model["decode"] = {"kind": "efficientdet", "categories": "coco80", "anchor_scale": 4.0} | limits
    model["metric"] = {"kind": "coco", "iou_types": ["bbox"]}
    settings = {
        "models": ["retinamask"],
        "datasets": {"many": {"kind": "coco", "images": "images", "annotations": "truth.json", "shards": SHARDS}},
    }
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(SHARDS)]
    for name in ("config/models", "images", "weights"):
        (tmp_path / name).mkdir(parents=True)
    for image in images:
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / "images" / image["file_name"])
    (tmp_path / MODEL).write_text(yaml.safe_dump(model))
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    (tmp_path / model["checkpoint"]["file"]).touch()
    return tmp_path


def limit(folder: Path, shards: float, **settings) -> float:
    """Set a limit of so many shards with temporary outputs; return it in bytes."""
    model = config.load(folder / MODEL, "model")
    one = disk.image_bytes(model, {}, kept=False)
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"disk_limit_gb": shards * one / GB, **settings}))
    return shards * one


def used(folder: Path) -> int:
    """Bytes of all tensors and outputs, half-written ones included."""
    own = folder / "results" / "retinamask" / "onnxruntime"
    return sum(
        size(Path(place) / name)
        for top in (own / "scratch", own / "outputs")
        for place, _, names in os.walk(top)
        for name in names
    )


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted since it was listed
        return 0


def at_work(folder: Path) -> int:
    """Jobs that hold a model for their shard: each has a folder of its own meanwhile."""
    return len(list(folder.glob("results/retinamask/onnxruntime/scratch/*")))


def watched_run(
    repository: Path, folder: Path, *arguments: str, seconds: float = 0.0, watch: Callable[[Path], int] = used
) -> tuple[int, str]:
    """Run to the target; the largest number of bytes seen, or of what is watched, and what Snakemake said."""
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder, "-p", TARGET]
    sizes = f"preprocess={3 * 4 * 128 * 128},infer={4 * 100 * 50}"
    environment = os.environ | {"STAND_IN_BYTES": sizes, "STAND_IN_SECONDS": str(seconds)}
    peak = 0
    with (folder / "said").open("w") as said:
        process = subprocess.Popen([*command, *arguments], stdout=said, stderr=said, env=environment)
        while process.poll() is None:
            peak = max(peak, watch(folder))
            time.sleep(0.01)
    text = (folder / "said").read_text()
    assert process.returncode == 0, text
    return peak, text


@pytest.mark.parametrize(
    ("cores", "shards", "seconds"),
    [(1, 2, 0.0), (8, 5, 0.0), (8, 5, 0.1)],
    ids=["1 core", "8 cores", "8 cores, slow inference"],
)
def test_a_run_of_many_shards_stays_below_the_limit(repository, folder, cores, shards, seconds):
    """However far preprocessing could run ahead of a device that jobs wait for."""
    most = limit(folder, shards, keep_outputs_gb=0)
    peak, said = watched_run(repository, folder, "--cores", str(cores), seconds=seconds)
    assert 0 < peak <= most
    assert said.count("rule detect:") == SHARDS
    assert len(list(folder.glob("results/retinamask/onnxruntime/detections/*.json.gz"))) == SHARDS
    assert not list(folder.glob("results/retinamask/onnxruntime/scratch/*"))
    assert not list(folder.glob("results/retinamask/onnxruntime/outputs/*"))


@pytest.mark.parametrize("jobs", [2, 3])
def test_a_run_starts_no_more_jobs_than_the_memory_holds(repository, folder, monkeypatch, jobs):
    """Eight cores on a machine whose memory is enough for two or three models."""
    monkeypatch.chdir(folder)  # weights count, and their file is told relative to this
    backend = config.load_backend(repository / "config/backends/onnxruntime.yaml")
    one = memory.job_mb("infer", config.load(folder / MODEL, "model"), backend)
    limit(folder, SHARDS, keep_outputs_gb=0)
    room = str(int((jobs + 0.9) * one))
    most, said = watched_run(
        repository, folder, "--cores", "8", "--resources", f"mem_mb={room}", seconds=0.3, watch=at_work
    )
    assert most == jobs
    assert said.count("rule detect:") == SHARDS


def test_a_limit_of_the_command_line_goes_before(repository, folder):
    """For a node whose local disk is smaller, or a scratch folder elsewhere."""
    limit(folder, 8, keep_outputs_gb=0)
    one = limit(folder, 1.5, keep_outputs_gb=0)
    limit(folder, 8, keep_outputs_gb=0)
    peak, _ = watched_run(repository, folder, "--cores", "8", "--resources", "scratch_mb=1")
    assert 0 < peak <= one


def test_the_real_stages_take_no_more_than_their_stand_ins(copy_of_finished, finished):
    """The demo's model, one image per shard: tensors, outputs and whatever the stages write beside them."""
    folder = copy_of_finished()
    path = folder / "config" / "config.yaml"
    datasets = yaml.safe_load(path.read_text())["datasets"]
    datasets["shapes"]["shards"] = IMAGES
    most = limit(folder, 2.2, keep_outputs_gb=0, datasets=datasets)  # a job's share is rounded up to a MB
    shutil.rmtree(folder / "results" / "retinamask" / "onnxruntime" / "outputs")  # those of the run before were kept
    peak, said = watched_run(config.ROOT, folder, "--cores", "2")
    assert said.count("rule detect:") == IMAGES
    assert 0.4 * most < peak <= most
    assert not list(folder.glob("results/retinamask/onnxruntime/scratch/*"))
    assert not list(folder.glob("results/retinamask/onnxruntime/outputs/*"))
    assert (folder / TARGET).read_bytes() == (finished / TARGET).read_bytes()


def test_kept_outputs_count_as_well(repository, folder):
    most = limit(folder, 10)
    peak, said = watched_run(repository, folder, "--cores", "8", seconds=0.05)
    assert 0 < peak <= most
    assert said.count("rule infer:") == said.count("rule decode:") == SHARDS
    assert len(list(folder.glob("results/retinamask/*/outputs/*/made.json"))) == SHARDS
    # Another limit, in either direction, is no reason to do anything again.
    for shards in (8, 3, 1000):
        limit(folder, shards)
        result = snakemake(folder, "-n", TARGET, repository=repository)
        assert "Nothing to be done" in result.stdout + result.stderr, result.stdout


def test_a_limit_too_small_for_one_shard_names_the_number_needed(repository, folder):
    limit(folder, 0.9, keep_outputs_gb=0)
    result = snakemake(folder, "-n", TARGET, repository=repository)
    assert result.returncode == 2
    line = next(line for line in result.stderr.splitlines() if line.startswith("detport: error"))
    assert "disk_limit_gb" in line
    needed = float(line.split("at least ")[1].split(",")[0])
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"disk_limit_gb": needed}))
    assert planned(folder, TARGET, repository=repository)["detect"] == SHARDS


def test_the_published_retinamask_stays_below_4_gb_by_default():
    model = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
    settings = config.load(config.ROOT / "config" / "config.yaml", "config")
    images = {"coco_val2017": settings["datasets"]["coco_val2017"]["count"]}
    backends = {"b": config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")}
    cuts = cutting.of_all({"m": model}, images, settings["datasets"], backends, settings["disk_limit_gb"])
    largest = {of: cut.largest for of, cut in cuts.items()}
    budget = disk.budget({"m": model}, images, largest, backends, settings)
    assert settings["disk_limit_gb"] <= 4
    assert budget.kept == {"m": 5000 * disk.output_bytes(model)}, "a new threshold needs no inference"
    assert budget.scratch_mb <= 4000
    assert budget.scratch_mb // budget.job_mb["m", "b"] >= 6, "fewer would starve a machine of a few cores"


def jobs(plan: str) -> dict[str, tuple[int, int]]:
    """Of every rule in a plan, all jobs and those to do."""
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +[-\d.]+ +[-\d]+$", plan, re.MULTILINE)
    return {rule: (int(total), int(pending)) for rule, total, pending in rows}


def test_the_plan_counts_the_jobs_that_a_dry_run_counts(repository, folder):
    limit(folder, 10)
    plan = snakemake(folder, "--cores", "1", "plan", repository=repository)
    assert plan.returncode == 0, plan.stderr
    assert jobs(plan.stdout) == {rule: (n, n) for rule, n in planned(folder, repository=repository).items()}
    watched_run(repository, folder, "--cores", "2")
    plan = snakemake(folder, "--cores", "1", "plan", repository=repository)
    assert jobs(plan.stdout)["decode"] == (SHARDS, 0)
    pending = {rule: n for rule, (_, n) in jobs(plan.stdout).items() if n}
    assert (
        pending
        == planned(folder, repository=repository)
        == {"parity": 1, **dict.fromkeys(("benchmark", "report", "page", "summary"), 1)}
    )


def test_the_plan_comes_without_data(tmp_path):
    """Also of a dataset whose images a file lists that is missing."""
    names = ("retinamask", "gfocalv2", "efficientdet_d7", "rfcn")
    shutil.copytree(config.ROOT / "config", tmp_path / "config")
    models = f"models=[{','.join(names)}]"
    result = snakemake(tmp_path, "--cores", "1", "plan", "--config", models, "disk_limit_gb=8")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in names:
        assert f"\n{name} " in result.stdout
    for part in ("108.380 GB", "1.580 GB", "disk_limit_gb 8"):
        assert part in result.stdout
    found, cuts = (
        jobs(result.stdout),
        dict(re.findall(r"^(\w+) +onnxruntime +(\d+) +\d+  cpu: ", result.stdout, re.MULTILINE)),
    )
    assert found["infer"] == found["decode"] == 2 * (sum(map(int, cuts.values())),)
    assert found["index_dataset"] == (2, 2)


@pytest.mark.parametrize("backends", ["onnxruntime", "pytorch", "ascend310", "pytorch,ascend310p"])
def test_every_backend_fits_into_the_default_limit(tmp_path, backends):
    """With the repository's own configuration: the commands that the documentation prints."""
    shutil.copytree(config.ROOT / "config", tmp_path / "config")
    result = snakemake(tmp_path, "--cores", "1", "plan", "--config", f"backends=[{backends}]")
    assert result.returncode == 0, result.stderr
    assert "(disk_limit_gb 4)" in result.stdout + result.stderr
    told = re.search("warning: retinamask on ascend.*: device: .* at most 5% with disk_limit_gb", result.stderr)
    assert bool(told) is ("ascend" in backends), "whose shards keep a device from its work is told of at once"
