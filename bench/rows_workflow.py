"""What the workflow itself costs: around and between the jobs of a run, in a dry run, in a shard, and on a device.

Seconds are by the clock here, of runs that have the machine to themselves.
"""

import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

import scale
import schedule
from detport import config, cutting, timeline
from detport.console.estimate import durations
from side_by_side import Measured, Row, of_pairs

DEMO = config.ROOT / "demo"
SIMULATOR = config.ROOT / "tests" / "ascend"
CORES = 2
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
# Seconds that RetinaMask as it is shipped takes for an image on a core of an EPYC (docs/precision.md). Beside them the
# workflow's own seconds on a slower machine look more than they are.
IMAGE_S = {"onnxruntime": 4.3, "openvino_bf16": 1.9}
SHARE = 0.03  # of the time of the images that the workflow may take
LOAD_S = 1.0  # that the simulated device takes to load a model
FASTEST = 34.5  # images per second of a device, of the speeds that the guides publish
IDLE_LATENCY_S, MOST_IDLE, LEAST = 0.5, 5.0, 0.01  # of an image; percent that are allowed, and that are told
ROUNDS = 5


class Run(NamedTuple):
    """Of a run: seconds by the clock, those before its first job and behind its last, those of an ideal schedule."""

    seconds: float
    around: float
    ideal: float
    jobs: int


def copied(folder: Path, shards: int | None = None, **settings: object) -> Path:
    """The demo without results, with other settings and another number of shards if they are given."""
    for name in ("config", "data", "weights"):
        shutil.copytree(DEMO / name, folder / name)
    path = folder / "config" / "config.yaml"
    own = yaml.safe_load(path.read_text(encoding="utf-8")) | settings
    for dataset in own["datasets"].values():
        dataset["shards"] = shards or dataset["shards"]
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    return folder


def simulated(place: Path, load_s: float, latency_s: float) -> dict[str, str]:
    """Environment in which a simulated Ascend 310P takes so long to load a model, and for an image."""
    path = os.pathsep.join([str(SIMULATOR / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    times = {"ASCEND_SIM_LOAD_S": str(load_s), "ASCEND_SIM_LATENCY_S": str(latency_s)}
    own = {"PYTHONPATH": str(SIMULATOR / "python"), "DETPORT_DEVICES": str(place / "devices")}
    return {"PATH": path, "OMP_NUM_THREADS": "1"} | times | own


def snakemake(folder: Path, *arguments: str, **environment: str) -> float:
    """Run the workflow in a working directory; seconds by the clock."""
    command = [sys.executable, "-m", "snakemake", "-s", config.ROOT / "Snakefile", "--directory", folder, *arguments]
    began = time.monotonic()
    subprocess.run(command, check=True, env=os.environ | environment, **QUIET)
    return time.monotonic() - began


@functools.cache
def demo_run() -> Run:
    """The demo from nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = copied(Path(place) / "demo")
        seconds = snakemake(folder, "--cores", str(CORES))
        jobs = schedule.of_run(folder, CORES)
    span = max(job.ended for job in jobs) - min(job.ended - job.seconds for job in jobs)
    return Run(seconds, seconds - span, schedule.ideal(jobs, CORES), len(jobs))


def demo(folder: Path) -> Measured:
    """By its clock, beside the ideal schedule of its jobs."""
    run = demo_run()
    return of_pairs([(run.seconds, run.ideal)], "s")


def projected(backend: str) -> Callable[[Path], Measured]:
    """What the demo's run took beyond an ideal schedule, for the plan of RetinaMask on COCO val: once before the first
    job and behind the last, and between jobs as often as there are some, beside SHARE of the time of its images."""

    def measure(folder: Path) -> Measured:
        run = demo_run()
        between = max(run.seconds - run.around - run.ideal, 0) / run.jobs
        jobs = planned_jobs(folder, backend)
        images_s = images_of_coco() * IMAGE_S[backend] / CORES
        return of_pairs([(run.around + jobs * between, SHARE * images_s)], "s")

    return measure


def planned_jobs(folder: Path, backend: str) -> int:
    """Jobs of RetinaMask on COCO val as it is configured."""
    scale.prepare(folder, 1, images_of_coco(), "auto", backends=[backend], disk_limit_gb=default_limit())
    return scale.plan(folder, "default").jobs


def images_of_coco() -> int:
    return settings()["datasets"]["coco_val2017"]["count"]


def default_limit() -> float:
    return settings()["disk_limit_gb"]


@functools.cache
def settings() -> dict:
    """The configuration that is shipped."""
    return config.load(config.ROOT / "config" / "config.yaml", "config")


def dry_run(folder: Path) -> Measured:
    """Seconds of a plan, beside those that Snakemake needs to say its version."""
    scale.prepare(folder, 4, images_of_coco(), 500, disk_limit_gb=default_limit())
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "snakemake", "--version"], check=True, **QUIET)
    start = time.monotonic() - began
    return of_pairs([(scale.plan(folder, "default").seconds, start)], "s")


@functools.cache
def fixed_s() -> float:
    """Seconds of a job with a shard of one image, without that image, on a simulated device."""
    latency = 1 / FASTEST
    with tempfile.TemporaryDirectory() as place:
        folder = copied(Path(place) / "demo", shards=80, backends=["ascend310p"], keep_outputs_gb=0)
        targets = [f"results/gfocalv2/ascend310p/detections/{k:04d}.json.gz" for k in range(ROUNDS)]
        snakemake(folder, "--cores", "1", *targets, **simulated(Path(place), LOAD_S, latency))
        files = (folder / "benchmarks" / "detect" / "gfocalv2" / "ascend310p").glob("*.tsv")
        return statistics.median(durations(path)[0] for path in files) - latency


def starting(name: str, fps: float, enough: bool) -> Callable[[Path], Measured]:
    """Percent of a job's time, from its start to its end, that are not images, for the shards of COCO val into which a
    published model is cut: within the limit that the plan names as enough, or the one that is shipped."""

    def measure(folder: Path) -> Measured:
        model = config.load(config.ROOT / "config" / "models" / f"{name}.yaml", "model")
        backend = config.load_backend(config.ROOT / "config" / "backends" / "ascend310p.yaml")
        limit = default_limit()
        found = cutting.cut({"shards": "auto"}, images_of_coco(), model, backend, limit)
        if enough:
            limit = found.enough_gb or limit
            found = cutting.cut({"shards": "auto"}, images_of_coco(), model, backend, limit)
        percent = 100 * fixed_s() / (fixed_s() + found.images / found.shards / fps)
        return of_pairs([(percent, 100 * cutting.SHARE)], "%")

    return measure


def idle(folder: Path) -> Measured:
    """Percent of the time between a device's first and last use that it was in no job's hands, of a run in which two
    cores prepare shards for it."""
    work = copied(folder / "demo", shards=8, models=["retinamask"], backends=["ascend310p"])
    target = "results/retinamask/ascend310p/accuracy.json"
    snakemake(work, "--cores", str(CORES), target, **simulated(folder, LOAD_S, IDLE_LATENCY_S))
    (uses,) = timeline.last_run(work)[1].values()
    used, whole = timeline.busy(uses)
    return of_pairs([(max(100 * (1 - used / whole), LEAST), MOST_IDLE)], "%")


ROWS = [
    Row("the demo with all reports, 2 cores", "the ideal schedule of its jobs", demo, required=0.87, slow=True),
    *(
        Row(
            f"the workflow on COCO val, {backend}, projected",
            f"{SHARE:.0%} of RetinaMask's images",
            projected(backend),
            1,
            slow=True,
        )
        for backend in IMAGE_S
    ),
    Row("dry run of 4 models x 500 shards", "Snakemake's own start", dry_run, most=6, slow=True),
    *(
        Row(
            f"starting a shard at {fps:g} images/s, {where}",
            "5 % of its time",
            starting(name, fps, enough),
            most=most,
            slow=True,
        )
        for name, fps in (("gfocalv2", FASTEST), ("retinamask", 4.3))
        for where, enough, most in (("disk enough", True, 5), ("4 GB", False, None))
    ),
    Row("a device idle while shards are prepared", "5 % of a run", idle, most=MOST_IDLE, slow=True),
]
