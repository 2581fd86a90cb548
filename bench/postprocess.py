"""Postprocessing of one image on one core: dense outputs of YOLO, and EfficientDet-D7's beside the guide's method.

EfficientDet-D7 is at 1536x1536 with the compact contract.

The guide's way is rewritten here from its description: read ten files of 166 MB in all, permute and concatenate
them, take the best 5000 of 39.8 million logits, decode, NMS per class. Its second decoding of the jpg is left out.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from detport import boxes as boxlib
from detport import config, decoders, outputs, schemas
from side_by_side import compare

ROOT = Path(__file__).resolve().parents[1]
MODEL_YAML = ROOT / "config" / "models" / "efficientdet_d7.yaml"
LEVELS = (192, 96, 48, 24, 12)  # map sides at 1536
STEM = "1"
IMAGE = {
    "image_id": 1,
    "file": "1.jpg",
    "width": 640,
    "height": 480,
    "resized": [1536, 1152],
    "scale": 2.4,
    "pad": [0, 384],
}


def random_maps(levels: tuple[int, ...], classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw outputs with some two thousand promising logits around a few hundred places, the rest far below."""
    rng = np.random.default_rng(seed)
    maps = {}
    for i, side in enumerate(levels):
        logits = rng.normal(-9, 1, (1, 9 * classes, side, side)).astype(np.float32)
        flat = logits.reshape(-1)
        chosen = rng.integers(0, flat.size, 2000 // (i + 1))
        flat[chosen] = rng.normal(-2, 2, chosen.size)
        maps[f"class_{i}"] = logits
        maps[f"box_{i}"] = rng.normal(0, 0.3, (1, 36, side, side)).astype(np.float32)
    return maps


def dense_outputs(shape: tuple[int, int], objectness: bool, seed: int = 0) -> np.ndarray:
    """Rows of YOLO, 60 objects with 30 boxes each over a faint noise in every class."""
    rng = np.random.default_rng(seed)
    count, first = shape[0], 5 if objectness else 4
    table = np.empty(shape, np.float32)
    table[:, :2], table[:, 2:4] = rng.uniform(0, 640, (count, 2)), rng.uniform(10, 200, (count, 2))
    table[:, 4:] = rng.random((count, shape[1] - 4)) ** 8 * 2e-3
    for _ in range(60):
        rows, label = rng.integers(0, count, 30), rng.integers(first, shape[1])
        place, sides = rng.uniform(0, 640, 2), rng.uniform(10, 200, 2)
        table[rows, :4] = np.concatenate([place, sides]) + rng.normal(0, 4, (30, 4))
        table[rows, label] = table[rows, 4 if objectness else label] = rng.random(30)
    return table


def dense(table: np.ndarray, objectness: bool) -> Callable[[], list[dict]]:
    """Decoding the outputs of YOLO, selected as the published evaluations do."""
    options = {"kind": "dense", "categories": "coco80", "box": "cxcywh", "objectness": objectness, "score_above": 0.001}
    options |= {"nms": "hard", "nms_iou": 0.6, "candidates": 30000, "max_detections": 300}
    schemas.validate(options, schemas.plugin("decoders", "dense"), "bench", {}, ("decode",))
    image, categories = IMAGE | {"canvas": "640x640", "scale": 1.0, "top": 80}, decoders.categories("coco80")
    return lambda: decoders.load("dense").decode({"output0": table[None]}, image, options, categories)


def time_dense(rounds: int = 21) -> None:
    """Print median milliseconds for both layouts of YOLO."""
    for objectness, shape in ((True, (25200, 85)), (False, (8400, 84))):
        table = dense_outputs(shape, objectness)
        decode = dense(table if objectness else np.ascontiguousarray(table.T), objectness)
        found, times = decode(), []
        for _ in range(rounds):
            start = time.perf_counter()
            decode()
            times.append((time.perf_counter() - start) * 1000)
        title = f"dense: decode {' x '.join(map(str, shape if objectness else shape[::-1]))} above a score of 0.001"
        print(
            f"{title:<58} ours {statistics.median(times):8.2f} ms   ({len(found)} detections, {rounds} rounds, median)"
        )


def write_compact(folder: Path, maps: dict[str, np.ndarray], model: dict) -> None:
    """The compact outputs of one image, as the infer stage writes them."""
    settings, kind = model["decode"], decoders.load(model["decode"]["kind"])
    classes = len(decoders.categories(settings["categories"]))
    logits, codes, index = kind.best_pairs(*kind.pair_maps(maps, classes), settings["candidates"])
    arrays = [logits[None], codes[None], index[None].astype(np.int32)]
    outputs.write(folder, STEM, arrays, model["outputs"], IMAGE["file"])


def ours(folder: Path, model: dict, image: dict) -> list[dict]:
    """Rows from the compact outputs, as the decode stage makes them."""
    settings = model["decode"]
    naming = outputs.naming(folder, [STEM], model["outputs"])
    found = outputs.read(folder, STEM, naming, model["outputs"], image["file"])
    return decoders.load(settings["kind"]).decode(found, image, settings, decoders.categories(settings["categories"]))


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
    limit = torch.tensor([IMAGE["width"], IMAGE["height"]] * 2) * IMAGE["scale"]
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
    return [(label[row].item(), found[row] / IMAGE["scale"], scores[row].item()) for row in kept]


def main() -> None:
    torch.set_num_threads(1)
    time_dense()
    model = config.load_model(MODEL_YAML, "decode")
    settings, kind = model["decode"], decoders.load(model["decode"]["kind"])
    categories = decoders.categories(settings["categories"])
    maps = random_maps(LEVELS, len(categories))
    every = np.arange(sum(9 * side * side for side in LEVELS))
    anchors = torch.from_numpy(kind.anchors(every, kind.canvas(IMAGE), settings["anchor_scale"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_compact(folder, maps, model)
        for key, array in maps.items():
            array.tofile(folder / f"{key}.bin")

        rows, expected = ours(folder, model, IMAGE), guide(folder, settings, anchors, len(categories))
        same = [categories[label] for label, _, _ in expected] == [row["category_id"] for row in rows]
        print(f"efficientdet_d7: both give the same {len(rows)} classes in the same order: {same}")
        compare(
            "efficientdet_d7: read and decode one image's outputs",
            lambda: ours(folder, model, IMAGE),
            lambda: guide(folder, settings, anchors, len(categories)),
            rounds=7,
        )


if __name__ == "__main__":
    main()
