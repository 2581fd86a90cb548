"""Decoding of one image on one core, from the outputs' files to detections: the four models at their published sizes,
and dense outputs of YOLO.

Of EfficientDet-D7 the guide's way is beside it, rewritten from its description: read ten files of 166 MB in all,
permute and concatenate them, take the best 5000 of 39.8 million logits, decode, NMS per class. Its second decoding of
the jpg is left out.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from detport import boxes as boxlib
from detport import config, decoders, outputs, schemas
from detport.networks import retinamask_check
from side_by_side import Measured, Row, turns, yardstick

MODELS = config.ROOT / "config" / "models"
LEVELS = (192, 96, 48, 24, 12)  # map sides of EfficientDet-D7 at 1536
STEM = "1"
IMAGE = {"image_id": 1, "file": "1.jpg", "width": 640, "height": 480, "left": 0, "top": 0}
ON_D7 = IMAGE | {"canvas": "1536x1536", "resized": [1536, 1152], "scale": 2.4, "pad": [0, 384]}
Arrays = dict[str, np.ndarray]


def some_boxes(rng: np.random.Generator, objects: int, each: int, width: float, height: float) -> np.ndarray:
    """Boxes x1 y1 x2 y2, `each` of them around every object; objects have sides from 16 pixels to the whole image."""
    sides = np.exp(rng.uniform(np.log(16), np.log([width, height]), (objects, 2)))
    low = rng.uniform(0, 1, (objects, 2)) * ([width, height] - sides)
    whole = np.concatenate([low, low + sides], axis=1).repeat(each, axis=0)
    jitter = rng.normal(0, 0.06, whole.shape) * np.tile(sides, 2).repeat(each, axis=0)
    return (whole + jitter).clip(0, np.tile([width, height], 2) - 1).astype(np.float32)


def retinamask(rng: np.random.Generator) -> tuple[Arrays, dict]:
    """1000 boxes around 125 objects, each with a mask that is a disc with a soft edge."""
    y, x = np.indices((28, 28)) / 27 - 0.5
    radius = rng.uniform(0.3, 0.55, (1000, 1, 1))
    blobs = 1 / (1 + np.exp((np.hypot(y, x)[None] - radius) * rng.uniform(10, 40, (1000, 1, 1))))
    arrays = {
        "bboxs": some_boxes(rng, 125, 8, 1344, 1008),
        "labels": rng.integers(1, 81, 125).repeat(8).astype(np.int32),
        "scores": rng.beta(1, 5, 1000).astype(np.float32),
        "masks": blobs[:, None].astype(np.float32),
    }
    return arrays, {"canvas": "1344x1344", "resized": [1344, 1008], "scale": 2.1, "pad": [0, 336]}


def gfocalv2(rng: np.random.Generator) -> tuple[Arrays, dict]:
    """100 boxes after NMS, best first."""
    scores = -np.sort(-rng.beta(1, 3, 100))
    boxes = np.column_stack([some_boxes(rng, 100, 1, 1066, 800), scores])
    arrays = {"dets": boxes.astype(np.float32), "labels": rng.integers(0, 80, 100)}
    return arrays, {"canvas": "800x1216", "resized": [1066, 800], "scale": 5 / 3, "pad": [150, 0]}


def rfcn(rng: np.random.Generator) -> tuple[Arrays, dict]:
    """300 rois around 60 objects; every box has a score in all 21 classes, most of them small."""
    scores = np.exp(rng.normal(0, 2.5, (300, 21)))
    arrays = {
        "rois": np.column_stack([np.zeros(300), some_boxes(rng, 60, 5, 683, 512)]).astype(np.float32)[None],
        "cls_prob": (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)[None],
        "bbox_pred": rng.normal(0, 0.5, (1, 300, 84)).astype(np.float32),
    }
    return arrays, {"canvas": "1344x1344", "resized": [683, 512], "scale": 512 / 480, "pad": [661, 832]}


def efficientdet_d7(rng: np.random.Generator) -> tuple[Arrays, dict]:
    """The best 5000 pairs of random maps."""
    return compact(random_maps(LEVELS, 90, rng), config.load_model(MODELS / "efficientdet_d7.yaml", "decode")), ON_D7


def random_maps(levels: tuple[int, ...], classes: int, rng: np.random.Generator) -> Arrays:
    """Raw outputs with some two thousand promising logits around a few hundred places, the rest far below."""
    maps = {}
    for i, side in enumerate(levels):
        logits = rng.normal(-9, 1, (1, 9 * classes, side, side)).astype(np.float32)
        flat = logits.reshape(-1)
        chosen = rng.integers(0, flat.size, 2000 // (i + 1))
        flat[chosen] = rng.normal(-2, 2, chosen.size)
        maps[f"class_{i}"] = logits
        maps[f"box_{i}"] = rng.normal(0, 0.3, (1, 36, side, side)).astype(np.float32)
    return maps


def compact(maps: Arrays, model: dict) -> Arrays:
    """The outputs of the compact contract from those of the raw one."""
    settings, kind = model["decode"], decoders.load(model["decode"]["kind"])
    classes = len(decoders.categories(settings["categories"]))
    logits, codes, index = kind.best_pairs(*kind.pair_maps(maps, classes), settings["candidates"])
    return {"logits": logits[None], "box_codes": codes[None], "index": index[None].astype(np.int32)}


def yolo(shape: tuple[int, int], objectness: bool) -> tuple[Arrays, dict, dict]:
    """Rows of YOLO, 60 objects with 30 boxes each over a faint noise in every class, and what selects them as published
    evaluations do."""
    rng = np.random.default_rng(0)
    count, first = shape[0], 5 if objectness else 4
    table = np.empty(shape, np.float32)
    table[:, :2], table[:, 2:4] = rng.uniform(0, 640, (count, 2)), rng.uniform(10, 200, (count, 2))
    table[:, 4:] = rng.random((count, shape[1] - 4)) ** 8 * 2e-3
    for _ in range(60):
        rows, label = rng.integers(0, count, 30), rng.integers(first, shape[1])
        place, sides = rng.uniform(0, 640, 2), rng.uniform(10, 200, 2)
        table[rows, :4] = np.concatenate([place, sides]) + rng.normal(0, 4, (30, 4))
        table[rows, label] = table[rows, 4 if objectness else label] = rng.random(30)
    table = table if objectness else np.ascontiguousarray(table.T)
    options = {"kind": "dense", "categories": "coco80", "box": "cxcywh", "objectness": objectness, "score_above": 0.001}
    options |= {"nms": "hard", "nms_iou": 0.6, "candidates": 30000, "max_detections": 300}
    schemas.validate(options, schemas.plugin("decoders", "dense"), "bench", {}, ("decode",))
    model = {"outputs": [{"name": "output0", "shape": [1, *table.shape], "dtype": "float32"}], "decode": options}
    return {"output0": table[None]}, {"canvas": "640x640", "resized": [640, 480], "scale": 1.0, "pad": [0, 160]}, model


def published(name: str) -> dict:
    """What decode reads of a published model; RetinaMask's with the guide's contract, whose NMS is the decoder's."""
    model = config.load_model(MODELS / f"{name}.yaml", "decode")
    if name == "retinamask":
        network = config.load(MODELS / f"{name}.yaml", "model")["network"]
        model["outputs"] = retinamask_check.contract_outputs(network | {"contract": "guide"})
    return model


def decode(folder: Path, model: dict, image: dict) -> list[dict]:
    """Detections from the outputs' files, as the decode stage makes them."""
    settings = model["decode"]
    naming = outputs.naming(folder, [STEM], model["outputs"])
    found = outputs.read(folder, STEM, naming, model["outputs"], image["file"])
    return decoders.load(settings["kind"]).decode(found, image, settings, decoders.categories(settings["categories"]))


def decoding(folder: Path, arrays: Arrays, placement: dict, model: dict) -> Callable[[], list[dict]]:
    """What is timed: decoding of outputs that are written into a folder as the infer stage writes them."""
    outputs.write(folder, STEM, list(arrays.values()), model["outputs"], IMAGE["file"])
    return functools.partial(decode, folder, model, IMAGE | placement)


def of_model(make: Callable[[np.random.Generator], tuple[Arrays, dict]]) -> Callable[[Path], Measured]:
    def measure(folder: Path) -> Measured:
        return turns(decoding(folder, *make(np.random.default_rng(0)), published(make.__name__)), yardstick)

    return measure


def of_yolo(shape: tuple[int, int], objectness: bool) -> Callable[[Path], Measured]:
    return lambda folder: turns(decoding(folder, *yolo(shape, objectness)), yardstick)


def against_guide(folder: Path) -> Measured:
    """EfficientDet-D7's outputs in both contracts, of which both sides must make the same."""
    torch.set_num_threads(1)
    model = config.load_model(MODELS / "efficientdet_d7.yaml", "decode")
    settings, kind = model["decode"], decoders.load("efficientdet")
    maps = random_maps(LEVELS, 90, np.random.default_rng(0))
    for key, array in maps.items():
        array.tofile(folder / f"{key}.bin")
    every = np.arange(sum(9 * side * side for side in LEVELS))
    anchors = torch.from_numpy(kind.anchors(every, kind.canvas(ON_D7), settings["anchor_scale"]))
    ours = decoding(folder, compact(maps, model), ON_D7, model)
    categories = decoders.categories(settings["categories"])
    expected = [categories[label] for label, _, _ in guide(folder, settings, anchors, len(categories))]
    if [row["category_id"] for row in ours()] != expected:
        raise AssertionError("the guide's way gives other detections")
    return turns(ours, lambda: guide(folder, settings, anchors, len(categories)), rounds=5)


def guide(folder: Path, settings: dict, anchors: torch.Tensor, classes: int) -> list:
    """Rows from the ten raw files, as the guide's script makes them."""

    def read(name: str, values: int) -> torch.Tensor:
        levels = []
        for i, side in enumerate(LEVELS):
            array = np.fromfile(folder / f"{name}_{i}.bin", np.float32).reshape(1, 9 * values, side, side)
            levels.append(torch.from_numpy(array).permute(0, 2, 3, 1).reshape(1, -1, values))
        return torch.cat(levels, 1)

    logits, codes = read("class", classes), read("box", 4)
    best, index = torch.topk(logits.reshape(1, -1), settings["candidates"])
    anchor, label = index[0] // classes, index[0] % classes
    ty, tx, th, tw = codes[0][anchor].unbind(1)
    y1, x1, y2, x2 = anchors[anchor].unbind(1)
    h, w = y2 - y1, x2 - x1
    cy, cx = ty * h + (y1 + y2) / 2, tx * w + (x1 + x2) / 2
    h, w = th.exp() * h, tw.exp() * w
    found = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    limit = torch.tensor([IMAGE["width"], IMAGE["height"]] * 2) * ON_D7["scale"]
    found = torch.minimum(found.clamp(min=0), limit)
    scores = best[0].sigmoid()
    kept = []
    for c in label.unique().tolist():  # what torchvision's batched NMS does on a CPU above 4000 coordinates
        rows = torch.nonzero(label == c)[:, 0].numpy()
        one = np.zeros(len(rows))
        kept += rows[
            boxlib.nms(found[rows].numpy(), scores[rows].numpy(), one, settings["nms_iou"], len(rows), plus=0)
        ].tolist()
    # The guide's network never sees an object of COCO's gaps; the random maps here do.
    named = [row for row in kept if decoders.categories(settings["categories"])[label[row].item()] is not None]
    kept = sorted(named, key=lambda row: -scores[row].item())[: settings["max_detections"]]
    return [(label[row].item(), found[row] / ON_D7["scale"], scores[row].item()) for row in kept]


YARDSTICK = "yardstick"
ROWS = [
    Row("decode RetinaMask, masks included", YARDSTICK, of_model(retinamask), most=15),
    Row("decode GFocalV2", YARDSTICK, of_model(gfocalv2), most=1),
    Row("decode R-FCN", YARDSTICK, of_model(rfcn), most=10),
    Row("decode EfficientDet-D7", YARDSTICK, of_model(efficientdet_d7), most=4),
    Row("decode 25200 x 85 above a score of 0.001", YARDSTICK, of_yolo((25200, 85), objectness=True), most=15),
    Row("decode 84 x 8400 above a score of 0.001", YARDSTICK, of_yolo((8400, 84), objectness=False), most=15),
    Row("decode EfficientDet-D7", "the guide's way", against_guide, required=100),
]
