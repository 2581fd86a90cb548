"""How many boxes an image has."""

SECOND_EVALUATOR = None


def check(truth: dict, image_ids: list, categories: list, settings: dict) -> list[str]:
    return []


def categories(truth: dict, settings: dict) -> list[dict]:
    return truth["categories"]


def counted(truth: dict, image_ids: list, settings: dict) -> list:
    return image_ids


def which_images(settings: dict) -> str:
    return "all"


def evaluate(truth: dict, image_ids: list, rows: list[dict], settings: dict, cross_check: bool) -> dict:
    mean = len(rows) / len(image_ids)
    return {"boxes": {"mean": mean, "times": mean * settings["factor"], "per_class": {}}}


def notes(accuracy: dict, settings: dict) -> list[str]:
    return []


def evaluators(cross_checked: bool) -> str:
    return "counted"
