"""One lock: conda definitions name the same versions as the pip files, and nothing names a registry."""

import re
import sys
from importlib import metadata

import pytest
import yaml

from detport import code, config, schemas

ENVS = config.ROOT / "envs"


def pins(*parts: str) -> set[str]:
    lines = [line for part in parts for line in (ENVS / f"{part}.txt").read_text().splitlines()]
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize(("conda", "parts"), [("run", ["run"]), ("export", ["run", "export"])])
def test_conda_definitions_name_the_locked_versions(conda, parts):
    definition = yaml.safe_load((ENVS / f"{conda}.yaml").read_text())
    assert set(definition["dependencies"][-1]["pip"]) == pins(*parts)


def test_every_pin_is_exact_and_there_once():
    names = [pin.partition("==")[0].lower() for pin in sorted(pins("run", "export", "test", "slurm"))]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins("run", "export", "test", "slurm"))
    assert len(names) == len(set(names))


def test_inference_needs_no_torch():
    names = {pin.partition("==")[0] for pin in pins("run")}
    assert "onnxruntime" in names
    assert not {"torch", "onnxsim"} & names


def test_the_executor_for_a_cluster_is_apart():
    """Whoever has no cluster need not install it, nor what it alone needs; who has one installs it beside the rest."""
    names = {pin.partition("==")[0] for pin in pins("slurm")}
    assert {"snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep", "pandas"} <= names
    assert not names.intersection(pin.partition("==")[0] for part in ("run", "export", "test") for pin in pins(part))


def test_no_registry_is_named():
    for path in ENVS.iterdir():
        if path.suffix in (".txt", ".in", ".yaml"):
            assert "://" not in path.read_text(), path
            assert "--index" not in path.read_text(), path


FAMILIES = [name for name in schemas.kinds("backends") if "environment" not in schemas.plugin("backends", name)]

DATASETS = ["datasets.coco", "datasets.folder", "datasets.voc", "datasets.yolo"]
# The stages that a machine without torch runs, and the modules that the configuration may select for them.
WITHOUT_TORCH = {
    "index_dataset.py": ["metrics.coco", "metrics.voc", *DATASETS],
    "preprocess.py": [],
    "compile.py": [f"compilers.{family}" for family in FAMILIES],
    "infer.py": [f"backends.{family}" for family in FAMILIES],
    "decode.py": [f"decoders.{kind}" for kind in schemas.kinds("decoders")],
    "evaluate.py": [f"metrics.{kind}" for kind in schemas.kinds("metrics")],
    "benchmark.py": [f"backends.{family}" for family in FAMILIES],
    "report.py": [f"metrics.{kind}" for kind in schemas.kinds("metrics")],
    "summary.py": [],
    "accept.py": [],
    "plan.py": DATASETS,
}


@pytest.mark.parametrize("script", WITHOUT_TORCH)
def test_what_these_stages_import_is_pinned_without_torch(script):
    plugins = [f"detport.{name}" for name in WITHOUT_TORCH[script]]
    files = code.closure(script, [*plugins, *code.PLUMBING])
    imported = {name.partition(".")[0] for path in files for name in code.imports(path)}
    packages = metadata.packages_distributions()
    foreign = imported - sys.stdlib_module_names - {"detport"}
    pinned = {re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins("run")}
    needed = {re.sub(r"[-_.]+", "-", packages[name][0]).lower(): name for name in foreign}
    assert "torch" not in foreign
    assert needed.keys() <= pinned, {needed[name] for name in needed.keys() - pinned}
