"""Temporary shards and outputs stay below disk_limit_gb, whatever runs beside what."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from detport import config, disk
from runs import IMAGES, planned, snakemake
from stages import with_stand_ins

SHARDS = 64
MODEL = "config/models/retinamask.yaml"
TARGET = "results/retinamask/onnxruntime/accuracy.json"
GB = 1e9


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return with_stand_ins(tmp_path_factory.mktemp("stand-ins") / "repository")


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    """A dataset of one image per shard and a model with small tensors; the files are only named, never read."""
    model = yaml.safe_load((repository.parents[0] / "repository" / MODEL).read_text())
    model |= {"dataset": "many", "input": {"name": "input", "height": 128, "width": 128}, "references": [], "gates": []}
    model["outputs"] = [{"name": "boxes", "shape": [100, 50], "dtype": "float32"}]
    limits = {"nms": "hard", "nms_iou": 0.5, "max_detections": 100, "min_score": 0.0}
    model["decode"] = {"kind": "efficientdet", "categories": "coco80", "anchor_scale": 4.0} | limits
    model["metric"] = {"kind": "coco", "iou_types": ["bbox"]}
    settings = {
        "models": ["retinamask"],
        "datasets": {"many": {"kind": "coco", "images": "images", "annotations": "truth.json", "shards": SHARDS}},
    }
    truth = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(SHARDS)], "annotations": [], "categories": []}
    (tmp_path / "config" / "models").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / MODEL).write_text(yaml.safe_dump(model))
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / model["checkpoint"]["file"]).touch()
    return tmp_path


def limit(folder: Path, shards: float, **settings) -> float:
    """Set a limit of so many shards with temporary outputs; return it in bytes."""
    model = config.load(folder / MODEL, "model")
    one = disk.image_bytes(model, {"onnxruntime": {}}, kept=False)
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"disk_limit_gb": shards * one / GB, **settings}))
    return shards * one


def used(folder: Path) -> int:
    """Bytes of all shards and outputs, half-written ones included."""
    results = folder / "results" / "retinamask"
    return sum(
        size(Path(place) / name)
        for top in (results / "shards", results / "onnxruntime" / "outputs")
        for place, _, names in os.walk(top)
        for name in names
    )


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted since it was listed
        return 0


def watched_run(repository: Path, folder: Path, *arguments: str, seconds: float = 0.0) -> tuple[int, str]:
    """Run to the target; the largest number of bytes seen, and what Snakemake said."""
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder, TARGET]
    sizes = f"preprocess={3 * 4 * 128 * 128},infer={4 * 100 * 50}"
    environment = os.environ | {"STAND_IN_BYTES": sizes, "STAND_IN_SECONDS": str(seconds)}
    peak = 0
    with (folder / "said").open("w") as said:
        process = subprocess.Popen([*command, *arguments], stdout=said, stderr=said, env=environment)
        while process.poll() is None:
            peak = max(peak, used(folder))
            time.sleep(0.01)
    text = (folder / "said").read_text()
    assert process.returncode == 0, text
    return peak, text


@pytest.mark.parametrize(
    ("cores", "shards", "device"),
    [(1, 2, False), (8, 5, False), (8, 5, True)],
    ids=["1 core", "8 cores", "8 cores, one device"],
)
def test_a_run_of_64_shards_stays_below_the_limit(repository, folder, cores, shards, device):
    most = limit(folder, shards, keep_outputs_gb=0)
    # With one device, priorities alone would let preprocessing run ahead by dozens of shards.
    one_device = ["--set-resources", "infer_temporary:npu=1", "--resources", "npu=1"] if device else []
    peak, _ = watched_run(repository, folder, "--cores", str(cores), *one_device, seconds=0.1 * device)
    assert 0 < peak <= most
    assert len(list(folder.glob("results/retinamask/onnxruntime/detections/*"))) == SHARDS
    assert not list(folder.glob("results/retinamask/shards/*"))
    assert not list(folder.glob("results/retinamask/*/outputs/*"))
    assert not list(folder.glob("results/retinamask/room/*/*"))


def test_the_real_stages_take_no_more_than_their_stand_ins(copy_of_finished, finished):
    """The demo's model, one image per shard: tensors, outputs and whatever the stages write beside them."""
    folder = copy_of_finished()
    path = folder / "config" / "config.yaml"
    datasets = yaml.safe_load(path.read_text())["datasets"]
    datasets["shapes"]["shards"] = IMAGES
    most = limit(folder, 2, keep_outputs_gb=0, datasets=datasets)
    shutil.rmtree(folder / "results" / "retinamask" / "onnxruntime" / "outputs")  # those of the run before were kept
    peak, said = watched_run(config.ROOT, folder, "--cores", "2")
    assert said.count("rule infer_temporary:") == IMAGES
    assert 0.4 * most < peak <= most
    assert not list(folder.glob("results/retinamask/shards/*"))
    assert (folder / TARGET).read_bytes() == (finished / TARGET).read_bytes()


def test_a_run_of_one_model_has_the_room_of_all(repository, folder):
    """Room is made for every shard after the first so many, so the plan tells how many may be there at once."""
    (folder / "config" / "models" / "other.yaml").write_text("base: retinamask\n")
    limit(folder, 12, keep_outputs_gb=0, models=["retinamask", "other"])

    def at_once(*targets: str) -> float:
        jobs = planned(folder, *targets, repository=repository)
        return (jobs["preprocess"] - jobs["make_room"]) / (jobs["preprocess"] / SHARDS)

    assert at_once() == at_once(TARGET, TARGET.replace("retinamask", "other")) == 6
    assert at_once(TARGET) == at_once("reports/other.txt") == 12


def test_kept_outputs_count_as_well(repository, folder):
    most = limit(folder, 20)
    peak, _ = watched_run(
        repository, folder, "--cores", "8", "--set-resources", "infer:npu=1", "--resources", "npu=1", seconds=0.05
    )
    assert 0 < peak <= most
    assert len(list(folder.glob("results/retinamask/*/outputs/*"))) == SHARDS
    # Another limit, in either direction, is no reason to do anything again.
    for shards in (16, 3, 1000):
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
    assert planned(folder, TARGET, repository=repository)["preprocess"] == SHARDS


def test_the_published_retinamask_stays_below_4_gb_by_default():
    model = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
    settings = config.load(config.ROOT / "config" / "config.yaml", "config")
    images = {"coco_val2017": settings["datasets"]["coco_val2017"]["count"]}
    budget = disk.budget({"retinamask": model}, settings["datasets"], images, {"onnxruntime": {}}, settings)
    assert settings["disk_limit_gb"] <= 4
    assert not budget.kept
    assert budget.windows["retinamask"] >= 4, "fewer would starve a machine of a few cores"
    assert budget.windows["retinamask"] * budget.shards["retinamask"] <= 4 * GB


def test_the_plan_counts_the_jobs_that_a_dry_run_counts(repository, folder):
    limit(folder, 20)
    plan = subprocess.run(
        [
            *(sys.executable, config.ROOT / "scripts" / "plan.py", "--model", MODEL),
            *("--dataset-config", "config/config.yaml", "--backend", repository / "config/backends/onnxruntime.yaml"),
            *("--disk-limit-gb", str(yaml.safe_load((folder / "config/config.yaml").read_text())["disk_limit_gb"])),
            *("--keep-outputs-gb", "2"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert plan.returncode == 0, plan.stderr
    jobs = {line.split()[0]: int(line.split()[1]) for line in plan.stdout.splitlines() if line.count(" -") == 2}
    dry = planned(folder, "reports/retinamask.txt", repository=repository)
    assert {stage: count for stage, count in jobs.items() if count} == dry


def test_the_plan_comes_without_data(tmp_path):
    names = ("retinamask", "gfocalv2", "efficientdet_d7", "efficientdet_d0")
    models = f"models=[{','.join(names)}]"
    result = snakemake(config.ROOT, "--cores", "1", "plan", "--config", models, "disk_limit_gb=8")
    assert result.returncode == 0, result.stderr
    for name in names:
        assert f"{name} " in result.stdout
    for part in ("108.380 GB", "15.800 GB", "disk_limit_gb 8", "infer                  2000"):
        assert part in result.stdout


@pytest.mark.parametrize("backends", ["onnxruntime", "pytorch", "ascend310", "pytorch,ascend310p"])
def test_every_backend_fits_into_the_default_limit(tmp_path, backends):
    """With the repository's own configuration: the commands that the documentation prints."""
    shutil.copytree(config.ROOT / "config", tmp_path / "config")
    result = snakemake(tmp_path, "--cores", "1", "plan", "--config", f"backends=[{backends}]")
    assert result.returncode == 0, result.stderr
    assert "(disk_limit_gb 4)" in result.stdout + result.stderr
