"""A cluster on this machine, and a small demo that has run here to its report."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_cluster

from runs import reduced_demo, snakemake

ASKED = "DETPORT_CLUSTER_TESTS"  # of the environment: they take minutes and the machine's /etc/slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[small_cluster.Cluster]:
    """Two nodes, or a skip that says why not."""
    if ASKED not in os.environ:
        pytest.skip("no cluster was brought up: make test-cluster")
    if reason := small_cluster.missing():
        pytest.skip(f"no cluster was brought up: {reason}")
    with small_cluster.small_cluster() as running:
        yield running
    assert not Path("/etc/slurm/slurm.conf").exists()


@pytest.fixture(scope="session")
def here(cluster, tmp_path_factory) -> Path:
    """A small demo that has run on this machine to its report."""
    folder = reduced_demo(tmp_path_factory.mktemp("cluster") / "here", "yolo", shards=4)
    result = snakemake(folder, "--cores", "2", "reports/yolo.txt")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def undetected(here, tmp_path) -> Callable[[], Path]:
    """A copy of it in a path with a space and a quote, which lacks detections and what follows from them."""
    folder = tmp_path / "it's on a cluster"
    shutil.copytree(here, folder)
    for gone in ("reports", "results/yolo/onnxruntime/detections", "results/yolo/onnxruntime/outputs"):
        shutil.rmtree(folder / gone, ignore_errors=True)
    for kind in ("accuracy", "analysis"):
        for path in folder.glob(f"results/yolo/onnxruntime/{kind}.json*"):
            path.unlink()
    return folder
