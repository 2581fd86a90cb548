"""Decoding in plain loops over Python's floats: what the vectorised decoders are compared with."""

import math


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def iou(a: list[float], b: list[float], plus: float = 0) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + plus, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + plus, 0)
    union = sum((x[2] - x[0] + plus) * (x[3] - x[1] + plus) for x in (a, b)) - width * height
    return width * height / union if union > 0 else 0.0


def nms(found: list[tuple], threshold: float, agnostic: bool = False, plus: float = 0) -> list[tuple]:
    """Of (score, label, box) those that no better one of their label covers, best first."""
    kept: list[tuple] = []
    for one in sorted(found, key=lambda one: -one[0]):
        rivals = [other for other in kept if agnostic or other[1] == one[1]]
        if all(iou(one[2], other[2], plus) <= threshold for other in rivals):
            kept.append(one)
    return kept


def in_image(box: list[float], image: dict) -> list[float]:
    """A box of the canvas in the original image, clipped."""
    scale = image["scale"] if isinstance(image["scale"], list) else [image["scale"]] * 2
    x1, y1, x2, y2 = (
        min(max((value - image.get(before, 0)) / scale[axis], 0), image[side])
        for value, before, axis, side in zip(
            box, ("left", "top") * 2, (0, 1, 0, 1), ("width", "height") * 2, strict=True
        )
    )
    return [x1, y1, x2 - x1, y2 - y1]


def same(rows: list[dict], expected: list[tuple], image: dict, categories: list, tolerance: float = 1e-3) -> None:
    """Assert that rows are those of (score, label, box of the canvas), in this order."""
    assert [row["category_id"] for row in rows] == [categories[label] for _, label, _ in expected]
    for row, (score, _, box) in zip(rows, expected, strict=True):
        assert math.isclose(row["score"], score, rel_tol=1e-5)
        assert all(abs(a - b) < tolerance for a, b in zip(row["bbox"], in_image(box, image), strict=True))
