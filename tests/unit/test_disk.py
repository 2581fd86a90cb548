"""Bytes of shards, how many fit, and the times that keep another limit from rerunning anything."""

import os
import socket
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from detport import config, disk, files
from detport.errors import UsageError

MODEL = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
sizes = strategies.dictionaries(strategies.sampled_from("abcdef"), strategies.integers(1, 10**6), min_size=1)


ONNXRUNTIME = config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")


def test_an_image_of_the_published_retinamask():
    tensor = 3 * 4 * 1344 * 1344
    assert tensor < disk.image_bytes(MODEL, {"a": ONNXRUNTIME}, kept=True) < 1.01 * tensor
    outputs = 4 * (1000 * 4 + 1000 + 1000 + 1000 * 28 * 28)
    assert tensor + outputs < disk.image_bytes(MODEL, {"a": ONNXRUNTIME}, kept=False) < 1.01 * (tensor + outputs)
    two = {"a": ONNXRUNTIME, "b": ONNXRUNTIME}
    assert tensor + 2 * outputs < disk.image_bytes(MODEL, two, kept=False) < 1.01 * (tensor + 2 * outputs)
    text = {"a": ONNXRUNTIME | {"runner": {"tool": "msame", "outfmt": "TXT"}}}
    assert disk.image_bytes(MODEL, text, kept=True) > 2 * tensor + 4 * outputs


def test_shards_are_rounded_up():
    datasets = {"coco_val2017": {"shards": 250}}
    settings = {"disk_limit_gb": 4, "keep_outputs_gb": 2}
    even, odd = (
        disk.budget({"a": MODEL}, datasets, {"coco_val2017": images}, {"b": ONNXRUNTIME}, settings).shards["a"]
        for images in (5000, 5001)
    )
    assert odd == even / 20 * 21


@hypothesis.given(sizes, strategies.integers(0, 10**6), strategies.floats(1, 1e8))
def test_windows_fill_the_limit_and_never_exceed_it(shard, kept, limit):
    needed = sum(shard.values()) + kept
    if needed > limit:
        with pytest.raises(UsageError, match="disk_limit_gb"):
            disk.windows(shard, kept, limit)
        return
    found = disk.windows(shard, kept, limit)
    assert all(window >= 1 for window in found.values())
    assert kept + sum(found[name] * shard[name] for name in shard) <= limit


@hypothesis.given(sizes, strategies.floats(0, 1e6), strategies.floats(0, 1e7))
def test_kept_outputs_leave_half_of_the_limit(taken, most, limit):
    kept = disk.keeping(taken, most, limit)
    assert sum(taken[name] for name in kept) <= limit / 2
    assert all(taken[name] <= most for name in kept)


def made(folder: Path, name: str, moment: int) -> Path:
    path = folder / name
    path.touch()
    os.utime(path, ns=(moment, moment))
    return path


def chain(folder: Path, outputs: list[int], detections: list[int], accuracy: int, index: int = 0) -> dict:
    """Files of a finished run with times in seconds."""
    shards = [
        {
            "benchmarks": [made(folder, f"benchmark{k}", 0)],
            "outputs": [made(folder, f"outputs{k}", out * 10**9)],
            "detections": [made(folder, f"detections{k}", found * 10**9)],
        }
        for k, (out, found) in enumerate(zip(outputs, detections, strict=True))
    ]
    inputs, results = [made(folder, "index", index * 10**9)], [made(folder, "accuracy", accuracy * 10**9)]
    return {"inputs": inputs, "shards": shards, "results": results}


def times(files: dict) -> list[int]:
    return [disk.time_of(path) for shard in files["shards"] for path in (*shard["outputs"], *shard["detections"])]


def test_times_are_put_in_order(tmp_path):
    files = chain(tmp_path, [9, 5, 7], [10, 6, 8], 11)
    disk.order_times(**files)
    found = times(files)
    assert found == sorted(found)
    assert len(set(found)) == 6
    assert found[0] == 5 * 10**9
    assert [disk.time_of(path) for path in files["results"]] == [11 * 10**9]
    benchmarks = [disk.time_of(shard["benchmarks"][0]) for shard in files["shards"]]
    assert benchmarks == found[0::2]


@pytest.mark.parametrize(
    "files",
    [
        {"outputs": [9, 5], "detections": [10, 4], "accuracy": 11},
        {"outputs": [9, 5], "detections": [10, 6], "accuracy": 8},
        {"outputs": [9, 5], "detections": [10, 6], "accuracy": 11, "index": 7},
    ],
    ids=["outputs newer than detections", "detections newer than accuracy", "index newer than outputs"],
)
def test_times_stay_where_something_is_to_be_made_again(tmp_path, files):
    files = chain(tmp_path, **files)
    before = times(files)
    disk.order_times(**files)
    assert times(files) == before


def test_what_a_killed_run_had_used_up_is_removed(tmp_path):
    for name in ("used", "needed", "unfinished"):
        (tmp_path / name).mkdir()
    for name in ("done", "half"):
        (tmp_path / name).touch()
    marks = tmp_path / ".snakemake" / "incomplete"
    marks.mkdir(parents=True)
    (marks / "aGFsZg==").touch()  # half
    needed_by = {Path("used"): [Path("done")], Path("needed"): [Path("done"), Path("missing")]}
    needed_by |= {Path("unfinished"): [Path("half")], Path("gone"): [Path("done")]}
    assert disk.remove_used(tmp_path, needed_by) == [Path("used")]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [".snakemake", "needed", "unfinished"]


def test_what_no_shard_owns_any_more_is_removed(tmp_path):
    top, outputs = tmp_path / "results" / "m" / "shards", tmp_path / "results" / "m" / "b" / "outputs"
    gone = [top / "0002", tmp_path / "results" / "other" / "shards" / "0000", outputs / "0002"]
    dead = [
        top / f".0001.{socket.gethostname()}.4194300.1.partial",
        outputs / f".a\nb.{socket.gethostname()}.1.1.partial",
    ]
    kept = [top / "0000", outputs / "0000", tmp_path / "results" / "other" / "b" / "outputs" / "0000"]
    kept += [files.partial_name(top / "0003"), top / ".0001.elsewhere.1.1.partial", top / "notes"]
    kept += [tmp_path / "results" / "datasets" / "shards" / "index.tsv"]
    for path in [*gone, *dead, *kept]:
        path.mkdir(parents=True)
    owned = {path.relative_to(tmp_path): [] for path in kept[:2]}
    removed = disk.remove_strangers(tmp_path, [outputs.relative_to(tmp_path), Path("results/nothing/there")], owned)
    assert sorted(removed) == sorted(path.relative_to(tmp_path) for path in gone)
    assert not any(path.exists() for path in [*gone, *dead])
    assert all(path.exists() for path in kept)


def test_sizes_are_those_of_all_files_below_a_folder(tmp_path):
    """Ground truths name images in folders of their own, and data are often links to another disk."""
    images = tmp_path / "images"
    (images / "deep" / "er").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name, size in (("images/a.jpg", 1), ("images/deep/er/b.jpg", 2), ("elsewhere/c.jpg", 3)):
        (tmp_path / name).write_bytes(bytes(size))
    (images / "link").symlink_to(tmp_path / "elsewhere")
    (images / "round").symlink_to(images)
    (images / "nothing").symlink_to(tmp_path / "missing")
    assert sorted(disk.sizes(str(images))) == [("a.jpg", 1), ("deep/er/b.jpg", 2), ("link/c.jpg", 3)]
