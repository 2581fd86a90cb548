"""Resamples of two backends' AP at the size of COCO val2017: 5000 images, 490 000 boxes each, 2000 resamples, 2 cores.

From detections in memory to a resampled AP, the evaluator's matches included; the backends run side by side, as the
workflow's jobs do. pycocotools' time for one AP of the same size is beside it: it would be asked 4000 times.
"""

import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from detport import resampling
from detport.metrics import coco

IMAGES, OBJECTS, BOXES, CLASSES, RESAMPLES = 5000, 7.2, 98, 80, 2000
SETTINGS = {"iou_types": ["bbox"], "max_detections": [1, 10, 100], "mask_area": "bbox", "images": "all"}


def dataset(seed: int) -> tuple[dict, list[list[dict]]]:
    """Ground truth, and the detections of two backends, near the objects and elsewhere."""
    rng = np.random.default_rng(seed)
    often = 1 / np.arange(1, CLASSES + 1)
    often /= often.sum()
    truth = {
        "source": "bench",
        "annotations": [],
        "categories": [{"id": k + 1, "name": f"{k}"} for k in range(CLASSES)],
    }
    truth["images"] = [{"id": i + 1, "file_name": f"{i}", "width": 640, "height": 480} for i in range(IMAGES)]
    rows: list[list[dict]] = [[], []]
    for image in range(1, IMAGES + 1):
        count = rng.poisson(OBJECTS)
        kinds = rng.choice(CLASSES, BOXES, p=often) + 1
        boxes = np.concatenate([rng.uniform(0, 340, (BOXES, 2)), rng.uniform(8, 140, (BOXES, 2))], axis=1)
        for kind, box in zip(kinds[:count].tolist(), boxes[:count].tolist(), strict=True):
            own = {"id": len(truth["annotations"]) + 1, "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.01)}
            truth["annotations"].append(own | {"image_id": image, "category_id": kind, "bbox": box})
        for side in rows:
            moved = boxes + rng.normal(0, 0.07, boxes.shape) * np.tile(boxes[:, 2:], 2)
            scores = np.where(np.arange(BOXES) < count, rng.beta(4, 2, BOXES), rng.beta(1, 8, BOXES))
            side += [
                {"image_id": image, "category_id": kind, "bbox": box, "score": score}
                for kind, box, score in zip(kinds.tolist(), moved.tolist(), scores.tolist(), strict=True)
            ]
    return truth, rows


def resampled(given: tuple[dict, list[dict]]) -> tuple[float, float]:
    """Processor seconds, and the spread of AP."""
    truth, rows = given
    start = time.process_time()
    ids = [image["id"] for image in truth["images"]]
    drawn = resampling.draws(IMAGES, RESAMPLES, seed=0)
    found = coco.resampled(truth, ids, rows, SETTINGS, ["bbox.AP"], drawn)["bbox.AP"]
    return time.process_time() - start, float(found.std())


def main() -> None:
    truth, rows = dataset(seed=0)
    work = [(truth, each) for each in rows]
    with ProcessPoolExecutor(2) as pool:
        start = time.perf_counter()
        found = list(pool.map(resampled, work))
        wall = time.perf_counter() - start
    size = f"{IMAGES} images x {len(rows[0])} boxes x {RESAMPLES} resamples x 2 backends"
    cpu = " and ".join(f"{seconds:.1f}" for seconds, _ in found)
    print(f"{size}: {wall:.1f} s, {cpu} s of processor; spread of AP {found[0][1]:.4f}")
    start = time.process_time()
    coco.score(coco.pycocotools_module(), truth, [image["id"] for image in truth["images"]], rows[0], SETTINGS)
    print(f"one AP by pycocotools: {time.process_time() - start:.1f} s of processor")


if __name__ == "__main__":
    main()
