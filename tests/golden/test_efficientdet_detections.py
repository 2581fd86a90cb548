"""EfficientDet-D7 against the upstream scripts: network input, detections from raw outputs, the metric over them."""

import contextlib
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from cases import read_case
from detport import config, tensors
from detport.decoders.efficientdet import best_pairs, decode, pair_maps
from detport.efficientdet import ANCHORS, COMPACT, STRIDES
from detport.networks.efficientdet import EfficientDet, build
from graphs import export, run_onnx

CASE = "efficientdet_d7"
MODEL_YAML = config.ROOT / "config" / "models" / "efficientdet_d7.yaml"
OPSET = 11
PIXEL = 5e-3  # of the network input: noise of float32 between processors, with a factor of about seven
SCORE = 1e-6  # as much from equal logits


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    return case_folder(CASE)


def test_preprocess_is_bit_identical(folder: Path, case_images: Callable[[str], Path]) -> None:
    """Images of all kinds that the case has: grey, CMYK, turned by EXIF, enlarged, shrunk."""
    case, golden = read_case(folder, "preprocess")
    model = config.load_model(MODEL_YAML, "preprocess")
    assert case["images"]
    for stem, spec in case["images"].items():
        tensor, placement = tensors.preprocess(case_images(CASE) / spec["file"], model)
        assert list(tensor.shape) == spec["shape"] and tensor.dtype == spec["dtype"], stem
        assert tensor.nbytes == case["bytes_per_image"]
        assert np.array_equal(tensor.reshape(-1)[golden["idx"]], golden[f"{stem}_val"]), stem
        assert hashlib.sha256(tensor.tobytes()).hexdigest() == spec["sha256"], stem
        assert [placement["width"], placement["height"]] == spec["img_size"], stem
        assert placement["scale"] == spec["resize_scale"], stem
        assert np.float32(1 / placement["scale"]) == np.float32(spec["img_scale_float32"]), stem
        assert placement["resized"] == [spec["resized_width"], spec["resized_height"]], stem
        assert placement["pad"] == [spec["pad_right"], spec["pad_bottom"]], stem


class Select(nn.Module):
    """The selection of a network as a graph of its own, from the ten raw outputs."""

    def __init__(self, network: EfficientDet) -> None:
        super().__init__()
        self.network = network

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return self.network.select(list(maps[: len(STRIDES)]), list(maps[len(STRIDES) :]))


@pytest.fixture(scope="module")
def decoded(folder: Path) -> tuple[dict, dict[str, np.ndarray], list[dict]]:
    """The case of the post-processing, and our rows of all its images from the raw contract."""
    spec, golden = read_case(folder, "postprocess")
    rows = []
    for image in spec["images"]:
        outputs = raw_outputs(spec, golden, image["stem"])
        entry, settings, categories = decode_arguments(spec, image)
        own = decode(outputs, entry, settings, categories)
        logits, codes, index = best_pairs(*pair_maps(outputs, len(categories)), settings["candidates"])
        compact = dict(zip(COMPACT, (x[None] for x in (logits, codes, index.astype(np.int32))), strict=True))
        assert decode(compact, entry, settings, categories) == own
        rows += own
    return spec, golden, rows


def raw_outputs(spec: dict, golden: dict[str, np.ndarray], stem: str) -> dict[str, np.ndarray]:
    """The ten outputs of an image, last one first, so that only their shapes tell them apart."""
    outputs = {}
    for entry in reversed(spec["contract"]):
        fill = spec["fill"]["class_logits" if entry["kind"] == "class logits" else "box_codes"]
        value = np.full(entry["shape"], fill, entry["dtype"])
        name = f"{stem}_out{entry['index']}"
        value.reshape(-1)[golden[f"{name}_idx"]] = golden[f"{name}_val"]
        outputs[f"output_{len(outputs)}"] = value
    return outputs


def decode_arguments(spec: dict, image: dict) -> tuple[dict, dict, list[int]]:
    finest = spec["contract"][0]["shape"]
    height, width = (side * STRIDES[0] for side in finest[2:])
    classes = finest[1] // ANCHORS
    entry = {
        "image_id": image["id"],
        "width": image["width"],
        "height": image["height"],
        "scale": 1 / image["img_scale"],
        "resized": [width, height],
        "pad": [0, 0],
    }
    parameters = spec["parameters"]
    settings = config.load_model(MODEL_YAML, "decode")["decode"] | {
        "candidates": parameters["topk"],
        "nms_iou": parameters["nms_iou"],
        "max_detections": parameters["max_det"],
        "min_score": parameters["min_score"],
    }
    return entry, settings, list(range(1, classes + 1))


def test_rows_of_the_postprocessing(decoded: tuple) -> None:
    spec, golden, rows = decoded
    assert len(rows) == spec["result_rows"] > 0
    assert [row["image_id"] for row in rows] == golden["det_image_id"].tolist()
    assert [row["category_id"] for row in rows] == golden["det_category_id"].tolist()
    boxes = np.array([row["bbox"] for row in rows])
    scores = np.array([row["score"] for row in rows])
    # The noise is that of the network's pixels: an image that was shrunk enlarges it, 6000 pixels wide by four.
    scales = {image["id"]: max(image["img_scale"], 1) for image in spec["images"]}
    limits = PIXEL * np.array([scales[row["image_id"]] for row in rows])[:, None]
    assert (np.abs(boxes - golden["det_bbox_xywh"]) <= limits).all()
    assert np.abs(scores - golden["det_score"]).max() <= SCORE


def test_selection_of_the_postprocessing_in_onnx(folder: Path) -> None:
    """The selection at the size where float32 could not hold the index any more."""
    spec, golden = read_case(folder, "postprocess")
    image = spec["images"][0]
    entry, settings, categories = decode_arguments(spec, image)
    maps = raw_outputs(spec, golden, image["stem"])
    canvas = tuple(reversed(entry["resized"]))
    narrow = {"width": 0.1, "depth": 0.1, "channels": 8, "cells": 1, "combine": "sum", "repeats": 1}
    counts = {"classes": len(categories), "candidates": settings["candidates"]}
    module = Select(build(narrow | counts | {"contract": "compact"}, canvas)).eval()
    inputs = [torch.from_numpy(maps[name]) for name in reversed(maps)]
    outputs = run_onnx(export(module, inputs, COMPACT, OPSET), inputs)
    assert outputs["index"].dtype == np.int32
    assert outputs["index"].max() > 2**24
    _, _, index = best_pairs(*pair_maps(maps, len(categories)), settings["candidates"])
    assert sorted(outputs["index"][0]) == sorted(index)
    assert decode(outputs, entry, settings, categories) == decode(maps, entry, settings, categories)


def test_coco_figures_of_the_postprocessing(decoded: tuple) -> None:
    spec, _, rows = decoded
    truth = COCO()
    truth.dataset = spec["ground_truth"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.imgIds = [image["id"] for image in spec["images"]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert np.abs(evaluation.stats - spec["coco_metrics_bbox"]).max() < 0.00051  # given with three digits
