"""Readings of the outputs that are not the yaml's: data for the warnings of a report."""

import numpy as np

from detport import canvases, decoders, readings
from detport.readings.forms import Reading

READ = ("after_nms", "dense", "cells", "distances", "anchors")  # kinds of decoders that readings tell apart
TELLING = ("kind", "columns", "box", "objectness", "coordinates", "bins", "background")


def of_yaml(images: list[tuple[dict, dict[str, np.ndarray]]], options: dict, categories: list) -> list[str]:
    """Ways to read the outputs of some images that are as likely as that of the yaml, or likelier, one line each."""
    if options["kind"] not in READ or not images or not all(is_on_canvas(image) for image, _ in images):
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


def is_on_canvas(image: dict) -> bool:
    """Whether an image's tensor is as large as a canvas that is known."""
    return "canvas" in image and "size" not in image


def same_form(run: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(run[name].ndim == other[name].ndim for name in run)


def telling(reading: Reading) -> dict:
    """The keys of a reading by which it differs from others."""
    return {key: reading.decode[key] for key in TELLING if key in reading.decode}


def agrees(reading: Reading, options: dict) -> bool:
    """Whether the yaml says the same as the outputs, where these tell."""
    return all(key in reading.guesses or options.get(key) == value for key, value in telling(reading).items())
