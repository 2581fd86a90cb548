"""Masks of detections: prototypes mixed by coefficients, maps of the whole input, maps that fill their boxes."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detport import masks
from detport.errors import UsageError

# 8 x 4 pixels enlarged by 4, in the middle of a canvas of 32 x 32; maps have a cell for 4 x 4 pixels of it
IMAGE = {"image_id": 7, "file": "a.jpg", "width": 8, "height": 4, "canvas": "32x32", "scale": 4.0, "top": 8}
RULES = {"kind": "dense", "categories": [3], "box": "xyxy", "objectness": False, "score_above": 0.1, "nms": "none"}


def pixels(row: dict) -> np.ndarray:
    return coco_mask.decode(row["segmentation"])


def prototypes() -> np.ndarray:
    """Two maps [8, 8]: the left half of the canvas, and the row of cells at the image's upper border."""
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, :, :4] = 1
    maps[1, 2] = 1
    return maps


def test_prototypes_are_mixed_enlarged_and_cut_at_the_box(decode) -> None:
    """YOLO-seg: output0 [1, 4 + C + P, N], output1 [1, P, H / 4, W / 4]; the image is rows 2 to 5 of the maps."""
    table = np.float32([[4, 8, 28, 20, 0.75, 1, 0], [0, 8, 32, 24, 0.5, 1, 3]])  # box, score, coefficients
    rules = RULES | {"masks": {"form": "prototypes", "threshold": 0.5}}
    left, both = decode({"output0": table.T[None], "output1": prototypes()[None]}, IMAGE, **rules)
    expected = np.zeros((4, 8), np.uint8)
    expected[:3, 1:4] = 1  # x 1 to 7 and y 0 to 3 in the image, of which the left half
    assert np.array_equal(pixels(left), expected)
    expected = np.zeros((4, 8), np.uint8)
    expected[:, :4] = expected[0] = 1
    assert np.array_equal(pixels(both), expected)


def test_maps_of_the_whole_input(decode) -> None:
    """RF-DETR: a low map of logits for each query; the row's own map is taken, not that of its rank."""
    table = np.float32([[0, 8, 32, 24, 0.5], [4, 8, 28, 20, 0.75]])
    rules = RULES | {"masks": {"form": "canvas", "activation": "sigmoid", "threshold": 0.5}}
    first, second = decode({"o": table[None], "masks": (prototypes()[None] - 0.5) * 20}, IMAGE, **rules)
    assert pixels(first).sum(axis=1).tolist() == [8, 0, 0, 0]  # not cut at its box
    assert pixels(second).sum(axis=0).tolist() == [4, 4, 4, 4, 0, 0, 0, 0]


def test_which_output_holds_masks_is_not_guessed(decode) -> None:
    outputs = {"o": np.float32([[[0, 8, 32, 24, 0.5]]]), "a": np.ones((1, 2, 8, 8)), "b": np.zeros((1, 2, 8, 8))}
    rules = RULES | {"masks": {"form": "canvas", "threshold": 0.5}}
    with pytest.raises(UsageError, match=r"decode\.masks: which of o .* are they\? Say it in decode\.tensors\.masks"):
        decode(outputs, IMAGE, **rules)
    (row,) = decode(outputs, IMAGE, **rules, tensors={"masks": "a"})
    assert pixels(row).all()


@pytest.mark.parametrize(
    ("cells", "before", "length", "expected"),
    [
        (160, 0, 640, (0, 160)),  # no padding
        (160, 106.5, 427, (27, 133)),  # 640 x 427: 26.6 cells above and below, rounded
        (160, 2, 636, (0, 159)),  # half a cell is given to the image before it, and taken behind it
        (160, 0, 300, (0, 75)),  # all padding behind the image
        (8, -4, 40, (0, 8)),  # an image that reaches beyond the canvas
    ],
)
def test_the_cells_that_an_image_covers(cells: int, before: float, length: float, expected: tuple) -> None:
    canvas = 640 if cells == 160 else 32
    found = masks.placed(cells, before, length, canvas)
    assert (found[0], found[-1] + 1) == expected


def test_enlarging_is_bilinear_about_the_middle_of_cells() -> None:
    """As torch.nn.functional.interpolate without align_corners."""
    image = {"width": 4, "height": 2, "canvas": "2x2", "scale": [0.5, 1.0]}
    found = masks.enlarge(np.float32([[0, 1], [0, 1]]), image)
    assert found.tolist() == [[0, 0.25, 0.75, 1]] * 2
