"""Warnings on the first screen of a report."""

import re

from detport import schemas

NEAR_NOTHING = 0.02  # AP of a model whose yaml is wrong somewhere
MANY = 0.01  # part of all detections
LISTED = 5


def lines(model: dict, backend: str, found: dict) -> list[str]:
    """What may be wrong with the figures of a backend, one line each."""
    metric = model["metric"]
    doubts = found["doubts"]
    count, said = found["detections"], []
    figure = found["figures"].get(schemas.plugin("metrics", metric["kind"]).get("headline"))
    if not found["accuracy"]:
        said.append("the dataset has no ground truth: no accuracy")
    elif not doubts["objects"]:
        said.append("the annotations have no object in the images that were scored: no accuracy")
    elif figure is not None and figure < NEAR_NOTHING:
        said.append(
            f"AP {figure:.3f} is next to nothing, the yaml is most likely wrong somewhere; the doctor tries the usual"
            f" mistakes: snakemake --cores 2 results/{model['name']}/doctor.txt"
        )
    if doubts["silent"]:
        said.append(f"classes without a single detection, though there are objects: {listed(doubts['silent'])}")
    if doubts["tiny"] > MANY * count:
        said.append(
            f"{doubts['tiny']} of {count} detections are under a pixel wide or high: decode.coordinates or decode.box?"
        )
    if doubts["turned"]:
        files = [image["file"] for image in doubts["turned"]]
        said.append(
            f"images that their EXIF turns, right only if the annotations are so: {len(files)}, {listed(files)}"
        )
    said += [f"{line}; compare the yaml's decode" for line in doubts["readings"]]
    caps = dict.fromkeys(line for graph in found["patches"] for line in graph["caps"])
    limits = [line for line in caps if not as_low(model["decode"], line)]
    said += [f"inside the graph, {line}; figures published with other limits are not to be had" for line in limits]
    for graph in found["calibration"]:
        if len(graph["images"]) >= found["images"]["scored"]:
            said.append(
                f"calibrated on all {len(graph['images'])} images that are scored, which flatters it; set the backend's"
                " calibration.images to fewer"
            )
            break
    return [f"{backend}: {line}" for line in said]


def as_low(decode: dict, line: str) -> bool:
    """Whether the decoder itself keeps no more boxes of an image than a limit of the graph, told by a line, leaves."""
    kept, limit = decode.get("max_detections"), re.search(r"at most (\d+) boxes of an image$", line)
    return bool(kept and limit) and kept <= int(limit[1])


def listed(names: list[str]) -> str:
    """The first of some names."""
    return ", ".join(names[:LISTED]) + (f", … (+{len(names) - LISTED})" if len(names) > LISTED else "")
