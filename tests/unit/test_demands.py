"""The time that jobs ask of a cluster follows from the shard."""

import pytest

from detport import config, demands


@pytest.fixture(scope="module")
def backends() -> dict:
    return {
        name: config.load_backend(config.ROOT / "config" / "backends" / f"{name}.yaml")
        for name in ("onnxruntime", "ascend310p")
    }


def test_time_follows_the_shard_and_the_class_of_the_backend(backends):
    """57 images at a tenth of an image per second take 10 minutes: half an hour and the start are asked for."""
    assert demands.minutes(backends["onnxruntime"], 57, 1) == 39
    assert demands.minutes(backends["onnxruntime"], 57, 2) == 77
    assert demands.minutes(backends["onnxruntime"], 5000, 1) > 2500
    assert demands.minutes(backends["ascend310p"], 5000, 1) < 90
