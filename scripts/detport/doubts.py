"""What may be wrong although every stage went well: data for the warnings of a report."""

from types import ModuleType

import numpy as np

from detport import canvases, decoders, readings
from detport.readings import Reading

READ = ("after_nms", "dense", "cells", "distances", "anchors")  # kinds of decoders that readings tell apart
TELLING = ("kind", "columns", "box", "objectness", "coordinates", "bins", "background")
SMALLEST = 1.0  # pixels of the original image


def other_readings(images: list[tuple[dict, dict[str, np.ndarray]]], options: dict, categories: list) -> list[str]:
    """Ways to read the outputs of some images that are as likely as that of the yaml, or likelier, one line each."""
    if options["kind"] not in READ or not images or any("size" in image for image, _ in images):
        return []
    classes = len(decoders.classes(categories, options.get("background", "none")))
    told = options["coordinates"] == "original"
    runs = [arrays for _, arrays in images]
    canvas = canvases.size_of(images[0][0])
    found = readings.likely([run for run in runs if same_form(run, runs[0])], canvas, classes, told)
    others = [reading for reading in found if not agrees(reading, options)]
    words = dict.fromkeys(", ".join(f"{key}: {value}" for key, value in telling(each).items()) for each in others)
    if not words:
        return []
    start = "the outputs look like" if len(others) == len(found) else "the outputs would fit as well"
    return [f"{start} {each}" for each in words]


def same_form(run: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(run[name].ndim == other[name].ndim for name in run)


def telling(reading: Reading) -> dict:
    """The keys of a reading by which it differs from others."""
    return {key: reading.decode[key] for key in TELLING if key in reading.decode}


def agrees(reading: Reading, options: dict) -> bool:
    """Whether the yaml says the same as the outputs, where these tell."""
    return all(key in reading.guesses or options.get(key) == value for key, value in telling(reading).items())


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
        "tiny": sum(min(row["bbox"][2:]) < SMALLEST for row in rows),
        "readings": list(dict.fromkeys(line for part in parts for line in part["readings"])),
    }
