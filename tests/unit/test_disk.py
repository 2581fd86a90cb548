"""Bytes of a shard at work, how many jobs may be at work at once, which outputs are kept, and what is left over."""

import math
import re
import socket
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from detport import config, disk, files
from detport.errors import UsageError
from detport.networks.retinamask_check import contract_outputs

MODEL = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
MODEL["outputs"] = contract_outputs(MODEL["network"] | {"contract": "guide"})  # large ones
ONNXRUNTIME = config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")
TENSOR = 3 * 4 * 1344 * 1344
OUTPUTS = 4 * (1000 * 4 + 1000 + 1000 + 1000 * 28 * 28)
sizes = strategies.dictionaries(strategies.sampled_from("abcdef"), strategies.integers(1, 10**6), min_size=1)


def test_an_image_of_the_published_retinamask():
    assert TENSOR < disk.image_bytes(MODEL, ONNXRUNTIME, kept=True) < 1.01 * TENSOR
    assert TENSOR + OUTPUTS < disk.image_bytes(MODEL, ONNXRUNTIME, kept=False) < 1.01 * (TENSOR + OUTPUTS)
    text = {"runner": {"tool": "msame", "outfmt": "TXT"}}
    assert disk.image_bytes(MODEL, text, kept=True) > 2 * TENSOR + 4 * OUTPUTS
    pixels = MODEL | {"input": MODEL["input"] | {"on_device": True}}
    assert TENSOR / 4 < disk.image_bytes(pixels, ONNXRUNTIME, kept=True) < 1.01 * TENSOR / 4


def budget(images: int = 5000, shards: int = 250, backends: int = 1, models: int = 1, **settings) -> disk.Budget:
    """That of the published RetinaMask, once or several times."""
    return disk.budget(
        {f"m{i}": MODEL for i in range(models)},
        {"coco_val2017": images},
        {(f"m{i}", f"b{k}"): math.ceil(images / shards) for i in range(models) for k in range(backends)},
        {f"b{i}": ONNXRUNTIME for i in range(backends)},
        {"disk_limit_gb": 4, "keep_outputs_gb": 2} | settings,
    )


def test_shards_are_rounded_up():
    even, odd = (budget(images).job_mb["m0", "b0"] for images in (5000, 5001))
    assert odd == pytest.approx(even / 20 * 21, abs=1)


def test_jobs_at_work_share_what_kept_outputs_leave():
    assert budget() == ({}, {("m0", "b0"): budget().job_mb["m0", "b0"]}, 4000)
    ten = budget(images=10, shards=10)
    assert ten.kept == {"m0": 10 * disk.output_bytes(MODEL)}
    assert ten.scratch_mb == int(4000 - ten.kept["m0"] / 1e6)
    assert ten.job_mb["m0", "b0"] == 22, "an image without its outputs, which are not in the scratch folder"


def test_outputs_are_kept_of_every_backend_or_of_none():
    """Each may take keep_outputs_gb, and a model's rules are the same for all."""
    size = 100 * disk.output_bytes(MODEL)
    enough = {"keep_outputs_gb": size / 1e9 * 1.001, "disk_limit_gb": 10}
    assert budget(images=100, backends=3, **enough).kept == {"m0": 3 * size}
    assert budget(images=100, backends=3, **enough | {"keep_outputs_gb": size / 1e9 * 0.999}).kept == {}


@hypothesis.given(strategies.integers(1, 6000), strategies.integers(1, 300), strategies.floats(0.001, 10))
def test_a_budget_never_exceeds_the_limit(images, shards, limit):
    """Kept outputs and any jobs that Snakemake starts within scratch_mb; a limit too small for one names its like."""
    try:
        found = budget(images, shards, backends=2, models=2, disk_limit_gb=limit)
    except UsageError as error:
        needed = float(re.search(r"at least (\d+\.\d+)", str(error))[1])
        assert needed > limit
        try:
            assert budget(images, shards, backends=2, models=2, disk_limit_gb=needed)
        except UsageError as again:  # more of the outputs are kept within a larger limit
            assert float(re.search(r"at least (\d+\.\d+)", str(again))[1]) > needed
        return
    assert sum(found.kept.values()) + found.scratch_mb * 1e6 <= limit * 1e9
    assert max(found.job_mb.values()) <= found.scratch_mb + 1


@hypothesis.given(sizes, strategies.floats(0, 1e6), strategies.floats(0, 1e7))
def test_kept_outputs_leave_half_of_the_limit(taken, most, limit):
    kept = disk.keeping(taken, most, limit)
    assert sum(taken[name] for name in kept) <= limit / 2
    assert all(taken[name] <= most for name in kept)


def test_what_earlier_runs_left_is_found(tmp_path):
    """Scratch folders of any model; outputs that the configuration does not keep any more, of its own models only."""
    results, host = tmp_path / "results", socket.gethostname()
    gone = [
        results / "m" / "b" / "scratch" / "0000",
        results / "gone" / "b" / "scratch" / "0012",
        results / "m" / "b" / "outputs" / "0002",
        results / "m" / f".weights.{host}.4194300.1.partial",
        results / "m" / "b" / f".a\nb.{host}.1.1.partial",
        results / "m" / "b" / "detections" / f".0000.json.gz.{host}.1.1.partial",
    ]
    stay = [
        results / "m" / "b" / "outputs" / "0000",
        results / "gone" / "b" / "outputs" / "0000",
        results / "m" / "b" / "outputs" / "notes",
        results / "m" / "b" / "scratch" / "notes",
        results / "m" / "b" / ".0001.elsewhere.1.1.partial",
        results / "datasets" / "d" / "index.tsv",
        tmp_path / "shards" / "m" / "0000",
        Path(files.partial_name(results / "m" / "b" / "model.onnx")),
    ]
    for path in [*gone, *stay]:
        path.mkdir(parents=True)
    kept = {"results/m/b/outputs/0000"}
    assert sorted(disk.leftovers(tmp_path, {"m"}, kept)) == sorted(gone)
    assert set(disk.leftovers(tmp_path, {"m"}, kept, alone=True)) - set(gone) == {stay[4], stay[-1]}, "of any host"
