"""Whole reports of small made-up runs: the stages that follow inference, on drawn images and invented detections."""

import json
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

import evaluate
import page
import report
from detport import config, detections, masks, shards, timing

SIZE = (160, 120)
NAMES = ["disc", 'a "quoted" <b>', "</script><script>alert(1)</script>", "قطة", "it's & more"]
REFERENCES = [{"name": 'the "guide"', "source": "a paper", "values": {"bbox.AP": 0.3, "fps": 100.0}}]
GATES = [{"name": "box AP </td>", "measure": "bbox.AP", "reference": 'the "guide"', "minus": 0.1}]
# Besides, in every image: a crowd, licences of which one forbids copies.
LICENCES = [{"id": 1, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}]
LICENCES += [{"id": 2, "name": "Attribution-NoDerivs License", "url": "http://creativecommons.org/licenses/by-nd/2.0/"}]


def made(
    folder: Path,
    images: int = 5,
    classes: int = 5,
    objects: int = 4,
    noise: float = 0.12,
    segm: bool = True,
    images_shown: str = "all",
    kind: str = "coco",
) -> Path:
    """reports/m.html of two backends, with its JSON beside it. Without noise the detections are the objects, and with
    noise None there are none. A dataset of kind folder has no ground truth."""
    random = np.random.default_rng(7)
    names = [NAMES[i] if i < len(NAMES) else f"class {i}" for i in range(classes)]
    truth = ground_truth(folder, images, names, objects, random)
    write_configuration(folder, segm, kind)
    rows = [{key: image[key] for key in ("width", "height", "file_name")} for image in truth["images"]]
    index = [
        {"image_id": image["id"], "file": row["file_name"], "width": row["width"], "height": row["height"], "bytes": 1}
        for image, row in zip(truth["images"], rows, strict=True)
    ]
    shards.write_index(folder / "index.tsv", index)
    backends = ("onnxruntime", "pytorch")
    for backend in backends:
        found = [] if noise is None else invented(truth, noise, segm, random)
        if kind == "folder":  # nobody but the model names the classes
            found = [row | {"category_id": names[row["category_id"] - 1]} for row in found]
        measured(folder, backend, index, found, random)
    write_report(folder, backends)
    output = folder / "reports" / "m.html"
    flags = ["--images", images_shown]
    page.main([*common(folder), *flags, "--report", str(folder / "reports/m.json"), "--detections",
               *(str(folder / name / "0000.json.gz") for name in backends), "--output", str(output)])  # fmt: skip
    return output


def gallery_in(text: str) -> dict:
    """The gallery that a page hands to its script."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])["gallery"]


def common(folder: Path) -> list[str]:
    dataset = ["--dataset-config", str(folder / "config.yaml"), "--dataset", "drawn"]
    return ["--model", str(folder / "m.yaml"), "--index", str(folder / "index.tsv"), *dataset]


def ground_truth(folder: Path, images: int, names: list[str], objects: int, random: np.random.Generator) -> dict:
    """Images with rectangles in them, and COCO's annotations."""
    (folder / "images").mkdir(parents=True)
    listed, annotations = [], []
    width, height = SIZE
    for i in range(images):
        pixels = np.full((height, width, 3), 60 + 20 * (i % 8), np.uint8)
        for _ in range(objects):
            w, h = (int(side) for side in random.integers(18, 45, 2))
            x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
            pixels[y : y + h, x : x + w] = random.integers(90, 255, 3)
            annotations.append(
                annotation(len(annotations) + 1, i + 1, int(random.integers(len(names))) + 1, [x, y, w, h])
            )
        annotations.append(annotation(len(annotations) + 1, i + 1, 1, [100, 5, 50, 30]) | {"iscrowd": 1})
        file = f'it\'s "{i}" <i>.jpg'
        Image.fromarray(pixels).save(folder / "images" / file)
        listed.append({"id": i + 1, "file_name": file, "width": width, "height": height, "license": 1 + i % 2})
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    truth = {"images": listed, "annotations": annotations, "categories": categories, "licenses": LICENCES}
    (folder / "truth.json").write_text(json.dumps(truth))
    return truth


def annotation(number: int, image: int, category: int, box: list[int]) -> dict:
    x, y, w, h = box
    corners = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    entry = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": w * h, "iscrowd": 0}
    return entry | {"segmentation": corners}


def invented(truth: dict, noise: float, segm: bool, random: np.random.Generator) -> list[dict]:
    """Detections near the objects, some of another class, some twice, and some where nothing is."""
    found, classes = [], len(truth["categories"])
    for each in truth["annotations"]:
        x, y, w, h = each["bbox"]
        for _ in range(1 + (noise > 0 and random.random() < 0.3)):
            kind = int(random.integers(classes)) + 1 if noise and random.random() < 0.15 else each["category_id"]
            dx, dy, dw, dh = random.normal(0, noise, 4) * [w, h, w, h]
            box = [max(x + dx, 0), max(y + dy, 0), max(w + dw, 4), max(h + dh, 4)]
            found.append(detection(each["image_id"], kind, box, 0.35 + 0.6 * random.random(), segm))
    for image in truth["images"] if noise else ():
        box = [*random.uniform(0, 80, 2), *random.uniform(10, 30, 2)]
        found.append(detection(image["id"], int(random.integers(classes)) + 1, box, 0.6 * random.random(), segm))
    return found


def detection(image: int, category: int, box: list[float], score: float, segm: bool) -> dict:
    x, y, w, h = (float(value) for value in box)
    row = {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "score": round(float(score), 4)}
    if segm:
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[int(y) : int(y + h), int(x) : int(x + 0.7 * w)] = 1  # so that masks overlap less than boxes
        row["segmentation"] = masks.encode(mask)
    return row


def write_configuration(folder: Path, segm: bool, kind: str) -> None:
    """A model's yaml, which is the demo's but for what is scored; and the dataset."""
    model = yaml.safe_load((config.ROOT / "demo/config/models/retinamask.yaml").read_text())
    model |= {"title": "Boxes & <masks>", "dataset": "drawn", "references": REFERENCES, "gates": GATES}
    model["metric"] = {"kind": "coco", "iou_types": ["bbox", "segm"] if segm else ["bbox"]}
    dataset = {"kind": kind, "images": str(folder / "images")}
    if kind == "coco":
        dataset["annotations"] = str(folder / "truth.json")
    else:
        model["decode"]["categories"] = [*NAMES, "a sixth", "a seventh"]
    (folder / "m.yaml").write_text(yaml.safe_dump(model))
    (folder / "config.yaml").write_text(yaml.safe_dump({"models": ["m"], "datasets": {"drawn": dataset}}))


def measured(folder: Path, backend: str, index: list[dict], rows: list[dict], random: np.random.Generator) -> None:
    """Detections, accuracy, analysis and performance of a backend."""
    own = folder / backend
    own.mkdir()
    detections.write(own / "0000.json.gz", index, [], rows)
    outputs = ["--output", str(own / "accuracy.json"), "--output-analysis", str(own / "analysis.json")]
    evaluate.main([*common(folder), "--detections", str(own / "0000.json.gz"), *outputs])
    seconds = (0.01 + random.gamma(2, 0.001, 60)).tolist()
    performance = {
        **{
            "schema": 1,
            "canvas": "8x8",
            "other_canvases": [],
            "fps": round(60 / sum(seconds), 4),
            "fps_is": "1 / mean",
        },
        **{"latency_ms": timing.latency_ms(seconds), **timing.over_time(seconds), "batch": 1, "threads": 1, "runs": 60},
        **{"timed": "the run alone", "input": "random", "machine": {"processor": "a CPU <x>", "cores": 2}},
        **{"versions": {}, "date": "2026-01-01T00:00:00+00:00"},
    }
    (own / "performance.json").write_text(json.dumps(performance))


def write_report(folder: Path, backends: tuple[str, ...]) -> None:
    flags = ["--model", str(folder / "m.yaml"), "--command", "snakemake <all>"]
    flags += ["--backend", *(str(config.ROOT / "config/backends" / f"{name}.yaml") for name in backends)]
    for key in ("accuracy", "analysis", "performance"):
        flags += [f"--{key}", *(str(folder / name / f"{key}.json") for name in backends)]
    flags += ["--detections", *(str(folder / name / "0000.json.gz") for name in backends)]
    report.main(
        [*flags, "--output-text", str(folder / "reports/m.txt"), "--output-json", str(folder / "reports/m.json")]
    )
