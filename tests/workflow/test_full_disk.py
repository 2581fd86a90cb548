"""A full disk: a clear message, nothing half-written that passes for whole, and on it goes when there is room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs import reduced_demo, snakemake

MB = 1 << 20
TARGET = "results/retinamask/onnxruntime/accuracy.json"


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A demo whose results are on a disk of their own, of 1 MB."""
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    (folder / "results").mkdir()
    mounted = mount(folder, 1)
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder / "results"], check=True)


def mount(folder: Path, megabytes: int, *options: str) -> subprocess.CompletedProcess:
    sized = ",".join([*options, f"size={megabytes * MB}"])
    command = ["mount", "-t", "tmpfs", "-o", sized, "tmpfs", folder / "results"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_goes_on_after_room_is_made(small_disk, finished):
    # The sizes at which, one after the other, weights, graphs, shards and outputs are too large.
    stopped = []
    for megabytes in (1, 3, 7, 11, 13):
        assert mount(small_disk, megabytes, "remount").returncode == 0
        result = snakemake(small_disk, "--cores", "1", TARGET)
        if result.returncode == 0:
            break
        said = result.stdout + result.stderr
        assert "make room" in said.lower(), said
        assert "Traceback" not in said
        assert not list((small_disk / "results").rglob("*.partial"))
        stopped.append(megabytes)
    assert len(stopped) >= 2
    assert mount(small_disk, 64, "remount").returncode == 0
    result = snakemake(small_disk, "--cores", "2", TARGET)
    assert result.returncode == 0, result.stdout
    assert (small_disk / TARGET).read_bytes() == (finished / TARGET).read_bytes()
