"""A model's yaml from an ONNX file: what the file tells, what a preset says, what is a guess, what nobody can tell."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from detport import config, decoders, outputs, presets, readings
from detport.commented import Line
from detport.errors import Complaint, UsageError
from detport.graph import probe
from detport.graph.describe import Facts, class_names, facts, shortened, warnings
from detport.readings import Reading

SELECT = {"score_above": 0.001, "nms": "hard", "nms_iou": 0.65, "max_detections": 300}  # where no preset says it
SCORED = ("dense", "cells", "distances", "anchors")  # kinds whose boxes have scores of all classes
MOST_ROWS = 300  # of an output whose number of rows depends on the image, where the graph says no limit
LETTERBOX = {
    "decoder": "opencv",
    "channels": "RGB",
    "resize": {"library": "opencv", "rule": "fit", "rounding": "even"},
    "place": "centre",
    "divide_by": 255,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "fill": 114,
}
QUESTIONS = {
    "anchors": "which anchors? They are in the training's configuration: [width, height] of each, by level",
    "channels": "RGB or BGR? No file tells. Most projects take RGB; YOLOX, NanoDet, MMDetection's YOLOX and RTMDet, and"
    " weights that come from Caffe take BGR",
    "resize": "how do images get to the input's size? letterbox (rule: fit, with place and fill), fit at the top left"
    " (place: top_left), or stretch; see docs/preprocessing.md",
    "divide_by": "what are pixels turned into? 0..1: divide_by: 255; 0..255: remove it; ImageNet's: divide_by: 255 with"
    " mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225]; -1..1: divide_by: 127.5 with mean [1, 1, 1]",
}


class Dataset(NamedTuple):
    """What is known of the dataset that a model is to be scored on."""

    name: str
    kind: str
    categories: list[dict]  # id and name; empty where they are not known
    images: list[tuple[Path, tuple[int, int]]]  # some of them, with width and height


class Proposal(NamedTuple):
    """Lines of a yaml, what goes above them, and the checked model that they make."""

    head: list[str]
    lines: list[Line]
    model: dict


def propose(path: str, graph: onnx.ModelProto, dataset: Dataset, name: str | None) -> Proposal:
    """What an ONNX file is as a model; `name` is that of a preset."""
    found = facts(graph)
    image = probe.image_of(found)
    more, reasons = probe.beside(image, found)
    inside = probe.normalised_inside(graph, image.name)
    preset = presets.load(name) if name else None
    chosen = (name, "--preset") if name else None
    while True:  # a second time where the family that is recognised has a usual size for sides that are open
        section, why, guesses = probe.image_section(image, found, tuple(preset["size"]) if preset else None)
        section["more"] = more
        first = checked({"input": plain(section), "preprocess": preprocess_of(None, image, inside)})
        runs, ran_on = run(graph, first, dataset)
        reading, others = reading_of(runs, first["input"], found, dataset)
        if chosen is None:
            chosen = presets.recognised(found, reading.form)
            preset = presets.load(chosen[0]) if chosen else None
            if preset and guesses:
                continue
        break
    for key, value in (preset["input"] if preset else {}).items():
        section[key], why[key] = value, f"preset {chosen[0]}"
    lines = [*title_lines(path, found, dataset), *input_lines(section, why, guesses, reasons)]
    sure = name is not None or (chosen is not None and chosen[1].startswith("metadata"))
    lines += preprocess_lines(preset, chosen, image, inside, sure)
    lines += output_lines(graph, runs, found)
    lines += decode_lines(reading, preset, chosen, sure)
    lines += [categories_line(reading, found, dataset), *metric_lines(dataset)]
    model = checked(sections(lines))
    head = [*head_lines(path, found, preset, chosen, name), f"the graph was run on {ran_on}: {tried(model, runs)}"]
    head += [f"another reading of the outputs: {in_words(each)}" for each in others]
    head += [f"WARNING: {line}" for line in warnings(found)]
    return Proposal(head, lines, model)


def plain(section: dict) -> dict:
    """A section with keys of its own left out that only say None."""
    return section | {"more": [{k: v for k, v in each.items() if v is not None} for each in section["more"]]}


def checked(given: dict) -> dict:
    """A model that is complete but for `given`, checked."""
    skeleton = {
        "title": "-",
        "dataset": "-",
        "onnx": "-",
        "outputs": [{"name": "-", "shape": [1, 5], "dtype": "float32"}, {"name": "-l", "shape": [1], "dtype": "int64"}],
        "decode": {"kind": "after_nms", "categories": [1]},
        "metric": {"kind": "coco", "iou_types": ["bbox"]},
    }
    return config.check(skeleton | given, "model", "the proposed yaml")


def sections(lines: list[Line]) -> dict:
    """The value of the yaml that lines make."""
    value: dict = {}
    for line in lines:
        *above, last = line.key
        place = value
        for key in above:
            place = place.setdefault(key, {})
        place[last] = line.value
    return value


def run(graph: onnx.ModelProto, model: dict, dataset: Dataset) -> tuple[list[dict[str, np.ndarray]], str]:
    """What the graph makes of images of the dataset or, without them, of random numbers; and which in words."""
    feeds = probe.feeds(model, dataset.images)
    if feeds:
        return probe.run(graph, model["input"], feeds), f"{len(feeds)} images of {dataset.name}"
    why = f"of {dataset.name} there is no image here" if dataset.kind else f"no {dataset.name} is configured here"
    return probe.run(graph, model["input"], probe.noise(model["input"])), f"random numbers, because {why}"


def reading_of(
    runs: list[dict[str, np.ndarray]], size: dict, found: Facts, dataset: Dataset
) -> tuple[Reading, list[Reading]]:
    """The likeliest reading of the outputs, and the others."""
    names = class_names(found.metadata)
    told = any(each.name in probe.TELL_SIZE for each in found.inputs)
    counts = [len(names[1])] if names else [len(dataset.categories) or None, None]
    for count in dict.fromkeys(counts):
        fitting = readings.likely(runs, (size["height"], size["width"]), count, told)
        if fitting:
            return fitting[0], fitting[1:]
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in runs[0].items())
    hint = " (heat maps with sizes and offsets, as CenterNet's, have no decoder)" * readings.are_heat_maps(runs)
    raise UsageError(
        f"outputs {shapes} are of no form that a decoder reads{hint}: is this a whole detector? If so, write its"
        " decoder: docs/adding-a-model.md#new-outputs"
    )


def title_lines(path: str, found: Facts, dataset: Dataset) -> list[Line]:
    title, why = found.metadata.get("description"), "metadata: description"
    if not isinstance(title, str):
        title, why = Path(path).stem, "the file's name"
    return [
        Line(("title",), shortened(title), why),
        Line(("dataset",), dataset.name, "--dataset"),
        Line(("onnx",), path, "the file"),
    ]


def input_lines(section: dict, why: dict, guesses: set[str], reasons: list[str]) -> list[Line]:
    more = plain(section)["more"]
    lines = [Line(("input", key), section[key], why[key], key in guesses) for key in section if key != "more"]
    return lines + ([Line(("input", "more"), more, "; ".join(reasons))] if more else [])


def preprocess_of(preset: dict | None, image: probe.Tensor, inside: list[str]) -> dict:
    """The settings of the preset, or the usual ones, less what the graph does itself."""
    settings = dict(preset["preprocess"] if preset else LETTERBOX)
    if (image.dtype == "uint8" or inside) and not preset:
        settings = {key: value for key, value in settings.items() if key != "divide_by"}
    if image.dtype == "uint8":
        settings = {key: value for key, value in settings.items() if key != "divide_by"}
        settings |= {"mean": [0, 0, 0], "std": [1, 1, 1]}
    if image.shape and 1 in (image.shape[-3], image.shape[-1]) and 3 not in (image.shape[-3], image.shape[-1]):
        settings |= {"channels": "grey", "mean": settings["mean"][:1], "std": settings["std"][:1]}
    return settings


def preprocess_lines(
    preset: dict | None, chosen: tuple[str, str] | None, image: probe.Tensor, inside: list[str], sure: bool
) -> list[Line]:
    """Preprocessing, which no file tells: the preset's, or the usual one with a question for each part."""
    lines = []
    for key, value in preprocess_of(preset, image, inside).items():
        question, guess = "", not sure
        why = f"preset {chosen[0]}" if preset else "the usual"
        if key in ("mean", "std") and image.dtype == "uint8":
            why, guess = f"{image.name} is uint8: pixels as they are", False
        elif key in ("mean", "std") and inside:
            why += f"; the graph itself has {', '.join(inside)} on its input"
        elif not preset:
            question = QUESTIONS.get(key, "")
        lines.append(Line(("preprocess", key), value, why, guess, question))
    return lines


def output_lines(graph: onnx.ModelProto, runs: list[dict[str, np.ndarray]], found: Facts) -> list[Line]:
    """The contract of the outputs, as the run gave them."""
    stated = {each.name: each.shape for each in found.outputs}
    follows = probe.variable(graph)
    kept = [each["value"] for each in found.limits if each["what"] == "keep"]
    entries, guess = [], False
    for name, array in runs[0].items():
        entry: dict = {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
        shapes = [run[name].shape for run in runs]
        axes = [i for i, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
        if not axes and name in follows and stated[name] is not None and None in stated[name]:
            axes = [i for i, size in enumerate(stated[name]) if size is None][-1:]
        if axes:
            most = max(size[axes[0]] for size in shapes)
            entry["shape"][axes[0]] = max(int(min(kept, default=MOST_ROWS)), most)
            entry["varies"] = axes[0]
            guess |= not kept
        entries.append(entry)
    why = "as the run gave them"
    if any("varies" in entry for entry in entries):
        most = f"at most {int(min(kept))}, which the graph keeps" if kept else f"{MOST_ROWS} at most"
        why += f"; the number of rows depends on the image, {most}"
    return [Line(("outputs",), entries, why, guess)]


def decode_lines(reading: Reading, preset: dict | None, chosen: tuple[str, str] | None, sure: bool) -> list[Line]:
    """What the outputs are, and how detections are chosen. What the outputs show wins over the preset."""
    kind = reading.decode["kind"]
    by_preset = (preset or {}).get("layouts", {}).get(kind, {})
    lines = []
    for key, value in reading.decode.items():
        why, guess = reading.why.get(key, ""), key in reading.guesses
        if key in by_preset and guess:
            value, why, guess = by_preset[key], f"preset {chosen[0]}", not sure
        elif key in by_preset and by_preset[key] != value and key != "strides":
            why += f" (preset {chosen[0]} has {by_preset[key]})"
        elif key == "anchors_in" and "anchors" in by_preset and guess:
            continue  # the unit of the guess
        lines.append(Line(("decode", key), value, why, guess, QUESTIONS["anchors"] * (key == "anchors" and guess)))
    own = {line.key[-1] for line in lines}
    lines += [
        Line(("decode", key), value, f"preset {chosen[0]}", not sure)
        for key, value in by_preset.items()
        if key not in own
    ]
    if kind in SCORED:
        select = SELECT if preset is None or not preset["select"] else preset["select"]
        if reading.decode.get("nms") == "none":
            select = {"score_above": 0} if select is SELECT else select
        why = f"preset {chosen[0]}" if select is not SELECT and preset else "the usual of evaluations"
        own = {line.key[-1] for line in lines}
        lines += [Line(("decode", k), v, why, not (sure and preset)) for k, v in select.items() if k not in own]
    return lines


def categories_line(reading: Reading, found: Facts, dataset: Dataset) -> Line:
    """Which category every class is."""
    key = ("decode", "categories")
    names = class_names(found.metadata)
    spare = reading.decode.get("background", "none") != "none"
    if names:
        own = sorted(dataset.categories, key=lambda category: str(category["id"]).zfill(20))
        same = [category["name"] for category in own] == names[1]
        if same and [category["id"] for category in own] == decoders.CATEGORIES["coco80"]:
            return Line(key, "coco80", f"metadata: {names[0]}, which are COCO's 80 in their order")
        return Line(key, names[1], f"metadata: {names[0]}; categories of the dataset are found by these names")
    count = reading.classes - spare
    usual = {80: "coco80", 90: "coco90", 91: "coco91", 20: "voc20"}
    own = [category["id"] for category in dataset.categories]
    question = "which category is each class, in the order of the network? A list of names or ids, or a file of names"
    if count == len(own) or (count <= 0 and own):
        known = next((name for name in usual.values() if decoders.CATEGORIES[name] == own), own)
        why = f"the {len(own)} categories of {dataset.name} in the order of their ids"
        return Line(key, known, why, True, question)
    if count in usual:
        return Line(key, usual[count], f"{count} classes are usually these", True, question)
    return Line(key, list(range(1, max(count, 1) + 1)), "numbers from 1, one for each class", True, question)


def metric_lines(dataset: Dataset) -> list[Line]:
    """The metric of the dataset's kind."""
    if dataset.kind == "voc" and dataset.categories:
        names = [category["name"] for category in dataset.categories]
        return [
            Line(("metric", "kind"), "voc", f"{dataset.name} is of kind voc"),
            Line(("metric", "classes"), names, "the names in its annotations"),
        ]
    return [
        Line(("metric", "kind"), "coco", "COCO's average precision"),
        Line(("metric", "iou_types"), ["bbox"], "of boxes"),
    ]


def head_lines(
    path: str, found: Facts, preset: dict | None, chosen: tuple[str, str] | None, asked: str | None
) -> list[str]:
    """Where the yaml comes from."""
    lines = [f"Written by new_model.py from {path} (opset {found.opset}, {found.producer or 'producer unknown'})."]
    lines.append("Lines marked GUESS are not told by the file; lines below QUESTION need an answer.")
    if preset is None:
        return [*lines, f"No preset was recognised; --preset takes one of {', '.join(presets.known())}."]
    by = "--preset" if asked else f"by {chosen[1]}"
    by = by if asked or chosen[1].startswith("metadata") else f"GUESS, {by}"
    lines.append(f"Preset {chosen[0]} ({by}): {preset['title']}; {preset['source']}.")
    return lines + [f"Note: {note}." for note in preset["notes"]]


def tried(model: dict, runs: list[dict[str, np.ndarray]]) -> str:
    """What the decoder makes of the runs."""
    decode, size = model["decode"], model["input"]
    known = {"image_id": 0, "file": "the run", "width": size["width"], "height": size["height"], "scale": 1.0}
    image = known | {"canvas": f"{size['height']}x{size['width']}", "left": 0, "top": 0}
    try:
        rows = [
            row
            for run in runs
            for row in decoders.load(decode["kind"]).decode(
                {name: outputs.widened(array) for name, array in run.items()},
                image | {"size": [size["width"], size["height"]]},
                decode,
                decoders.categories(decode["categories"]),
            )
        ]
    except Complaint as error:
        return f"the decoder says: {error}"
    return f"{len(rows)} detections, the best with score {max((row['score'] for row in rows), default=0):.3f}"


def in_words(reading: Reading) -> str:
    """A reading in one line."""
    return ", ".join(f"{key}: {value}" for key, value in reading.decode.items())
