"""Resamples of a backend's AP at the size of COCO val2017: 5000 images, 490 000 boxes, 2000 resamples.

From detections in memory to a resampled AP, the evaluator's matches included, beside pycocotools' time for one AP: it
would be asked 2000 times.
"""

import functools
from pathlib import Path

import numpy as np

from detport import resampling
from detport.metrics import coco
from side_by_side import Measured, Row, turns

IMAGES, OBJECTS, BOXES, CLASSES, RESAMPLES = 5000, 7.2, 98, 80, 2000
SETTINGS = {"iou_types": ["bbox"], "max_detections": [1, 10, 100], "mask_area": "bbox", "images": "all"}


@functools.cache
def dataset(images: int = IMAGES) -> tuple[dict, list[dict]]:
    """Ground truth, and detections near its objects and elsewhere."""
    rng = np.random.default_rng(0)
    often = 1 / np.arange(1, CLASSES + 1)
    often /= often.sum()
    truth = {
        "source": "bench",
        "images": [{"id": i + 1, "file_name": f"{i}", "width": 640, "height": 480} for i in range(images)],
        "annotations": [],
        "categories": [{"id": k + 1, "name": f"{k}"} for k in range(CLASSES)],
    }
    rows: list[dict] = []
    for image in range(1, images + 1):
        count = rng.poisson(OBJECTS)
        kinds = rng.choice(CLASSES, BOXES, p=often) + 1
        boxes = np.concatenate([rng.uniform(0, 340, (BOXES, 2)), rng.uniform(8, 140, (BOXES, 2))], axis=1)
        for kind, box in zip(kinds[:count].tolist(), boxes[:count].tolist(), strict=True):
            own = {"id": len(truth["annotations"]) + 1, "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.01)}
            truth["annotations"].append(own | {"image_id": image, "category_id": kind, "bbox": box})
        moved = boxes + rng.normal(0, 0.07, boxes.shape) * np.tile(boxes[:, 2:], 2)
        moved = moved.astype(np.float32).astype(float)  # as networks give them
        scores = np.where(np.arange(BOXES) < count, rng.beta(4, 2, BOXES), rng.beta(1, 8, BOXES)).astype(np.float32)
        rows += [
            {"image_id": image, "category_id": kind, "bbox": box, "score": score}
            for kind, box, score in zip(kinds.tolist(), moved.tolist(), scores.tolist(), strict=True)
        ]
    return truth, rows


def measure(folder: Path) -> Measured:
    truth, rows = dataset()
    ids = [image["id"] for image in truth["images"]]
    drawn = resampling.draws(IMAGES, RESAMPLES, seed=0)
    return turns(
        lambda: coco.resampled(truth, ids, rows, SETTINGS, ["bbox.AP"], drawn),
        lambda: coco.score(coco.pycocotools_module(), truth, ids, rows, SETTINGS),
        rounds=1,
    )


ROWS = [Row("2000 resamples of the AP of 490 000 boxes", "one AP by pycocotools", measure, slow=True)]
