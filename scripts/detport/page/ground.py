"""What detections are shown beside: the ground truth, or images alone; and what the classes are called."""

from collections.abc import Sequence
from typing import NamedTuple

from detport import analysis, decoders, metrics
from detport.metrics.coco import distinct_names

# The names of coco80, in its order, for images that bring no categories.
COCO = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
]  # fmt: skip


class Ground(NamedTuple):
    """Objects, if there is a ground truth, with the ids of the categories; and all that can be found."""

    truth: dict  # in COCO's form
    categories: list[dict]
    judged: bool  # whether detections can be judged by it

    @property
    def ids(self) -> list:
        return [category["id"] for category in self.categories]

    @property
    def classes(self) -> list[str]:
        return list(distinct_names(self.categories).values())


def of_truth(truth: dict, metric: dict) -> Ground:
    """The ground truth with the categories that a metric scores."""
    categories = metrics.load(metric["kind"]).categories(truth, metric)
    return Ground(analysis.in_categories(truth, categories), categories, True)


def alone(rows: Sequence[dict], metric: dict, declared: str | list) -> Ground:
    """The images of an index, without objects; `declared` are the categories of the model."""
    listed = [{"id": row["image_id"], "width": row["width"], "height": row["height"]} for row in rows]
    named = zip(decoders.CATEGORIES["coco80"], COCO, strict=True) if is_coco(declared) else ()
    truth = {"images": listed, "annotations": [], "categories": [{"id": i, "name": name} for i, name in named]}
    return with_others(of_truth(truth, metric)._replace(judged=False), declared)


def is_coco(declared: str | list) -> bool:
    return isinstance(declared, str) and declared.startswith("coco")


def with_others(ground: Ground, declared: str | list) -> Ground:
    """The same with the classes of a model that are no category, under their own names."""
    known = {*ground.ids, *(category["name"] for category in ground.categories)}
    own = dict.fromkeys(each for each in decoders.categories(declared) if each is not None and each not in known)
    return ground._replace(categories=[*ground.categories, *({"id": each, "name": str(each)} for each in own)])
