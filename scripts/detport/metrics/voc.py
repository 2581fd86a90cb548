"""Average precision as Pascal VOC defines it, from the lines of the result files that VOC's tools read.

Where `rounding` is "files" they have what published figures come from, scores with 3 decimals and coordinates with 1;
else every digit.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from detport import resampling
from detport.boxes import overlaps
from detport.classes import unpaired, with_ids
from detport.errors import Failure, UsageError
from detport.files import atomic

SECOND_EVALUATOR = None
RECALLS = np.arange(0.0, 1.1, 0.1)  # 0.30000000000000004 and the like included: recall 3/10 does not reach it


def check(truth: dict, image_ids: list, wanted: list, settings: dict) -> list[str]:
    """Refuse objects and categories of classes that the metric does not list."""
    count = len(settings["classes"])
    strange = [each for each in wanted if isinstance(each, int) and not 1 <= each <= count]
    if strange:
        raise UsageError(
            f"decode.categories has {strange[0]}, but metric.classes names the categories 1 to {count}; correct one of"
            " them"
        )
    objects_of(truth, image_ids, settings)
    return unpaired(wanted, categories(truth, settings), "metric.classes")


def evaluate(truth: dict, image_ids: list, rows: list[dict], settings: dict, cross_check: bool) -> dict:
    """Figures over exactly these images, whose order decides which of two detections with equal scores comes first.

    There is no second evaluator: `cross_check` changes nothing.
    """
    return score(objects_of(truth, image_ids, settings), with_text_ids(rows), settings)


def objects_of(truth: dict, image_ids: list, settings: dict) -> dict[str, list[dict]]:
    """Name, 1-based corners and difficulty of every object of these images, in their order; a crowd is difficult. All
    are of classes that the metric lists: others would never be found missing."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    found: dict[str, list[dict]] = {str(image): [] for image in image_ids}
    for annotation in truth["annotations"]:
        if (image := str(annotation["image_id"])) in found:
            x, y, width, height = annotation["bbox"]
            box = [x + 1, y + 1, x + width, y + height]
            difficult = bool(annotation["iscrowd"])
            name = names[annotation["category_id"]]
            if name not in settings["classes"]:
                where = annotation.get("where", f"{truth['source']}: image {image}")
                raise UsageError(f"{where}: has a {name!r}, which metric.classes does not list")
            found[image].append({"name": name, "box": box, "difficult": difficult})
    return found


def counted(truth: dict, image_ids: list, settings: dict) -> list:
    """The images that count: all."""
    return image_ids


def categories(truth: dict, settings: dict) -> list[dict]:
    """Id and name of everything that can be found: the classes count from 1."""
    return [{"id": i, "name": name} for i, name in enumerate(settings["classes"], start=1)]


def which_images(settings: dict) -> str:
    """In words, what `counted` keeps."""
    return "all of the dataset"


def evaluators(cross_checked: bool) -> str:
    """In words, who computed the figures."""
    return "by detport's own VOC evaluation, not cross-checked"


def notes(accuracy: dict, settings: dict) -> list[str]:
    """What one has to know of the figures: by which rule they are, from which numbers."""
    iou = f"at an IoU of {settings['iou_threshold']:g}"
    lines = [f"voc07 is by 11 points (VOC 2007), voc_area by the area under the curve (later), {iou}"]
    if settings["rounding"] == "files":
        lines.append("scores have 3 decimals, coordinates 1, as in VOC's result files (metric.rounding: files)")
    if any(numbers["mAP"] is None for numbers in accuracy.values()):
        lines.append("-: not defined, because a class without objects has detections")
    return lines


def score(ground_truth: dict[str, list[dict]], detections: list[dict], settings: dict) -> dict:
    """AP of every class and its mean, by the 11 points of VOC 2007 and by the area under the curve.

    `ground_truth` is that of datasets.voc; `detections` are COCO results whose category_id is 1 for the first class.
    The area of a class without objects that has detections is not defined: None, and so is then the mean.
    """
    return score_files(ground_truth, comp4(ground_truth, detections, settings), settings["iou_threshold"])


def score_files(ground_truth: dict[str, list[dict]], files: dict[str, list[str]], iou_threshold: float) -> dict:
    """As `score`, from the lines of every class's result file."""
    by_points, by_area = {}, {}
    for name, lines in files.items():
        curve = precision_recall(ground_truth, name, lines, iou_threshold)
        by_points[name], by_area[name] = eleven_points(*curve), area_under(*curve)
    return {"voc07": with_mean(by_points), "voc_area": with_mean(by_area)}


def with_text_ids(rows: list[dict]) -> list[dict]:
    """VOC's image ids are names, also those that an index cannot tell from numbers."""
    return [row | {"image_id": str(row["image_id"])} for row in rows]


def comp4(images: Iterable[str], detections: list[dict], settings: dict) -> dict[str, list[str]]:
    """Lines of every class's result file: `image score x1 y1 x2 y2` with 1-based corners.

    Images come in the order given, an image's detections by descending score.
    """
    classes = settings["classes"]
    # Without a precision a float is written with as many digits as tell it from every other.
    score_format, corner_format = (".3f", ".1f") if settings["rounding"] == "files" else ("", "")
    order = {image: position for position, image in enumerate(images)}
    files: dict[str, list[str]] = {name: [] for name in classes}
    for row in detections:
        if row["image_id"] not in order:
            raise Failure(f"image {row['image_id']!r} has detections but is not in the image set")
        if not 1 <= row["category_id"] <= len(classes):
            raise Failure(f"image {row['image_id']!r}: category {row['category_id']} is not in 1..{len(classes)}")
    for row in sorted(detections, key=lambda row: (order[row["image_id"]], -row["score"])):
        x, y, width, height = row["bbox"]
        corners = " ".join(f"{value + 1:{corner_format}}" for value in (x, y, x + width, y + height))
        files[classes[row["category_id"] - 1]].append(f"{row['image_id']} {row['score']:{score_format}} {corners}")
    return files


def write_results(folder: Path, image_ids: list, rows: list[dict], settings: dict, image_set: str) -> None:
    """Write comp4_det_SET_CLASS.txt for every class: the lines that the figures are computed from."""
    rows, _ = with_ids(with_text_ids(rows), categories({}, settings))
    for name, lines in comp4(map(str, image_ids), rows, settings).items():
        with atomic(folder / f"comp4_det_{image_set}_{name}.txt") as partial:
            partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def precision_recall(
    ground_truth: dict[str, list[dict]], name: str, lines: list[str], iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each detection of a class, best score first (NaN: 0 of 0 objects).

    Difficult objects are not counted, and neither are detections that find them.
    """
    _, _, true, false = matches(ground_truth, name, lines, iou_threshold)
    positives = sum(each["name"] == name and not each["difficult"] for found in ground_truth.values() for each in found)
    true, false = true.cumsum(), false.cumsum()
    recall = true / positives if positives else np.full(len(lines), np.nan)
    return true / np.maximum(true + false, np.finfo(float).eps), recall


def matches(
    ground_truth: dict[str, list[dict]], name: str, lines: list[str], iou_threshold: float
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Image and score of each detection of a class, best score first, and whether it is true, and whether false.

    A detection finds the object that it overlaps most, where that is by more than the threshold. Equal scores, frequent
    with 3 decimals, stay in the order of the file. One that finds a difficult object is neither true nor false.
    """
    objects = {image: [each for each in found if each["name"] == name] for image, found in ground_truth.items()}
    boxes = {image: np.array([each["box"] for each in found], float) for image, found in objects.items() if found}
    taken = {image: [False] * len(found) for image, found in objects.items()}
    rows = [line.rsplit(" ", 5) for line in lines]
    numbers = np.array([row[1:] for row in rows], float).reshape(-1, 5)
    true, false = np.zeros(len(rows)), np.zeros(len(rows))
    order = np.argsort(-numbers[:, 0], kind="stable")
    for rank, i in enumerate(order):
        image = rows[i][0]
        shared = overlaps(numbers[i, 1:], boxes[image], plus=1) if image in boxes else np.zeros(1)
        best = int(shared.argmax())
        if not shared[best] > iou_threshold:
            false[rank] = 1
        elif not objects[image][best]["difficult"]:
            (false if taken[image][best] else true)[rank] = 1
            taken[image][best] = True
    return [rows[i][0] for i in order], numbers[order, 0], true, false


def resampled(
    truth: dict, image_ids: list, rows: list[dict], settings: dict, measures: list[str], drawn: np.ndarray
) -> dict[str, np.ndarray]:
    """Figures in every resample of these images; NaN where one is not defined."""
    ground_truth = objects_of(truth, image_ids, settings)
    files = comp4(ground_truth, with_text_ids(rows), settings)
    classes = [found_of(ground_truth, name, lines, settings["iou_threshold"]) for name, lines in files.items()]
    results = {}
    for measure in measures:
        by_points = measure.startswith("voc07")
        precisions = resampling.average_precisions(classes, drawn, RECALLS if by_points else None)[:, 0]
        if by_points:
            precisions = np.nan_to_num(precisions)  # of a class without objects: 0, as eleven_points has it
        else:
            silent = np.stack([~drawn[:, np.unique(found.image)].any(axis=1) for found in classes])
            precisions[np.isnan(precisions) & silent] = 0  # neither objects nor detections, as area_under has it
        results[measure] = precisions.mean(axis=0)
    return results


def found_of(
    ground_truth: dict[str, list[dict]], name: str, lines: list[str], iou_threshold: float
) -> resampling.Found:
    """The detections of a class, as resamples take them."""
    images, scores, true, false = matches(ground_truth, name, lines, iou_threshold)
    place = {image: i for i, image in enumerate(ground_truth)}
    objects = [sum(each["name"] == name and not each["difficult"] for each in found) for found in ground_truth.values()]
    places = np.array([place[image] for image in images], int)
    neither = (true == 0) & (false == 0)
    return resampling.Found(places, scores, true[None] > 0, neither[None], np.array(objects))


def curves(truth: dict, image_ids: list, rows: list[dict], settings: dict) -> dict:
    """The mean over all classes with objects of the best precision at recalls 0, 0.01 … 1 or more."""
    ground_truth = objects_of(truth, image_ids, settings)
    files = comp4(ground_truth, with_text_ids(rows), settings)
    pairs = [precision_recall(ground_truth, name, lines, settings["iou_threshold"]) for name, lines in files.items()]
    points = np.arange(101) / 100
    known = [pair for pair in pairs if not np.isnan(pair[1]).any()]
    lines = [[precision[recall >= least].max(initial=0) for least in points] for precision, recall in known]
    mean = np.mean(lines, axis=0).tolist() if lines else [0.0] * len(points)
    return {"voc": {"iou": [settings["iou_threshold"]], "precision": [mean]}}


def eleven_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """Mean over the recalls 0, 0.1, ... 1 of the best precision at that recall or more."""
    return float(sum(precision[recall >= least].max(initial=0) / len(RECALLS) for least in RECALLS))


def area_under(precision: np.ndarray, recall: np.ndarray) -> float | None:
    """Area under the curve whose precision is the best at that recall or more."""
    if np.isnan(recall).any():
        return None
    recall = np.concatenate([[0], recall, [1]])
    precision = np.concatenate([[0], precision, [0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall)
    return float((steps * envelope[1:])[steps != 0].sum())


def with_mean(figures: dict[str, float | None]) -> dict:
    """The figures of all classes after their plain mean."""
    undefined = None in figures.values()
    return {"mAP": None if undefined else float(np.mean(list(figures.values()))), "per_class": figures}
