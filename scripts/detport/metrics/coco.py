"""COCO average precision and recall: computed by hotcoco, checked by pycocotools on request.

Both fill the same arrays of precision and recall; the twelve numbers are read from them here, in one place.
"""

import contextlib
import io
from collections import Counter
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import ModuleType

import hotcoco
import numpy as np

from detport import columns, resampling
from detport.classes import unpaired
from detport.datasets import annotations as annotation_checks
from detport.errors import Failure, UsageError
from detport.metrics import NOTHING_TO_FIND, coco_matches

SECOND_EVALUATOR = "pycocotools"
BY_COLUMNS = True
AREAS = ("all", "small", "medium", "large")  # COCO's area ranges, in the order of its arrays
IOUS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
AGREEMENT = 1e-9  # largest difference of a number between the two evaluators
SHOWN = 5  # ids in a complaint
KINDS = {"category": "categories", "image": "images"}
REMEDIES = {"category": "decode.categories", "image": "the index, or decode again"}
SHORT_SIDE = 32  # pixels; MMDetection's training filter drops images with a shorter one


def check(truth: dict, image_ids: list, categories: list, settings: dict) -> list[str]:
    """Refuse ground truth without the model's categories, or without the masks and images that the metric asks for."""
    known = {category["id"] for category in truth["categories"]}
    lacking = [each for each in categories if each is not None and not isinstance(each, str) and each not in known]
    if lacking:
        raise UsageError(
            f"{truth['source']}: {len(lacking)} of the {len(categories)} ids in decode.categories are none of its"
            f" categories: {', '.join(map(str, lacking[:SHOWN]))}{', …' * (len(lacking) > SHOWN)}; correct"
            " decode.categories"
        )
    if "segm" in settings["iou_types"]:
        annotation_checks.check_masks(truth["source"], truth)
    counted(truth, image_ids, settings)
    return unpaired(categories, truth["categories"], truth["source"])


def evaluate(
    truth: dict, image_ids: list, detections: columns.Columns | list[dict], settings: dict, cross_check: bool
) -> dict:
    """For each IoU type the twelve numbers and the AP of every class, over exactly these images."""
    found = columns.of(detections)
    for kind, there in (
        ("category", columns.used(found.categories, found.category)),
        ("image", columns.used(found.images, found.image)),
    ):
        known = {entry["id"] for entry in truth[KINDS[kind]]}
        if strange := sorted(set(there) - known, key=annotation_checks.order):
            raise UsageError(
                f"{truth['source']}: detections have {kind} {strange[0]}, which it does not list; correct"
                f" {REMEDIES[kind]}"
            )
    if "segm" in settings["iou_types"]:
        annotation_checks.check_masks(truth["source"], truth)
    figures = score(hotcoco, truth, image_ids, found, settings)
    if cross_check:
        require_agreement(figures, score(pycocotools_module(), truth, image_ids, found, settings))
    return figures


def counted(truth: dict, image_ids: list, settings: dict) -> list:
    """The images that count. `images: annotated` is MMDetection's training filter, with which some published figures
    were measured: it drops images without annotation (a crowd is one) and those with a side under 32 pixels."""
    if settings["images"] == "all":
        return image_ids
    annotated = {annotation["image_id"] for annotation in truth["annotations"]}
    large = {image["id"] for image in truth["images"] if min(image["width"], image["height"]) >= SHORT_SIDE}
    kept = [image for image in image_ids if image in annotated & large]
    if not kept:
        raise UsageError(f"{truth['source']}: no image has an annotation; metric.images: annotated leaves nothing")
    return kept


def categories(truth: dict, settings: dict) -> list[dict]:
    """Id and name of everything that can be found."""
    return truth["categories"]


def score(library: ModuleType, truth: dict, image_ids: list, found: columns.Columns, settings: dict) -> dict:
    """The figures of one evaluator."""
    figures = {}
    names = list(distinct_names(in_order(truth["categories"])).values())
    loaded = tables(truth, found, settings) if library is hotcoco else None
    for iou_type in settings["iou_types"]:
        precision, recall, categories = arrays(library, truth, image_ids, found, iou_type, settings, loaded)
        figures[iou_type] = twelve_numbers(precision, recall, settings["max_detections"])
        figures[iou_type]["per_class"] = {
            names[category - 1]: mean(precision[:, :, k, 0, headline(settings["max_detections"])])
            for k, category in enumerate(categories)
        }
    return figures


def resampled(
    truth: dict, image_ids: list, rows: list[dict], settings: dict, measures: list[str], drawn: np.ndarray
) -> dict[str, np.ndarray]:
    """Figures in every resample of these images; NaN where nothing is to be found in one."""
    truth, image_ids, rows = numbered(truth, image_ids, rows)
    results, precisions = {}, {}
    for measure in measures:
        iou_type, name = measure.split(".")
        counts = settings["max_detections"]
        most = counts[headline(counts)] if name == "AP" else counts[-1]
        if (iou_type, most) not in precisions:
            found = coco_matches.found(truth, image_ids, rows, iou_type, most)
            recalls = np.array(coco_matches.STANDARD.recThrs)
            precisions[iou_type, most] = resampling.average_precisions(found, drawn, recalls)
        overlaps = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}[name]
        results[measure] = resampling.mean(precisions[iou_type, most][:, overlaps])
    return results


def curves(truth: dict, image_ids: list, rows: list[dict], settings: dict) -> dict:
    """For each IoU type the mean precision over all classes at recalls 0, 0.01 … 1, at each IoU."""
    curves, found = {}, columns.of(rows)
    loaded = tables(truth, found, settings)
    for iou_type in settings["iou_types"]:
        precision, _, _ = arrays(hotcoco, truth, image_ids, found, iou_type, settings, loaded)
        over = precision[:, :, :, 0, headline(settings["max_detections"])]
        curves[iou_type] = {"iou": IOUS, "precision": [[mean(point) for point in curve] for curve in over]}
    return curves


def in_order(entries: list[dict]) -> list[dict]:
    """Images or categories by their ids."""
    return sorted(entries, key=lambda entry: annotation_checks.order(entry["id"]))


def numbers(truth: dict) -> tuple[dict, dict]:
    """1, 2, 3 … by the ids of images and of categories, in their order: both libraries need numbers, and some datasets
    have names."""
    return tuple(
        {entry["id"]: i for i, entry in enumerate(in_order(truth[key]), start=1)} for key in ("images", "categories")
    )


def numbered(truth: dict, image_ids: list, rows: list[dict]) -> tuple[dict, list[int], list[dict]]:
    """The same with numbers for the ids of images and categories."""
    images, kinds = numbers(truth)

    def renamed(entry: dict) -> dict:
        return entry | {"image_id": images[entry["image_id"]], "category_id": kinds[entry["category_id"]]}

    content = {
        "images": [image | {"id": images[image["id"]]} for image in truth["images"]],
        "categories": [category | {"id": kinds[category["id"]]} for category in truth["categories"]],
        "annotations": [renamed(annotation) for annotation in truth["annotations"]],
    }
    return content, [images[image] for image in image_ids], [renamed(row) for row in rows]


def tables(truth: dict, found: columns.Columns, settings: dict) -> tuple[hotcoco.COCO, hotcoco.COCO] | None:
    """Ground truth and detections as hotcoco takes them by columns, for boxes and for masks: an object for each would
    take longer than their evaluation. None where it cannot: without detections, or where some have no mask."""
    masks = found.masks if "segm" in settings["iou_types"] else None
    if not columns.count(found) or ("segm" in settings["iou_types"] and (masks is None or None in masks)):
        return None
    images, kinds = numbers(truth)
    objects = truth["annotations"]
    count = len(objects)
    ground_truth = hotcoco.COCO.from_arrays(
        [image | {"id": images[image["id"]]} for image in truth["images"]],
        [category | {"id": kinds[category["id"]]} for category in truth["categories"]],
        np.fromiter((images[each["image_id"]] for each in objects), np.int64, count),
        np.fromiter((kinds[each["category_id"]] for each in objects), np.int64, count),
        np.fromiter(chain.from_iterable(map(itemgetter("bbox"), objects)), float, 4 * count).reshape(-1, 4),
        ids=np.fromiter(map(itemgetter("id"), objects), np.int64, count),
        area=np.fromiter(map(itemgetter("area"), objects), float, count),
        iscrowd=np.fromiter(map(itemgetter("iscrowd"), objects), np.int64, count),
        segmentation=[each["segmentation"] for each in objects] if masks else None,
    )
    table = np.empty((columns.count(found), 7))  # image, x, y, w, h, score, category
    table[:, 0] = np.array([images.get(each, 0) for each in found.images])[found.image]
    table[:, 1:5] = found.boxes
    table[:, 5] = found.scores
    table[:, 6] = np.array([kinds.get(each, 0) for each in found.categories])[found.category]
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its progress
        return ground_truth, ground_truth.loadRes(table, segmentation=masks)


def distinct_names(categories: list[dict]) -> dict[int, str]:
    """The name of every category by its id; names that several share are told apart by their ids.

    Files in the wild do share them (some exporters add a parent category named like its child), and figures that are
    filed under one name would hide each other.
    """
    names = {category["id"]: category["name"] for category in categories}
    while shared := {name for name, count in Counter(names.values()).items() if count > 1}:
        names = {key: f"{name} (id {key})" if name in shared else name for key, name in names.items()}
    return names


def arrays(
    library: ModuleType,
    truth: dict,
    image_ids: list,
    found: columns.Columns,
    iou_type: str,
    settings: dict,
    loaded: tuple[hotcoco.COCO, hotcoco.COCO] | None,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """precision [T, R, K, A, M], recall [T, K, A, M] and the K category ids, which are `numbers`."""
    by_mask = iou_type == "segm" and settings["mask_area"] == "mask"
    places, _ = numbers(truth)
    with contextlib.redirect_stdout(io.StringIO()):  # the libraries print their progress
        pair = objects(library, truth, found, by_mask) if loaded is None or by_mask else loaded
        evaluator = library.COCOeval(*pair, iou_type)
        evaluator.params.imgIds = sorted(places[image] for image in image_ids)
        evaluator.params.maxDets = list(settings["max_detections"])
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = (np.asarray(evaluator.eval[key], float) for key in ("precision", "recall"))
    return precision, recall, [int(category) for category in evaluator.params.catIds]


def objects(library: ModuleType, truth: dict, found: columns.Columns, by_mask: bool) -> tuple:
    """Ground truth and detections as both libraries take them: an object for each."""
    content, _, results = numbered(truth, [], columns.rows(found))
    if by_mask:
        # Both libraries take the box's area wherever a result has a box.
        results = [{key: value for key, value in row.items() if key != "bbox"} for row in results]
    ground_truth = library.COCO()
    ground_truth.dataset = content
    ground_truth.createIndex()
    # Without detections pycocotools cannot load the list; one of score 0 outside every image is the same.
    return ground_truth, ground_truth.loadRes(results or [absent(content)])


def absent(truth: dict) -> dict:
    """A detection that matches nothing."""
    image, category = truth["images"][0], truth["categories"][0]
    empty = {"size": [image["height"], image["width"]], "counts": [image["height"] * image["width"]]}
    return {
        "image_id": image["id"],
        "category_id": category["id"],
        "bbox": [-2.0, -2.0, 1.0, 1.0],
        "score": 0.0,
        "segmentation": empty,
    }


def which_images(settings: dict) -> str:
    """In words, what `counted` keeps."""
    if settings["images"] == "all":
        return "all, also those without an annotation (metric.images: all)"
    return f"without those that have no annotation or a side under {SHORT_SIDE} px (metric.images: annotated)"


def twelve_numbers(precision: np.ndarray, recall: np.ndarray, max_detections: list[int]) -> dict[str, float]:
    """COCO's summary; -1 where the ground truth has nothing to find."""
    area = {name: i for i, name in enumerate(AREAS)}
    few, some, most = max_detections
    return {
        "AP": mean(precision[:, :, :, area["all"], headline(max_detections)]),
        "AP50": mean(precision[0, :, :, area["all"], -1]),
        "AP75": mean(precision[5, :, :, area["all"], -1]),
        "APs": mean(precision[:, :, :, area["small"], -1]),
        "APm": mean(precision[:, :, :, area["medium"], -1]),
        "APl": mean(precision[:, :, :, area["large"], -1]),
        f"AR{few}": mean(recall[:, :, area["all"], 0]),
        f"AR{some}": mean(recall[:, :, area["all"], 1]),
        f"AR{most}": mean(recall[:, :, area["all"], 2]),
        "ARs": mean(recall[:, :, area["small"], -1]),
        "ARm": mean(recall[:, :, area["medium"], -1]),
        "ARl": mean(recall[:, :, area["large"], -1]),
    }


def headline(max_detections: list[int]) -> int:
    """Which limit the AP is taken at: COCO's tools use 100 detections whenever that is one of the three."""
    return max_detections.index(100) if 100 in max_detections else len(max_detections) - 1


def write_results(folder: Path, image_ids: list, rows: list[dict], settings: dict, image_set: str) -> None:
    """Result files of classes are VOC's; COCO's results are the detections themselves."""
    raise UsageError("--comp4: metric coco has no such files; its results are the detections of the shards")


def evaluators(cross_checked: bool) -> str:
    """In words, who computed the figures."""
    return f"{SECOND_EVALUATOR} agrees on every number" if cross_checked else "by hotcoco"


def notes(accuracy: dict, settings: dict) -> list[str]:
    """What one has to know of the figures, where masks are scored."""
    if "segm" not in accuracy or settings["mask_area"] != "bbox":
        return []
    return [
        "detected masks are small, medium or large by the area of their box, as in published figures"
        " (metric.mask_area: bbox); this touches only APs, APm, APl, ARs, ARm, ARl of segm"
    ]


def mean(values: np.ndarray) -> float:
    """Mean of the entries that exist; those that do not have the mark that the mean of none has."""
    present = values[values > NOTHING_TO_FIND]
    return float(present.mean()) if present.size else NOTHING_TO_FIND


def pycocotools_module() -> ModuleType:
    """pycocotools under the names that hotcoco uses."""
    import pycocotools.coco  # here: that takes a tenth of an evaluation's time, which seldom asks for it
    import pycocotools.cocoeval

    module = ModuleType("pycocotools")
    module.COCO = pycocotools.coco.COCO
    module.COCOeval = pycocotools.cocoeval.COCOeval
    return module


def require_agreement(figures: dict, others: dict) -> None:
    """Fail where the second evaluator has another number."""
    for iou_type, numbers in figures.items():
        flat = {**numbers, **numbers["per_class"]}
        other = {**others[iou_type], **others[iou_type]["per_class"]}
        for name in flat.keys() - {"per_class"}:
            if abs(flat[name] - other[name]) > AGREEMENT:
                raise Failure(f"{iou_type} {name}: hotcoco says {flat[name]!r}, pycocotools {other[name]!r}")
