"""The usual mistakes in a model's yaml, as changes of it: what the doctor tries."""

import copy
from collections.abc import Iterator

from detport import decoders, schemas
from detport.commented import flow

Changes = dict[tuple[str, ...], object]  # new values by their place in the yaml

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # of 0..1, red first
# Divisor, mean and std that networks are trained with, red first.
NORMALISATIONS = {
    "0..255": (1, [0, 0, 0], [1, 1, 1]),
    "0..1": (255, [0, 0, 0], [1, 1, 1]),
    "-1..1": (127.5, [1, 1, 1], [1, 1, 1]),
    "ImageNet": (255, *IMAGENET),
    "Caffe": (1, [123.675, 116.28, 103.53], [1, 1, 1]),
}
FILLS = (114, 0, 128, None)
RESIZES = (  # rule, place
    ("stretch", "top_left"),
    ("fit", "centre"),
    ("fit", "top_left"),
)
ALIKE = 1e-3  # relative difference of normalisations that are the same
# Keys of decode with few values: each other value is a suspect.
CHOICES = (
    "box",
    "coordinates",
    "activation",
    "labels_from",
    "background",
    "rows_by",
    "anchors_in",
    "distances_in",
    "deltas",
    "centre",
    "size",
)
NUMBERS = {"point": (0, 0.5), "scale_x_y": (1, 2), "variances": ([1, 1, 1, 1], [0.1, 0.1, 0.2, 0.2])}


def changed(model: dict, changes: Changes) -> dict:
    """A copy of a model with new values."""
    found = copy.deepcopy(model)
    for path, value in changes.items():
        place = found
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = copy.deepcopy(value)
    return found


def value_at(model: dict, path: tuple[str, ...]) -> object:
    """The value at a place, None where there is none."""
    for key in path:
        model = model.get(key) if isinstance(model, dict) else None
    return model


def in_words(changes: Changes) -> str:
    """Changes as one would type them."""
    return ", ".join(f"{'.'.join(path)}: {shortened(flow(value))}" for path, value in changes.items())


def shortened(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def of_preprocessing(model: dict) -> Iterator[Changes]:
    """Other preprocessing, each of which needs a run of the network."""
    settings = model["preprocess"]
    if settings["channels"] in ("RGB", "BGR"):
        swapped: Changes = {("preprocess", "channels"): {"RGB": "BGR", "BGR": "RGB"}[settings["channels"]]}
        for key in ("mean", "std", "fill"):
            value = settings[key]
            if isinstance(value, list) and len(set(value)) > 1:
                swapped["preprocess", key] = value[::-1]
        yield swapped
    if model["input"]["dtype"] != "uint8":
        yield from normalisations(settings)
    rule, place, fill = settings["resize"]["rule"], settings["place"], settings["fill"]
    for other in RESIZES:
        if other != (rule, place) and not (other[0] == rule == "stretch"):
            yield resized(settings, *other)
    if rule != "stretch":
        yield from ({("preprocess", "fill"): other} for other in FILLS if other != fill)


def normalisations(settings: dict) -> Iterator[Changes]:
    """Other divisors, means and stds."""
    count = len(settings["mean"])
    for divisor, mean, std in NORMALISATIONS.values():
        ordered = [values[::-1] if settings["channels"] == "BGR" else values for values in (mean, std)]
        other = {"divide_by": divisor, "mean": ordered[0][:count], "std": ordered[1][:count]}
        if not all(abs(a - b) <= ALIKE * max(abs(a), 1e-9) for a, b in zip(ends(settings), ends(other), strict=True)):
            yield {("preprocess", key): value for key, value in other.items() if settings[key] != value}


def ends(settings: dict) -> list[float]:
    """What black and white become in every channel."""
    pairs = list(zip(settings["mean"], settings["std"], strict=True))
    return [(level / settings["divide_by"] - mean) / std for level in (0, 255) for mean, std in pairs]


def resized(settings: dict, rule: str, place: str) -> Changes:
    """Another way onto the canvas, by the same library and filter."""
    kept = {key: settings["resize"][key] for key in ("library", "interpolation")}
    changes: Changes = {("preprocess", "resize"): kept | {"rule": rule}}
    if settings["place"] != place:
        changes["preprocess", "place"] = place
    if rule == "fit" and settings["fill"] is None:
        changes["preprocess", "fill"] = 114
    return changes


def of_decoding(model: dict) -> Iterator[Changes]:
    """Other ways to read the same outputs."""
    options = model["decode"]
    known = schemas.plugin("decoders", options["kind"])["properties"]
    for key in CHOICES:
        if key in options and key in known:
            values = known[key].get("enum", [])
            yield from ({("decode", key): value} for value in values if value not in (options[key], None))
    for key, values in NUMBERS.items():
        if key in options:
            yield from ({("decode", key): value} for value in values if value != options[key])
    columns = options.get("columns") or []
    if {"score", "label"} <= set(columns):
        other = {"score": "label", "label": "score"}
        yield {("decode", "columns"): [other.get(column, column) for column in columns]}
    if len(options.get("strides", [])) > 1:
        turned: Changes = {("decode", "strides"): options["strides"][::-1]}
        if len(options.get("anchors") or []) > 1:
            turned["decode", "anchors"] = options["anchors"][::-1]
            yield {("decode", "anchors"): options["anchors"][::-1]}
        yield turned
    if options.get("nms") == "none" and "nms_iou" in known:
        yield {("decode", "nms"): "hard", ("decode", "nms_iou"): 0.65}
    yield from shifted(options)


def shifted(options: dict) -> Iterator[Changes]:
    """Categories one class earlier or later."""
    categories = decoders.categories(options["categories"])
    if len(categories) > 1:
        yield {("decode", "categories"): [*categories[1:], None]}
        yield {("decode", "categories"): [None, *categories[:-1]]}
