"""Boxes in NumPy: the way back to the original image, suppression against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detport.boxes import clip_to_image, nms, soft_nms, to_original


def test_one_scale_and_no_padding() -> None:
    boxes = np.float32([[10, 20, 30, 40]])
    assert to_original(boxes, {"scale": 2.0}).tolist() == [[5, 10, 15, 20]]


def test_padding_before_the_image_is_taken_off_first() -> None:
    """A letterbox: 100 x 50 pixels, doubled, in the middle of 200 x 200."""
    image = {"scale": 2.0, "left": 0, "top": 50}
    assert to_original(np.float32([[0, 50, 200, 150]]), image).tolist() == [[0, 0, 100, 50]]


def test_a_stretched_image_has_two_scales() -> None:
    """Of any shape, as the boxes of every class of a roi are."""
    image = {"scale": [2.0, 0.5], "left": 1, "top": 2}
    assert to_original(np.float64([[[1, 2, 3, 4]], [[5, 2, 9, 3]]]), image).tolist() == [[[0, 0, 1, 4]], [[2, 0, 4, 2]]]


def test_the_division_is_in_the_precision_of_the_boxes() -> None:
    boxes = np.float32([[10.1, 20.3, 40.7, 80.9]])
    found = to_original(boxes, {"scale": 1.6})
    assert found.dtype == np.float32
    assert np.array_equal(found, boxes / np.float32(1.6))


def test_clipping_keeps_boxes_outside_without_area() -> None:
    boxes = np.float32([[-5, 10, 120, 60], [200, 70, 300, 90]])
    found = clip_to_image(boxes, {"width": 100, "height": 50})
    assert found.tolist() == [[0, 10, 100, 50], [100, 50, 100, 50]]


def iou(a: np.ndarray, b: np.ndarray, plus: float = 0) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + plus, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + plus, 0)
    union = sum((x[2] - x[0] + plus) * (x[3] - x[1] + plus) for x in (a, b)) - width * height
    return width * height / union if union > 0 else 0.0


def naive_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, threshold: float, plus: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable
        if all(labels[i] != labels[j] or iou(boxes[i], boxes[j], plus) <= threshold for j in kept):
            kept.append(i)
    return kept


def naive_soft_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, sigma: float, floor: float) -> list:
    left = dict(enumerate(scores.astype(float)))
    found = []
    while left:
        best = max(left, key=left.get)
        score = left.pop(best)
        if score < floor:
            break
        found.append((best, score))
        for i in left:
            if labels[i] == labels[best]:
                left[i] *= np.exp(-(iou(boxes[i], boxes[best]) ** 2) / sigma)
    return found


# Coordinates on a coarse grid, so that areas of zero, equal boxes and an overlap of exactly a half are frequent
crowds = st.lists(
    st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(0, 4)] * 2, st.integers(0, 2)), min_size=0, max_size=30
)


def arrays_of(crowd: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(crowd, np.float32).reshape(-1, 5)
    return np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]]), table[:, 4].astype(int)


@given(crowds, st.integers(1, 30), st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_nms_is_its_definition(crowd: list, limit: int, plus: int) -> None:
    """Scores with ties, which keep their order; a limit that is reached early or never."""
    boxes, labels = arrays_of(crowd)
    scores = np.float32([round(np.sin(i), 1) for i in range(len(boxes))])
    expected = naive_nms(boxes, scores, labels, 0.5, plus)
    assert nms(boxes, scores, labels, 0.5, limit, plus).tolist() == expected[:limit]
    assert nms(boxes, scores, labels, 0.5, None, plus).tolist() == expected


@given(crowds, st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_soft_nms_is_its_definition(crowd: list, limit: int) -> None:
    boxes, labels = arrays_of(crowd)
    scores = np.linspace(0.9, 0.01, len(boxes)).astype(np.float32)
    kept, new = soft_nms(boxes, scores, labels, 0.5, 0.001, limit)
    expected = naive_soft_nms(boxes, scores, labels, 0.5, 0.001)[:limit]
    assert np.allclose(new, [score for _, score in expected], atol=1e-6)
    own = dict(zip(kept.tolist(), new, strict=True))
    for box, score in expected:  # the order of equal new scores is free
        assert abs(own.get(box, score) - score) < 1e-5


def test_soft_nms_ends_at_a_score_of_zero() -> None:
    """Without a floor nothing is found twice, and what never had a score is not found at all."""
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    kept, scores = soft_nms(boxes, np.float32([0.5, 0.4, 0]), np.zeros(3, int), 0.5, 0, None)
    assert kept.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([0.5, 0.4 * np.exp(-1 / 0.5)])
