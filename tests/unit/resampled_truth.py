"""A small ground truth with detections, and the same with its images as often as a resample draws them."""

import numpy as np

CLASSES = 4
SIDE = 200


def drawn_by_chance(images: int, seed: int, decimals: int | None = None) -> tuple[dict, list[dict]]:
    """Ground truth with crowds and masks, and detections near objects and elsewhere, some with equal scores."""
    rng = np.random.default_rng(seed)
    truth = {"source": "chance", "images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": k, "name": f"c{k}"} for k in range(1, CLASSES + 1)]
    rows: list[dict] = []
    for image in range(1, images + 1):
        truth["images"].append({"id": image, "file_name": f"{image}.jpg", "width": SIDE, "height": SIDE})
        for _ in range(rng.poisson(3)):
            kind = int(rng.integers(1, CLASSES + 1))
            box = [*rng.uniform(0, 120, 2).round(1).tolist(), *rng.uniform(10, 70, 2).round(1).tolist()]
            crowd = int(rng.random() < 0.15)
            area, number = box[2] * box[3], len(truth["annotations"]) + 1
            own = {"id": number, "image_id": image, "category_id": kind, "bbox": box, "area": area, "iscrowd": crowd}
            truth["annotations"].append(own | {"segmentation": outline(box)})
            for _ in range(rng.integers(0, 3)):
                moved = (np.array(box) + rng.normal(0, 5, 4)).clip(1).tolist()
                rows.append(result(image, kind, moved, rng.beta(3, 2), decimals))
        for _ in range(rng.poisson(2)):
            box = [*rng.uniform(0, 120, 2).tolist(), *rng.uniform(10, 70, 2).tolist()]
            rows.append(result(image, int(rng.integers(1, CLASSES + 1)), box, rng.beta(2, 3), decimals))
    return truth, rows


def result(image: int, kind: int, box: list[float], score: float, decimals: int | None) -> dict:
    score = float(score if decimals is None else round(score, decimals))
    return {"image_id": image, "category_id": kind, "bbox": box, "score": score, "segmentation": outline(box)}


def outline(box: list[float]) -> list[list[float]]:
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def repeated(truth: dict, rows: list[dict], times: np.ndarray) -> tuple[dict, list[dict]]:
    """The same with every image as often as drawn, under ids of their own, copies one behind the other."""
    images, annotations, results = [], [], []
    for image, count in zip(truth["images"], times.tolist(), strict=True):
        for _ in range(count):
            new = {"image_id": len(images) + 1}
            images.append(image | {"id": len(images) + 1})
            annotations += [each | new for each in truth["annotations"] if each["image_id"] == image["id"]]
            results += [row | new for row in rows if row["image_id"] == image["id"]]
    numbered = [each | {"id": i} for i, each in enumerate(annotations, start=1)]
    return truth | {"images": images, "annotations": numbered}, results
