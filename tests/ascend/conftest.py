"""Fixtures of the tests with simulated Ascend tools."""

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from tiny import SIDE, simulated, tiny_graph


@pytest.fixture
def tools(monkeypatch, tmp_path) -> Callable[..., None]:
    """Puts the simulated tools first; call it with chips="310x4", fail="crash", … to choose the machine."""
    monkeypatch.setenv("DETPORT_DEVICES", str(tmp_path / "devices"))  # apart from those of other tests

    def choose(**variables: str) -> None:
        for name in [name for name in os.environ if name.startswith("ASCEND")]:
            monkeypatch.delenv(name)
        for name, value in simulated(**variables).items():
            monkeypatch.setenv(name, value)

    choose()
    return choose


@pytest.fixture
def model() -> dict:
    """What the stages see of the tiny network: two outputs of one size, one of integers."""
    return {
        "name": "tiny",
        "input": {"name": "x", "height": SIDE, "width": SIDE},
        "outputs": [
            {"name": "scores", "shape": [1, SIDE * SIDE], "dtype": "float32"},
            {"name": "best", "shape": [1, SIDE * SIDE], "dtype": "int32"},
            {"name": "maps", "shape": [1, 2, SIDE, SIDE], "dtype": "float32"},
        ],
        "compile": {},
    }


@pytest.fixture
def backend() -> Callable[..., dict]:
    """An Ascend backend with the given keys."""

    def made(**keys: object) -> dict:
        own = {
            "name": "ascend310p",
            "soc_version": "auto",
            "chip": "Ascend310P",
            "cann": "6.0.RC1",
            "loop": 2,
            "stall_minutes": 60,
        }
        runner = {"tool": "ais_bench", "outfmt": "BIN", "names": "stem"} | keys.pop("runner", {})
        return own | {"devices": [0], "runner": runner} | keys

    return made


@pytest.fixture
def graph(tmp_path) -> Path:
    """The tiny network as a file."""
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_graph(), path)
    return path
