"""Runs a trained network on the demo's images, eagerly, and prints its accuracy, COCO's or Pascal VOC's."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from detport.datasets import voc as voc_dataset
from detport.metrics import voc as voc_metric
from detport.tensors import preprocess

Decode = Callable[[dict[str, np.ndarray], dict, dict, list], list[dict]]


@torch.no_grad()
def detect(network: nn.Module, decode: Decode, settings: dict, images: Iterable[tuple[object, Path]]) -> list[dict]:
    """COCO result rows of all images, which are given by id and file."""
    names = [output["name"] for output in settings["outputs"]]
    rows = []
    for image_id, file in images:
        tensor, placement = preprocess(file, settings)
        values = [value.numpy() for value in network(torch.from_numpy(tensor)[None])]
        outputs = dict(zip(names, values, strict=True))
        image = {"image_id": image_id, "file": file.name, **placement}
        rows += decode(outputs, image, settings["decode"], settings["decode"]["categories"])
    return rows


def evaluate(network: nn.Module, decode: Decode, settings: dict, data: Path, kinds: Sequence[str]) -> None:
    """As print_coco, of a network's detections."""
    listed = json.loads((data / "annotations" / "instances.json").read_text(encoding="utf-8"))["images"]
    images = [(entry["id"], data / "images" / entry["file_name"]) for entry in listed]
    print_coco(detect(network, decode, settings, images), data, kinds)


def print_coco(rows: list[dict], data: Path, kinds: Sequence[str]) -> None:
    """Prints COCO's numbers for each kind of detection (bbox, segm), and AP per class."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "annotations" / "instances.json"))
        found = truth.loadRes(rows)
    for kind in kinds:
        scores = COCOeval(truth, found, kind)
        with contextlib.redirect_stdout(io.StringIO()):
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
        names = ("AP", "AP50", "AP75", "small", "medium", "large")
        print(kind, *(f"{name} {value:.4f}" for name, value in zip(names, scores.stats, strict=False)))
        precision = scores.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all areas, 100 detections
        categories = [category["name"] for category in truth.loadCats(truth.getCatIds())]
        print("  ", *(f"{name} {precision[:, :, i].mean():.3f}" for i, name in enumerate(categories)))


def evaluate_voc(network: nn.Module, decode: Decode, settings: dict, data: Path) -> None:
    """Prints VOC's mean average precisions, and the AP by 11 points per class."""
    names = voc_dataset.image_names(data / "voc" / "ImageSets" / "Main" / "test.txt")
    rows = detect(network, decode, settings, [(name, data / "images" / f"{name}.jpg") for name in names])
    folder = data / "voc" / "Annotations"
    truth = {name: voc_dataset.read_annotation(folder / f"{name}.xml")["objects"] for name in names}
    figures = voc_metric.score(truth, rows, settings["metric"])
    print(*(f"{metric} mAP {numbers['mAP']:.4f}" for metric, numbers in figures.items()))
    print("  ", *(f"{name} {value:.3f}" for name, value in figures["voc07"]["per_class"].items()))
