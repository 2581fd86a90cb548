"""What may be wrong although every stage went well: data for the warnings of a report."""

from operator import itemgetter
from types import ModuleType

SMALLEST = 1.0  # pixels of the original image


def of_detections(
    parts: list[dict], truth: dict | None, scored: list, rows: list[dict], metric: ModuleType, settings: dict
) -> dict:
    """The doubts of accuracy.json, from the detections of all shards and the ground truth, if there is one."""
    objects, silent = {}, []
    if truth:
        names, images = {category["id"]: category["name"] for category in truth["categories"]}, set(scored)
        for each in truth["annotations"]:
            if each["image_id"] in images and not each["iscrowd"]:
                name = names[each["category_id"]]
                objects[name] = objects.get(name, 0) + 1
        numbered = {category["id"]: category["name"] for category in metric.categories(truth, settings)}
        found = {numbered.get(each, each) for each in {row["category_id"] for row in rows}}
        silent = [name for name in objects if name not in found]
    return {
        "turned": [image for part in parts for image in part["turned"]],
        "silent": sorted(silent),
        "objects": sum(objects.values()),
        "tiny": sum(w < SMALLEST or h < SMALLEST for _, _, w, h in map(itemgetter("bbox"), rows)),
        "readings": list(dict.fromkeys(line for part in parts for line in part["readings"])),
    }
