"""What may be wrong although every stage went well: data for the warnings of a report."""

from collections import Counter
from types import ModuleType

from detport import columns

SMALLEST = 1.0  # pixels of the original image


def of_detections(
    parts: list[dict], truth: dict | None, scored: list, found: columns.Columns, metric: ModuleType, settings: dict
) -> dict:
    """The doubts of accuracy.json, from the detections of all shards and the ground truth, if there is one."""
    objects, silent = Counter(), []
    if truth:
        names, images = {category["id"]: category["name"] for category in truth["categories"]}, set(scored)
        counted = (each for each in truth["annotations"] if each["image_id"] in images and not each["iscrowd"])
        for category, count in Counter(each["category_id"] for each in counted).items():
            objects[names[category]] += count
        numbered = {category["id"]: category["name"] for category in metric.categories(truth, settings)}
        there = {numbered.get(each, each) for each in columns.used(found.categories, found.category)}
        silent = [name for name in objects if name not in there]
    return {
        "turned": [image for part in parts for image in part["turned"]],
        "silent": sorted(silent),
        "objects": sum(objects.values()),
        "tiny": int((found.boxes[:, 2:] < SMALLEST).any(axis=1).sum()),
        "readings": list(dict.fromkeys(line for part in parts for line in part["readings"])),
    }
