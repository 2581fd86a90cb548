"""The demo's models on simulated chips: each runner sees what the eager network sees, float16 apart."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from tiny import simulated

from detport import backends, canvases, config, decoders, shards, tensors, yamlfile
from detport.backends import ascend as backend_ascend
from detport.compilers import ascend as compiler
from detport.compilers import onnxruntime as onnxruntime_compiler
from detport.graph import patches

DEMO = config.ROOT / "demo"
IMAGES = 4
CHIPS = {"ascend310": "Ascend310", "ascend310p": "Ascend310P3"}
RUNNERS = [("ais_bench", "BIN"), ("msame", "BIN"), ("msame", "TXT"), ("benchmark", "BIN")]
COUNTED = 0.3  # score from which a detection must be found again


def trained() -> list[str]:
    """Models of the demo with a network to compare with, whose weights are there."""
    found = []
    for path in sorted((DEMO / "config" / "models").glob("*.yaml")):
        model = config.load(path, "model")
        weights = model.get("checkpoint", {}).get("file")
        if not model["input"]["canvases"] and weights and (DEMO / weights).exists():
            found.append(path.stem)
    return found


class Case(NamedTuple):
    """A model with its graph for Ascend, a few images, and what the eager network detects in them."""

    file: Path
    model: dict
    graph: Path
    inputs: list[tuple[dict, Path]]
    expected: list[dict]
    folder: Path


def stage(script: str, *arguments: object) -> None:
    command = [sys.executable, config.ROOT / "scripts" / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=simulated())
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=trained())
def case(request, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    file = DEMO / "config" / "models" / f"{request.param}.yaml"
    model = canvases.select({"name": request.param} | config.load(file, "model"), None)
    weights = folder / "weights.safetensors"
    stage(
        "convert_checkpoint.py", "--model", file, "--weights", DEMO / model["checkpoint"]["file"], "--output", weights
    )
    exported, simplified = folder / "exported.onnx", folder / "simplified.onnx"
    stage("export.py", "--model", file, "--weights", weights, "--flavour", "ascend", "--output", exported)
    stage("simplify.py", "--model", file, "--onnx", exported, "--output", simplified)
    inputs = preprocessed(model, folder / "shard")
    torch.set_num_threads(1)
    eager = {"family": "pytorch", "flavour": "standard", "runs": "checkpoint"}
    found = detections(backends.load("pytorch").infer, weights, model, eager, inputs, folder)
    return Case(file, model, simplified, inputs, found, folder)


def preprocessed(model: dict, folder: Path) -> list[tuple[dict, Path]]:
    """The first images of the demo as .bin files, with their entries of shard.json."""
    folder.mkdir()
    inputs = []
    for i, path in enumerate(sorted((DEMO / "data" / "images").iterdir())[:IMAGES]):
        tensor, placement = tensors.preprocess(path, model)
        name = f"{shards.bin_stem(path.name)}.bin"
        tensor.tofile(folder / name)
        entry = {"image_id": i, "file": path.name, "bin": name, "bytes": tensor.nbytes} | placement
        inputs.append((entry, folder / name))
    return inputs


def detections(infer, compiled: Path, model: dict, backend: dict, inputs: list, folder: Path) -> list[dict]:
    """Run the images and decode them."""
    settings = model["decode"]
    decode, categories = decoders.load(settings["kind"]).decode, decoders.categories(settings["categories"])
    rows = []

    def write(image: dict, arrays: list[np.ndarray]) -> None:
        named = {entry["name"]: array for entry, array in zip(model["outputs"], arrays, strict=True)}
        rows.extend(decode(named, image, settings, categories))

    infer(compiled, model, backend, inputs, write, folder, 1)
    return rows


def lost(expected: list[dict], found: list[dict], iou: float, score: float) -> list[dict]:
    """Detections that count, and that have no other of their image and class nearby with nearly their score."""
    return [row for row in expected if row["score"] >= COUNTED and not any(same(row, b, iou, score) for b in found)]


def same(a: dict, b: dict, iou: float, score: float) -> bool:
    alike = (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
    return alike and abs(a["score"] - b["score"]) <= score and overlap(a["bbox"], b["bbox"]) >= iou


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def built(case: Case, name: str, monkeypatch, **keys: object) -> tuple[Path, dict]:
    """The model for a chip, patched as its yaml says and compiled by the simulated atc."""
    backend = config.load_backend(config.ROOT / "config" / "backends" / f"{name}.yaml")
    backend |= {"soc_version": CHIPS[name], "devices": [0]} | keys
    for variable, value in simulated(chips=f"{CHIPS[name].removeprefix('Ascend')}x1", cann=backend["cann"]).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("DETPORT_DEVICES", str(case.folder / "devices"))
    graph = onnx.load(case.graph)
    for patch in config.load_model(case.file, "patch", backend)["patches"]:
        patches.apply(graph, patch)
    onnx.save(graph, case.folder / f"{name}.onnx")
    model = case.model | {"compile": case.model["compile"].get("ascend", {})}
    output = case.folder / name / "model.om"
    compiler.compile_model(case.folder / f"{name}.onnx", model, backend, output)
    return output, backend


@pytest.mark.parametrize("chip", CHIPS)
def test_every_runner_detects_what_the_network_detects(case, chip, monkeypatch):
    compiled, backend = built(case, chip, monkeypatch)
    first = None
    for tool, outfmt in RUNNERS:
        own = backend | {"runner": {"tool": tool, "outfmt": outfmt, "names": "stem"}}
        found = detections(backend_ascend.infer, compiled, case.model, own, case.inputs, case.folder)
        counted = [row for row in case.expected if row["score"] >= COUNTED]
        gone, new = lost(case.expected, found, 0.8, 0.05), lost(found, case.expected, 0.8, 0.05)
        assert len(counted) >= IMAGES, "there is something to find"
        # A network with proposals chooses them by float16 NMS on the device, so some of its detections sit elsewhere.
        share = 0.3 if any(output["name"] == "rois" for output in case.model["outputs"]) else 0.05
        assert len(gone) + len(new) <= share * len(counted), f"{tool} {outfmt}: {gone} {new}"
        if outfmt == "BIN":
            assert json.dumps(found) == (first := first or json.dumps(found)), "runners differ in nothing"


def on_device(case: Case, folder: Path) -> Case:
    """The same model with its normalisation in the compiled model."""
    model = case.model | {"input": case.model["input"] | {"on_device": True}}
    folder.mkdir()
    return case._replace(model=model, inputs=preprocessed(model, folder / "pixels"), folder=folder)


def test_normalisation_in_the_model_changes_nothing_that_counts(case, monkeypatch, tmp_path):
    """Same boxes and classes, scores within 0.01, in ONNX Runtime and on the simulated chip; a quarter of the bytes."""
    if case.model["preprocess"]["normalise"] == "before_resize":
        with pytest.raises(Exception, match="on_device"):
            config.check(_with_on_device(case), "model", "rfcn.yaml")
        return
    pixels = on_device(case, tmp_path / "on_device")
    assert 4 * pixels.inputs[0][0]["bytes"] == case.inputs[0][0]["bytes"]
    standard = {"family": "onnxruntime", "session": {"graph_optimization": "all"}}
    graph = case.folder / "standard.onnx"
    if not graph.exists():
        exported = case.folder / "exported_standard.onnx"
        weights = case.folder / "weights.safetensors"
        stage("export.py", "--model", case.file, "--weights", weights, "--output", exported)
        stage("simplify.py", "--model", case.file, "--onnx", exported, "--output", graph)
    runs = []
    for one in (case, pixels):
        onnxruntime_compiler.compile_model(graph, one.model, standard, one.folder / "model.onnx")
        infer = backends.load("onnxruntime").infer
        runs.append(detections(infer, one.folder / "model.onnx", one.model, standard, one.inputs, one.folder))
        compiled, own = built(one, "ascend310p", monkeypatch)
        runs.append(detections(backend_ascend.infer, compiled, one.model, own, one.inputs, one.folder))
    for host, device in ((runs[0], runs[2]), (runs[1], runs[3])):
        assert lost(host, device, 0.95, 0.01) == []
        assert lost(device, host, 0.95, 0.01) == []


def _with_on_device(case: Case) -> dict:
    value, _ = yamlfile.read_yaml(case.file)
    value["input"]["on_device"] = True
    return value
