"""A network, a decoder, a metric, a family of backends and a patch that are only there: no other file knows them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from runs import ROOT, reduced_demo, snakemake

OWN = Path(__file__).with_name("plugins")
MODEL = "config/models/meanbox.yaml"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of the repository with files added and none changed."""
    folder = tmp_path_factory.mktemp("plugins") / "repository"
    for name in ("scripts", "rules", "config", "envs", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    for path in OWN.rglob("*.*"):
        assert not (folder / path.relative_to(OWN)).exists()
    shutil.copytree(OWN, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def working(repository, tmp_path) -> Path:
    """The reduced demo's data with the model of the added plugins."""
    folder = reduced_demo(tmp_path / "working", shards=1, parity=4)
    path = folder / "config" / "config.yaml"
    settings = yaml.safe_load(path.read_text()) | {"models": ["meanbox"], "backends": ["planned"]}
    path.write_text(yaml.safe_dump(settings))
    shutil.copy(repository / MODEL, folder / "config" / "models")
    torch.save({"weight": torch.ones(3, 5)}, folder / "weights" / "meanbox.pth")
    return folder


def test_the_workflow_runs_with_plugins_that_it_does_not_know(repository, working):
    result = snakemake(working, "--cores", "2", "reports/meanbox.txt", repository=repository)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (working / "results/meanbox/planned/model.plan").read_bytes().startswith(b"PLAN")
    report = json.loads((working / "reports/meanbox.json").read_text())
    assert [gate["verdict"] for gate in report["gates"]] == ["PASS"]
    assert [row["rung"] for row in report["parity"] if row["verdict"] == "FAIL"] == ["patched"], "a lossy patch"
    assert report["verdict"] == "FAIL"
    found = report["backends"]["planned"]
    assert found["accuracy"] == {"boxes": {"mean": 1.0, "times": 7.0, "per_class": {}}}
    (graph,) = found["patches"]
    assert [patch["name"] for patch in graph["patches"]] == ["sigmoid_twice"]
    assert graph["patches"][0]["effect"]["box"]["largest"] > 0
    text = (working / "reports/meanbox.txt").read_text()
    assert ["planned", "boxes", "1.0000", "7.0000"] in [
        [word for word in line.split() if word != "of" and not word.isdigit()] for line in text.splitlines()
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (MODEL, "values: 5", "values: 4", "network.values: 4 is less than the minimum of 5"),
        (MODEL, "values: 5", "values: 6", "outputs.0.shape: is not [1, 6], as network.values says"),
        (MODEL, "{name: box, ", "{name: bax, ", "decoder onebox reads box [1, 5]; declared are bax [1, 5]"),
        (MODEL, "level: 3", "level: high", "compile.plan.level: 'high' is not of type integer"),
        (MODEL, "after: {Sigmoid: 1}", "after: {}, options: {much: 1}", "patches.plan.0.options.much: unknown key"),
        (MODEL, "measure: boxes.times", "measure: bbox.AP", "'bbox.AP' is neither a figure of metric boxcount"),
        (MODEL, "  plan:\n    -", "  onnxruntime:\n    -", "sigmoid_twice is for the family plan alone: nobody else"),
        ("config/backends/planned.yaml", "word: PLAN", "ward: PLAN", "ward: unknown key; did you mean 'word'?"),
    ],
)
def test_their_mistakes_are_found_before_anything_runs(repository, tmp_path, file, old, new, expected):
    """By the first stage that reads them; the workflow checks the same."""
    shutil.copytree(OWN / "config", tmp_path / "config")
    path = tmp_path / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    backend = (repository if "onnxruntime" in new else tmp_path) / "config" / "backends"
    flags = {
        "--model": tmp_path / MODEL,
        "--backend": backend / ("onnxruntime.yaml" if "onnxruntime" in new else "planned.yaml"),
        **{"--onnx": "none.onnx", "--output": tmp_path / "out.onnx", "--output-json": tmp_path / "out.json"},
    }
    command = [sys.executable, repository / "scripts" / "patch.py", *(word for flag in flags.items() for word in flag)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr
