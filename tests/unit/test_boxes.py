"""Boxes in NumPy: the way back to the original image."""

import numpy as np

from detport.boxes import clip_to_image, to_original


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
