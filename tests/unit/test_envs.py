"""One lock: conda definitions name the same versions as the pip files, and nothing names a registry."""

import re

import pytest
import yaml

from detport import config

ENVS = config.ROOT / "envs"


def pins(*parts: str) -> set[str]:
    lines = [line for part in parts for line in (ENVS / f"{part}.txt").read_text().splitlines()]
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize(("conda", "parts"), [("run", ["run"]), ("export", ["run", "export"])])
def test_conda_definitions_name_the_locked_versions(conda, parts):
    definition = yaml.safe_load((ENVS / f"{conda}.yaml").read_text())
    assert set(definition["dependencies"][-1]["pip"]) == pins(*parts)


def test_every_pin_is_exact_and_there_once():
    names = [pin.partition("==")[0].lower() for pin in sorted(pins("run", "export", "test"))]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins("run", "export", "test"))
    assert len(names) == len(set(names))


def test_inference_needs_no_torch():
    names = {pin.partition("==")[0] for pin in pins("run")}
    assert "onnxruntime" in names
    assert not {"torch", "onnxsim"} & names


def test_no_registry_is_named():
    for path in ENVS.iterdir():
        if path.suffix in (".txt", ".in", ".yaml"):
            assert "://" not in path.read_text(), path
            assert "--index" not in path.read_text(), path
