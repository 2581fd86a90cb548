"""The contracts of EfficientDet and RetinaMask through the stages: the small one loses nothing that the other holds."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import convert_checkpoint
import decode
import export
import infer
import patch
import preprocess
from detport import config, detections, efficientdet

DEMO = config.ROOT / "demo"
MODELS = DEMO / "config" / "models"
BACKENDS = config.ROOT / "config" / "backends"
IMAGES = 6
PIXEL = 5e-3  # of the network input, and SCORE: noise of float32 between two graphs
SCORE = 3e-5


def stage(module, **options) -> None:
    """Run a stage with its flags."""
    flags = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items()}
    module.main([part for flag in flags.items() for part in flag])


def declared(network: dict, contract: str, size: dict) -> list[dict]:
    """The outputs of a contract under names of our own."""
    outputs = efficientdet.outputs(network | {"contract": contract}, size["height"], size["width"])
    return [{"name": f"map_{i}"} | output for i, output in enumerate(outputs)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientDet with either contract."""
    model = config.load(MODELS / "efficientdet.yaml", "model")
    outputs = declared(model["network"], "raw", model["input"])
    return detected(tmp_path_factory.mktemp("efficientdet"), "efficientdet", "raw", {"outputs": outputs})


@pytest.fixture(scope="module")
def retinamask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RetinaMask with either contract, which is one key."""
    return detected(tmp_path_factory.mktemp("retinamask"), "retinamask", "guide", {})


def detected(folder: Path, model: str, contract: str, more: dict) -> Path:
    """Both yamls of a model with their graphs, and detections of some images of the demo by both."""
    published = MODELS / f"{model}.yaml"
    (folder / "compact.yaml").write_text(published.read_text())
    (folder / f"{contract}.yaml").write_text(
        yaml.safe_dump({"base": "compact", "network": {"contract": contract}} | more)
    )
    weights, index, shard = folder / "weights.safetensors", folder / "index.tsv", folder / "shard"
    truth = json.loads((DEMO / "data" / "annotations" / "instances.json").read_text())["images"]
    lines = [f"{x['id']}\t{x['file_name']}\t{x['width']}\t{x['height']}\t1" for x in truth[:IMAGES]]
    index.write_text("\n".join(["image_id\tfile\twidth\theight\tbytes", *lines, ""]))
    stage(convert_checkpoint, model=published, weights=DEMO / "weights" / f"{model}.pth", output=weights)
    stage(preprocess, model=published, index=index, images=DEMO / "data" / "images", shard="0/1", output=shard)
    for name in ("compact", contract):
        yaml_file, graph, outputs = folder / f"{name}.yaml", folder / f"{name}.onnx", folder / name
        stage(export, model=yaml_file, weights=weights, output=graph)
        backend = BACKENDS / "onnxruntime.yaml"
        stage(infer, model=yaml_file, backend=backend, compiled=graph, shard=shard, output=outputs)
        stage(decode, model=yaml_file, shard=shard, outputs=outputs, output=folder / f"{name}.json.gz")
    return folder


def test_both_contracts_give_the_same_detections(folder):
    compact, raw = (detections.read(folder / f"{name}.json.gz") for name in ("compact", "raw"))
    assert compact["images"] == raw["images"] and len(raw["images"]) == IMAGES
    rows, expected = compact["detections"], raw["detections"]
    assert len(expected) > IMAGES
    for key in ("image_id", "category_id"):
        assert [row[key] for row in rows] == [row[key] for row in expected]
    boxes, scores = ([np.array([row[key] for row in each]) for each in (rows, expected)] for key in ("bbox", "score"))
    assert np.abs(boxes[0] - boxes[1]).max() < PIXEL
    assert np.abs(scores[0] - scores[1]).max() < SCORE


def test_nms_before_the_masks_changes_no_detection(retinamask):
    """Not even by rounding."""
    compact, guide = (detections.read(retinamask / f"{name}.json.gz") for name in ("compact", "guide"))
    assert compact == guide and len(guide["detections"]) > IMAGES
    sizes = [sum(path.stat().st_size for path in (retinamask / name).glob("*.bin")) for name in ("compact", "guide")]
    assert sizes == [IMAGES * count * 4 * (4 + 1 + 1 + 28 * 28) for count in (100, 300)]


def test_the_small_contract_is_small(folder):
    sizes = {name: sum(path.stat().st_size for path in (folder / name).glob("*.bin")) for name in ("compact", "raw")}
    assert sizes["compact"] == IMAGES * 120_000  # whatever the canvas
    assert sizes["raw"] == IMAGES * 4 * efficientdet.anchor_count(256, 256) * (7 + 4)


def test_the_cost_of_zero_padding_is_told_by_pairs(folder):
    """The graph is the exporter's own: its pads are still outside of the pools."""
    text = (folder / "compact.yaml").read_text().replace("name: fuse_pad_into_maxpool", "name: pad_maxpool_with_zero")
    (folder / "zero.yaml").write_text(text.replace("before: {}", "before: {Constant: 10}"))
    options = {"model": folder / "zero.yaml", "backend": BACKENDS / "ascend310.yaml", "onnx": folder / "compact.onnx"}
    stage(patch, **options, output=folder / "zero.onnx", output_json=folder / "patches.json")
    (done,) = json.loads((folder / "patches.json").read_text())["patches"]
    effect = done["effect"]
    assert effect["index"]["of"] == 5000 and 0 < effect["index"]["exchanged"] < 5000
    assert effect["logits"]["largest"] > effect["logits"]["mean"] > 0
    assert effect.keys() == {"logits", "box_codes", "index"}
