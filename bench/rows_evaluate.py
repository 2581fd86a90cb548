"""The evaluate stage, from detection files to accuracy.json, beside pycocotools' load and evaluation of the same
detections in one json file. Both are programs of their own: what is counted begins with the start of Python.
"""

import compileall
import functools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from detport import config, detections, shards
from rows_resample import dataset
from side_by_side import Measured, Row, Side, milliseconds, of_pairs, peak

PLAIN = Path(__file__).with_name("plain_coco.py")
STAGE = config.ROOT / "scripts" / "evaluate.py"
SIDES = (480, 640)
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
GIGABYTES_2 = 2000.0  # in MB
ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)
AROUND = np.stack([np.sin(ANGLES), np.cos(ANGLES)], axis=1)
IN_SHARD = 16  # images
MASKS = 2000  # different ones, of which every object and detection has one
MODEL = """
title: bench
dataset: none
onnx: none.onnx
input: {name: x, height: 32, width: 32}
preprocess: {decoder: opencv, channels: RGB, resize: {library: opencv, rule: fit}, mean: [0, 0, 0], std: [1, 1, 1]}
outputs:
  - {name: dets, shape: [9, 5], dtype: float32}
  - {name: labels, shape: [9], dtype: int64}
  - {name: masks, shape: [9, 1, 28, 28], dtype: float32}
decode: {kind: after_nms, categories: coco80, masks: {form: boxes, threshold: 0.5}}
"""


def drawn(rng: np.random.Generator) -> list[dict]:
    """Ellipses with their boxes and areas, as runs and as polygons."""
    y, x = np.indices(SIDES)
    found = []
    for place, size in zip(rng.uniform(0, SIDES, (MASKS, 2)), rng.uniform(4, 80, (MASKS, 2)), strict=True):
        mask = ((y - place[0]) / size[0]) ** 2 + ((x - place[1]) / size[1]) ** 2 <= 1
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        box, area = coco_mask.toBbox(rle).tolist(), float(coco_mask.area(rle))
        corners = (place + size * AROUND)[:, ::-1]
        outline = {"counts": rle["counts"].decode("ascii"), "polygon": corners.ravel().tolist()}
        found.append({"bbox": box, "area": area} | outline)
    return found


def with_masks(truth: dict, rows: list[dict]) -> tuple[dict, list[dict]]:
    """The same with one of the ellipses in place of each box, of objects as polygons, as nearly all of COCO's are; the
    first detections have that of an object."""
    rng = np.random.default_rng(1)
    shapes = drawn(rng)

    chosen = rng.integers(0, MASKS, len(truth["annotations"])).tolist()
    objects = [
        entry
        | {"bbox": shapes[which]["bbox"], "area": shapes[which]["area"], "segmentation": [shapes[which]["polygon"]]}
        for entry, which in zip(truth["annotations"], chosen, strict=True)
    ]
    owned: dict[tuple, list[int]] = {}
    for entry, which in zip(objects, chosen, strict=True):
        owned.setdefault((entry["image_id"], entry["category_id"]), []).append(which)
    others = iter(rng.integers(0, MASKS, len(rows)).tolist())
    found = []
    for row in rows:
        shape = shapes[(owned.get((row["image_id"], row["category_id"])) or [next(others)]).pop()]
        mask = {"size": list(SIDES), "counts": shape["counts"]}
        found.append(row | {"bbox": shape["bbox"], "segmentation": mask})
    return truth | {"annotations": objects}, found


def prepared(folder: Path, images: int, kinds: list[str]) -> tuple[list, list]:
    """Both command lines, with their files in the folder."""
    truth, rows = dataset(images)
    if "segm" in kinds:
        truth, rows = with_masks(truth, rows)
    names = {"truth": folder / "truth.json", "results": folder / "results.json", "index": folder / "index.tsv"}
    names["truth"].write_text(
        json.dumps({key: truth[key] for key in ("images", "annotations", "categories")}), encoding="utf-8"
    )
    names["results"].write_text(json.dumps(rows), encoding="utf-8")
    sizes = {"width": SIDES[1], "height": SIDES[0], "bytes": 1, "sha256": ""}
    index = [{"image_id": image["id"], "file": image["file_name"]} | sizes for image in truth["images"]]
    shards.write_index(names["index"], index)
    of_image: dict[int, list[dict]] = {}
    for row in rows:
        of_image.setdefault(row["image_id"], []).append(row)
    count = images // IN_SHARD
    files = [folder / f"{k:04d}.json.gz" for k in range(count)]
    for k, file in enumerate(files):
        part = shards.part(index, k, count)
        detections.write(file, part, [], [row for image in part for row in of_image[image["image_id"]]])
    model, output = folder / "model.yaml", folder / "accuracy.json"
    model.write_text(f"{MODEL}metric: {{kind: coco, iou_types: [{', '.join(kinds)}]}}\n", encoding="utf-8")
    flags = ["--model", model, "--index", names["index"], "--annotations", names["truth"], "--output", output]
    ours = [sys.executable, STAGE, *flags, "--detections", *files]
    return ours, [sys.executable, PLAIN, names["truth"], names["results"], folder / "plain.json", *kinds]


def require_equal(folder: Path) -> None:
    """Refuse to compare the speed of programs that disagree in a single number."""
    accuracy = json.loads((folder / "accuracy.json").read_text(encoding="utf-8"))["accuracy"]
    for kind, numbers in json.loads((folder / "plain.json").read_text(encoding="utf-8")).items():
        if [value for name, value in accuracy[kind].items() if name != "per_class"] != numbers:
            raise AssertionError(f"{kind}: {accuracy[kind]} is not {numbers}")


def against_pycocotools(images: int, kinds: list[str], rounds: int) -> Callable[[Path], Measured]:
    def measure(folder: Path) -> Measured:
        sides = prepared(folder, images, kinds)
        compileall.compile_dir(STAGE.parent, quiet=1)  # as pip has done with the modules of the other side
        runs = [functools.partial(subprocess.run, list(map(str, each)), check=True, **QUIET) for each in sides]
        pairs = [taken(*runs) for _ in range(rounds)]
        require_equal(folder)
        return of_pairs(pairs, "ms")

    return measure


def taken(ours: Side, other: Side) -> tuple[float, float]:
    """Milliseconds of both; of ours, which is soon done, the median of three, before and after the other."""
    before = milliseconds(ours, 1, lambda: None)
    there = milliseconds(other, 1, lambda: None)
    return statistics.median([before, *(milliseconds(ours, 1, lambda: None) for _ in range(2))]), there


def memory(images: int, kinds: list[str]) -> Callable[[Path], Measured]:
    def measure(folder: Path) -> Measured:
        ours, _ = prepared(folder, images, kinds)
        return of_pairs([(peak(ours), GIGABYTES_2)], "MB")

    return measure


BOXES, MASKED = ["bbox"], ["bbox", "segm"]
PYCOCOTOOLS = "pycocotools"
ROWS = [
    Row("evaluate 49 000 boxes in 500 images", PYCOCOTOOLS, against_pycocotools(500, BOXES, 3)),
    Row("evaluate 490 000 boxes in 5000 images", PYCOCOTOOLS, against_pycocotools(5000, BOXES, 3), 40, slow=True),
    Row("evaluate 196 000 masks in 2000 images", PYCOCOTOOLS, against_pycocotools(2000, MASKED, 1), 20, slow=True),
    Row("memory to evaluate 490 000 masks in 5000 images", "2 GB", memory(5000, MASKED), required=1, slow=True),
]
