"""Where a detector is wrong: its errors by kind, what its scores are worth, what it takes for what."""

from detport.analysis import matching, scores, tide
from detport.metrics import load
from detport.metrics.coco import distinct_names

LIMIT = 100  # detections of an image, as COCO and TIDE count
DIGITS = 6  # of a figure in the file


def of(truth: dict, image_ids: list, rows: list[dict], settings: dict) -> dict:
    """The content of analysis.json, over exactly these images. `rows` have ids of the metric's categories."""
    metric = load(settings["kind"])
    categories = metric.categories(truth, settings)
    own = in_categories(truth, categories)
    ids = [category["id"] for category in categories]
    images = list(matching.images(own, image_ids, rows, LIMIT))
    found = tide.table(images, map(matching.match, images), ids)
    working = scores.working(found)
    least = working["score"] if working else 0.0
    errors = {"bbox": tide.gains(found)}
    if "segm" in settings.get("iou_types", ()):
        by_mask = (matching.match(image, "segm") for image in images)
        errors["segm"] = tide.gains(tide.table(images, by_mask, ids))
    return rounded(
        {
            "iou": matching.IOU,
            "curves": metric.curves(truth, image_ids, rows, settings),
            "errors": errors,
            "scores": scores.histogram(found),
            "calibration": scores.calibration(found),
            "working": working,
            "classes": scores.by_class(found, list(distinct_names(categories).values()), least),
            "confusion": scores.confusion(images, ids, least),
        }
    )


def in_categories(truth: dict, categories: list[dict]) -> dict:
    """The ground truth with the ids of these categories, which are those of the detections."""
    names = {category["id"]: category["name"] for category in truth["categories"]}
    known = {category["id"] for category in categories}
    by_name = {category["name"]: category["id"] for category in categories}

    def renamed(annotation: dict) -> dict:
        category = annotation["category_id"]
        return annotation if category in known else annotation | {"category_id": by_name[names[category]]}

    return truth | {"annotations": [renamed(annotation) for annotation in truth["annotations"]]}


def rounded(value: object) -> object:
    """Plain data with so many digits that the file stays small."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value
