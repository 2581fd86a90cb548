"""Detections of every kind of error, and what the original tool says of them: tide.json.

    pip install tidecv==1.0.1 && PYTHONPATH=scripts python tests/unit/tide_case.py

makes it anew. Besides the detections near objects there are equal scores, crowds with detections in them, images
without objects and objects without detections.
"""

import json
from pathlib import Path

import numpy as np

from detport import masks

NUMBERS = Path(__file__).with_name("tide.json")
SIDE, CLASSES, IMAGES = 96, 4, 40


def case() -> tuple[dict, list[dict]]:
    """Ground truth in COCO's form, and detections with masks."""
    random = np.random.default_rng(1)
    truth = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"{i}"} for i in range(1, CLASSES + 1)]}
    rows = []
    for image in range(1, IMAGES + 1):
        truth["images"].append({"id": image, "width": SIDE, "height": SIDE, "file_name": f"{image}"})
        for _ in range(random.integers(0, 6)):
            w, h = random.integers(12, 40, 2)
            box = [int(random.integers(0, SIDE - w)), int(random.integers(0, SIDE - h)), int(w), int(h)]
            kind = int(random.integers(1, CLASSES + 1))
            crowd = int(random.random() < 0.15)
            own = {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": kind, "iscrowd": crowd}
            truth["annotations"].append(own | {"bbox": box, "area": box[2] * box[3], "segmentation": mask(box, 0)})
            for _ in range(random.integers(0, 4)):
                moved = [value + random.normal(0, 0.2) * side for value, side in zip(box, box[2:] * 2, strict=True)]
                rows.append(row(image, kind if random.random() < 0.75 else 1 + kind % CLASSES, moved, random))
        for _ in range(random.integers(0, 3)):
            rows.append(row(image, int(random.integers(1, CLASSES + 1)), list(random.uniform(5, 60, 4)), random))
    return truth, rows


def row(image: int, kind: int, box: list[float], random: np.random.Generator) -> dict:
    box = [float(max(value, 0)) for value in box[:2]] + [float(max(value, 3)) for value in box[2:]]
    score = float(np.round(random.random(), 2))  # two decimals: some are equal
    return {"image_id": image, "category_id": kind, "bbox": box, "score": score, "segmentation": mask(box, 1)}


def mask(box: list[float], less: int) -> dict:
    """A rectangle, a detection's a pixel lower than its box."""
    x, y, w, h = (int(value) for value in box)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[y + less : y + h, x : x + w] = 1
    return masks.encode(pixels)


def original(truth: dict, rows: list[dict], mode: str) -> dict:
    """What tidecv says, as fractions."""
    import tidecv

    objects, found = tidecv.Data("truth"), tidecv.Data("rows")
    for image in truth["images"]:
        objects.add_image(image["id"], image["file_name"])
    for each in truth["annotations"]:
        add = objects.add_ignore_region if each["iscrowd"] else objects.add_ground_truth
        add(each["image_id"], each["category_id"], each["bbox"], each["segmentation"])
    for each in rows:
        place = (each["bbox"], each["segmentation"])
        found.add_detection(each["image_id"], each["category_id"], each["score"], *place)
    run = tidecv.TIDE().evaluate(objects, found, mode=mode)
    gains = {kind.short_name.lower(): value / 100 for kind, value in run.fix_main_errors().items()}
    return {"AP50": run.ap / 100, "gains": gains}


if __name__ == "__main__":
    content = {"made_by": "tidecv 1.0.1, tests/unit/tide_case.py"}
    content |= {mode: original(*case(), mode) for mode in ("bbox", "mask")}
    NUMBERS.write_text(json.dumps(content, indent=1) + "\n")
