"""What jobs ask of a cluster follows from the model and the shard."""

from pathlib import Path

import pytest

from detport import config, demands

MODELS = Path("config/models")


@pytest.fixture(scope="module")
def efficientdet() -> dict:
    return config.load(config.ROOT / MODELS / "efficientdet_d7.yaml", "model")


@pytest.fixture(scope="module")
def backends() -> dict:
    return {
        name: config.load_backend(config.ROOT / "config" / "backends" / f"{name}.yaml")
        for name in ("onnxruntime", "ascend310p")
    }


def test_memory_is_more_than_was_measured_at_full_size(efficientdet):
    """docs/efficientdet.md: inference takes 2.0 GB, simplify, which runs two forms of the graph, 5.1 GB."""
    assert 2000 < demands.mem_mb(efficientdet, attempt=1) < 5000
    assert 5100 < demands.mem_mb(efficientdet, attempt=1, checks=True) < 12000


def test_another_attempt_asks_for_twice_as_much(efficientdet, backends):
    assert demands.mem_mb(efficientdet, attempt=2) == pytest.approx(2 * demands.mem_mb(efficientdet, attempt=1), abs=1)
    assert demands.minutes(backends["onnxruntime"], 57, 2) == 77


def test_time_follows_the_shard_and_the_class_of_the_backend(backends):
    """57 images at a tenth of an image per second take 10 minutes: half an hour and the start are asked for."""
    assert demands.minutes(backends["onnxruntime"], 57, 1) == 39
    assert demands.minutes(backends["onnxruntime"], 5000, 1) > 2500
    assert demands.minutes(backends["ascend310p"], 5000, 1) < 90
