"""One box in fractions of the image, and its score."""

import numpy as np

NEEDS = ("width", "height")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """One COCO result, if its score is enough."""
    x, y, width, height, score = outputs["box"][0].tolist()
    box = [x * image["width"], y * image["height"], width * image["width"], height * image["height"]]
    row = {"image_id": image["image_id"], "category_id": categories[0], "bbox": box, "score": score}
    return [row] if score >= options["least"] else []
