"""Masks of detections: prototypes mixed by coefficients, maps of the whole input, maps that fill their boxes."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detport import labelled, masks
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
    outputs = {
        "o": np.float32([[[0, 8, 32, 24, 0.5], [0] * 5]]),
        "a": np.ones((1, 2, 8, 8)),
        "b": np.zeros((1, 2, 8, 8)),
    }
    rules = RULES | {"masks": {"form": "canvas", "threshold": 0.5}}
    with pytest.raises(UsageError, match=r"decode\.masks: which of o .* are they\? Say it in decode\.tensors\.masks"):
        decode(outputs, IMAGE, **rules)
    (row,) = decode(outputs, IMAGE, **rules, tensors={"masks": "a"})
    assert pixels(row).all()


def test_padding_that_ends_inside_of_a_cell() -> None:
    """Cells of 4 pixels and padding of 2: the map is made twice as fine, so that the image begins with half a cell."""
    image = {"width": 12, "height": 8, "canvas": "16x16", "scale": 1.0, "left": 2, "top": 4}
    steps = np.tile(
        np.arange(4, dtype=np.float32), (4, 1)
    )  # 0 1 2 3 from left to right, in fine cells 0 .25 .75 1.25 ...
    found = masks.enlarge(steps, image)
    assert found.shape == (8, 12)
    fine = [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]  # of 2 pixels each; bilinear between them
    assert found[0].tolist() == pytest.approx(np.interp((np.arange(12) + 0.5) / 2 - 0.5, range(6), fine), abs=1e-6)


def test_an_image_that_goes_beyond_the_canvas_repeats_the_border() -> None:
    image = {"width": 24, "height": 8, "canvas": "8x16", "scale": 1.0, "left": -4}
    found = masks.enlarge(np.float32([[5, 0, 0, 7]] * 2), image)
    assert (found[0, :4].tolist(), found[0, -4:].tolist()) == ([5] * 4, [7] * 4)


def test_enlarging_is_bilinear_about_the_middle_of_cells() -> None:
    """As torch.nn.functional.interpolate without align_corners."""
    image = {"width": 4, "height": 2, "canvas": "2x2", "scale": [0.5, 1.0]}
    found = masks.enlarge(np.float32([[0, 1], [0, 1]]), image)
    assert found.tolist() == [[0, 0.25, 0.75, 1]] * 2


def test_maps_of_every_class_are_not_those_of_every_row(decode) -> None:
    """[N, C, S, S] would else give some other row's mask."""
    outputs = {"o": np.float32([[[0, 8, 32, 24, 0.5]] * 2]), "m": np.zeros((2, 3, 8, 8), np.float32)}
    with pytest.raises(UsageError, match=r"decode\.masks: the output \[2, 3, 8, 8\] has 6 maps for 2 rows"):
        decode(outputs, IMAGE, **RULES, masks={"form": "boxes", "threshold": 0.5})


def test_prototypes_behind_an_nms(decode) -> None:
    """YOLO26-seg: [1, N, 6 + P]."""
    rules = {"kind": "after_nms", "categories": [3], "masks": {"form": "prototypes", "threshold": 0.5}}
    outputs = {"o": np.float32([[[0, 8, 32, 24, 0.5, 0, 1, 0], [0] * 8]]), "p": prototypes()[None]}
    (row,) = decode(outputs, IMAGE, **rules, columns=["box", "score", "label", "coefficients"])
    assert pixels(row).sum(axis=0).tolist() == [4, 4, 4, 4, 0, 0, 0, 0]
    model = {"decode": rules | {"columns": ["box", "score", "label", 2], "tensors": {}, "background": "none"}}
    model["outputs"] = [{"name": name, "shape": list(x.shape), "dtype": "float32"} for name, x in outputs.items()]
    assert labelled.problem(model) == (
        ("decode", "columns"),
        "with masks of prototypes, must say which columns are coefficients",
    )
