"""The images of a page with all that is drawn on them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detport import analysis, classes, datasets
from detport.analysis import matching
from detport.page import gallery, pictures
from detport.page.gallery import Seen
from detport.page.ground import Ground

BOXES, MASKS = "bbox", "segm"  # what detections are judged by


def tasks(ground: Ground, metric: dict, rows: Iterable[dict]) -> list[str]:
    """By what detections are judged, that of the metric's first figures first; by masks only if all have one."""
    asked = metric.get("iou_types", [BOXES]) if ground.judged else [BOXES]
    masks = MASKS in asked and all("segmentation" in each for each in (*ground.truth["annotations"], *rows))
    return [task for task in asked if task == BOXES or masks] or [BOXES]


def looked_at(ground: Ground, ids: Sequence, rows: Sequence[dict], score: float, task: str = BOXES) -> Seen:
    """What a backend found in these images, and the score that one works with."""
    known, _ = classes.with_ids(list(rows), ground.categories)
    images = list(matching.images(ground.truth, ids, known, analysis.LIMIT))
    return Seen(images, [matching.match(image, task) for image in images], score)


def images(
    ground: Ground,
    seen: Mapping[str, Seen],
    chosen: Mapping[int, list[str]],
    judged_by: list[str],
    dataset: dict,
    files: Mapping,
    choice: str,
    lead: str,
) -> dict:
    """The gallery. `seen` is what each backend found, `chosen` the positions of images with the reasons, `files` the
    name of each image's file by its id, `choice` which images are shown, and `lead` how they were chosen."""
    every = list(seen.values())
    listed = {image["id"]: image for image in ground.truth["images"]}
    first = [every[0].images[i] for i in chosen]
    may = [pictures.may_be_shown(listed[image.image_id], ground.truth.get("licenses"), choice) for image in first]
    folder, least = Path(dataset["images"]), gallery.faintest(every)
    paths = [folder / files[image.image_id] if yes else None for image, yes in zip(first, may, strict=True)]

    def drawn(side: int) -> list[dict]:
        return [
            gallery.drawn(image, [each.images[i] for each in every], side, ground.ids, least, MASKS in judged_by)
            for i, image in zip(chosen, first, strict=True)
        ]

    drawings = drawn(pictures.SIDE)
    left = pictures.BUDGET - len(json.dumps(drawings))
    addresses, side = pictures.embedded(paths, datasets.load(dataset["kind"]).TURNED, left)
    told = zip(chosen.values(), addresses, drawings if side == pictures.SIDE else drawn(side), strict=True)
    return {
        "iou": matching.IOU,
        "near": matching.NEAR,
        "least": least,
        "side": side,
        "lead": lead,
        "judged": ground.judged,
        "tasks": judged_by,
        "scores": [each.score for each in every],
        "backends": list(seen),
        "classes": ground.classes,
        "pictures": [
            {"name": files[drawing["id"]], "why": why, "image": address} | drawing for why, address, drawing in told
        ],
    }
