"""What the words of the yaml make of an image, against the published preprocessing of each family, step by step.

Every reference below is written from the family's own code, apart from ours: plain, one operation after the other.
"""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import words
from detport import inputs, placing, tensors

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


GREY_LEVELS = {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]}  # of BGR


SIZES = [(64, 48), (48, 64), (50, 37), (37, 50), (150, 99), (99, 151), (40, 40), (96, 33), (300, 20)]


def made(pixels: np.ndarray, *arguments, **more) -> tuple[np.ndarray, dict]:
    return tensors.to_tensor(pixels, words.model(*arguments, **more))


def same(found: np.ndarray, expected: np.ndarray, rtol: float = 0) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


def chw(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)


def letterbox(image: np.ndarray, side: int, scaleup: bool) -> tuple[np.ndarray, float, int, int]:
    """Ultralytics' LetterBox with auto=False: the image, its gain, left and top."""
    height, width = image.shape[:2]
    gain = min(side / height, side / width)
    if not scaleup:
        gain = min(gain, 1.0)
    new = round(width * gain), round(height * gain)
    dw, dh = (side - new[0]) / 2, (side - new[1]) / 2
    if (width, height) != new:
        image = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    top, bottom, left, right = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    grey = (114, 114, 114)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey), gain, left, top


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scaleup", [True, False])
def test_ultralytics_letterbox(size, scaleup):
    image = words.picture(*size)
    boxed, gain, left, top = letterbox(image[..., ::-1].copy(), 64, scaleup)
    expected = chw(boxed[..., ::-1]) / np.float32(255)
    resize = {"rounding": "even", "enlarge": scaleup}
    found, placement = made(image, (64, 64), resize, {"place": "centre", "divide_by": 255, "fill": 114})
    same(found, expected)
    assert (placement["scale"], placement["left"], placement["top"]) == (gain, left, top)


def rect(image: np.ndarray, side: int, stride: int) -> tuple[np.ndarray, int, int]:
    """YOLOv5's validation, batches of one: the longer side to `side`, then a canvas of whole strides and half more."""
    height, width = image.shape[:2]
    gain = side / max(height, width)
    if gain != 1:
        kind = cv2.INTER_LINEAR if gain > 1 else cv2.INTER_AREA
        image = cv2.resize(image, (math.ceil(width * gain), math.ceil(height * gain)), interpolation=kind)
    ratio = height / width
    shape = np.array([ratio, 1] if ratio < 1 else [1, 1 / ratio])
    canvas_h, canvas_w = np.ceil(shape * side / stride + 0.5).astype(int) * stride
    dw, dh = (canvas_w - image.shape[1]) / 2, (canvas_h - image.shape[0]) / 2
    top, bottom, left, right = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114,) * 3), left, top


@pytest.mark.parametrize("size", SIZES)
def test_ultralytics_rect_validation(size):
    image = words.picture(*size)
    boxed, left, top = rect(image[..., ::-1].copy(), 64, 32)
    resize = {"rounding": "up", "long_side": 64, "interpolation": "area"}
    preprocess = {"place": "centre", "divide_by": 255, "fill": 114}
    found, placement = made(image, (96, 96), resize, preprocess, multiple=32, margin=16)
    same(found, chw(boxed[..., ::-1]) / np.float32(255))
    assert (placement["left"], placement["top"]) == (left, top)
    assert placement["size"] == list(boxed.shape[1::-1])


@pytest.mark.parametrize("size", SIZES)
def test_yolox(size):
    image = words.picture(*size)
    padded = np.full((64, 64, 3), 114, np.uint8)
    ratio = min(64 / size[1], 64 / size[0])
    new_w, new_h = int(size[0] * ratio), int(size[1] * ratio)
    padded[:new_h, :new_w] = cv2.resize(image[..., ::-1].copy(), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    found, placement = made(image, (64, 64), {}, {"channels": "BGR", "fill": 114})
    same(found, chw(padded))
    assert (placement["scale"], placement["left"], placement["top"]) == (ratio, 0, 0)


def mmcv_normalised(image: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    image = image.astype(np.float32)
    cv2.subtract(image, np.float64([mean]), image)
    cv2.multiply(image, 1 / np.float64([std]), image)
    return image


@pytest.mark.parametrize("size", SIZES)
def test_mmdetection(size):
    """Resize(scale=(133, 80), keep_ratio=True), Normalize, Pad(size_divisor=32)."""
    image = words.picture(*size)
    width, height = size
    scale = min(133 / max(size), 80 / min(size))
    new_w, new_h = int(width * scale + 0.5), int(height * scale + 0.5)
    small = mmcv_normalised(cv2.resize(image[..., ::-1].copy(), (new_w, new_h)), *GREY_LEVELS.values())
    padded = np.zeros((math.ceil(new_h / 32) * 32, math.ceil(new_w / 32) * 32, 3), np.float32)
    padded[:new_h, :new_w] = small
    resize = {"rule": "short_side", "size": 80, "long_side": 133, "rounding": "nearest", "by": "sides"}
    found, placement = made(
        image, (160, 160), resize | {"scale": "sides"}, {"channels": "BGR"} | GREY_LEVELS, multiple=32
    )
    same(found, chw(padded), 1e-5)
    assert placement["resized"] == [new_w, new_h]
    assert np.broadcast_to(placement["scale"], 2).tolist() == [new_w / width, new_h / height]


@pytest.mark.parametrize("size", SIZES)
def test_rtmdet(size):
    """Padded with 114 before the normalisation."""
    image = words.picture(*size)
    scale = min(64 / max(size), 64 / min(size))
    new_w, new_h = (int(side * scale + 0.5) for side in size)
    padded = np.full((64, 64, 3), 114, np.uint8)
    padded[:new_h, :new_w] = cv2.resize(image[..., ::-1].copy(), (new_w, new_h))
    preprocess = {"channels": "BGR", "fill": 114} | GREY_LEVELS
    found, _ = made(image, (64, 64), {"rounding": "nearest"}, preprocess)
    same(found, chw(mmcv_normalised(padded, *GREY_LEVELS.values())), 1e-5)


def nanodet_matrix(raw: tuple[int, int], wanted: tuple[int, int], keep_ratio: bool) -> np.ndarray:
    r_w, r_h = raw
    d_w, d_h = wanted
    scale = np.eye(3)
    if not keep_ratio:
        scale[0, 0], scale[1, 1] = d_w / r_w, d_h / r_h
        return scale
    to_origin, to_middle = np.eye(3), np.eye(3)
    to_origin[:2, 2] = -r_w / 2, -r_h / 2
    scale[0, 0] = scale[1, 1] = d_h / r_h if r_w / r_h < d_w / d_h else d_w / r_w
    to_middle[:2, 2] = 0.5 * d_w, 0.5 * d_h
    return to_middle @ scale @ to_origin


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep_ratio", [False, True])
def test_nanodet_warps_once(size, keep_ratio):
    image = words.picture(*size)
    matrix = nanodet_matrix(size, (64, 48), keep_ratio)
    warped = cv2.warpPerspective(image[..., ::-1].copy(), matrix, dsize=(64, 48))
    expected = (warped.astype(np.float32) - np.float32(GREY_LEVELS["mean"])) / np.float32(GREY_LEVELS["std"])
    resize = {"rule": "fit" if keep_ratio else "stretch", "by": "warp_perspective"}
    preprocess = {"channels": "BGR", "fill": 0, "place": "centre"} | GREY_LEVELS
    found, placement = made(image, (64, 48), resize, preprocess)
    same(found, chw(expected), 1e-5)
    corners = np.array([[0, 0, 1], [*size, 1]]) @ matrix.T
    back = (corners[:, :2] - [placement["left"], placement["top"]]) / np.broadcast_to(placement["scale"], 2)
    np.testing.assert_allclose(back, [[0, 0], size], atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_centernet(size):
    """cv2.getAffineTransform of three points, which are float32, gives the same matrix up to its rounding."""
    image = words.picture(*size)
    middle, longest = np.array(size, np.float32) / 2, max(size)
    source = middle + np.float32([[0, 0], [0, -0.5 * longest], [-0.5 * longest, -0.5 * longest]])
    aim = np.float32([[32, 32], [32, 0], [0, 0]])
    warped = cv2.warpAffine(image[..., ::-1].copy(), cv2.getAffineTransform(source, aim), (64, 64))
    mean, std = np.float32([0.408, 0.447, 0.470]), np.float32([0.289, 0.274, 0.278])
    expected = chw(((warped / 255.0 - mean) / std).astype(np.float32))
    preprocess = {"channels": "BGR", "fill": 0, "place": "centre", "divide_by": 255}
    preprocess |= {"mean": mean.tolist(), "std": std.tolist()}
    found, placement = made(image, (64, 64), {"by": "warp_affine"}, preprocess)
    level = 1 / 255 / 0.274
    assert np.abs(found - expected).max() <= 1.01 * level and np.abs(found - expected).mean() < 0.01 * level
    assert placement["scale"] == 64 / longest
    assert (placement["left"], placement["top"]) == tuple(32 - side * 64 / longest / 2 for side in size)


@pytest.mark.parametrize("size", SIZES)
def test_rtdetr(size):
    """PIL's Resize to the square, / 255 without mean; the original's size is an input."""
    image = words.picture(*size)
    small = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    more = [{"name": "orig_target_sizes", "dtype": "int64", "values": ["image_width", "image_height"]}]
    model = words.model((64, 64), {"rule": "stretch", "library": "pillow"}, {"divide_by": 255}, more=more)
    found, placement = tensors.to_tensor(image, model)
    same(found, chw(small) / np.float32(255))
    assert np.broadcast_to(placement["scale"], 2).tolist() == [64 / size[0], 64 / size[1]]
    (fed,) = inputs.derived(model["input"], placement).values()
    same(fed, np.array([size]))


@pytest.mark.parametrize("size", SIZES)
def test_rfdetr_and_other_imagenet_models(size):
    image = words.picture(*size)
    small = torch.from_numpy(np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)).copy())
    expected = small.permute(2, 0, 1).to(torch.float32).div(255)
    expected = expected.sub(torch.tensor(IMAGENET["mean"])[:, None, None])
    expected = expected.div(torch.tensor(IMAGENET["std"])[:, None, None])
    resize = {"rule": "stretch", "library": "pillow", "interpolation": "cubic"}
    found, _ = made(image, (64, 64), resize, {"divide_by": 255} | IMAGENET)
    same(found, expected.numpy())


@pytest.mark.parametrize("size", SIZES)
def test_ssd(size):
    """ssd.pytorch: BGR resized to the square, minus the mean, and only then turned to RGB."""
    image = words.picture(*size)
    x = cv2.resize(image[..., ::-1].copy(), (30, 30)).astype(np.float32)
    x -= (104, 117, 123)
    found, _ = made(image, (30, 30), {"rule": "stretch"}, {"mean": [123, 117, 104]})
    same(found, chw(x[:, :, (2, 1, 0)]))


def detectron2_sides(width: int, height: int, short: int, long: int) -> tuple[int, int]:
    scale = short * 1.0 / min(height, width)
    new_h, new_w = (short, scale * width) if height < width else (scale * height, short)
    if max(new_h, new_w) > long:
        scale = long * 1.0 / max(new_h, new_w)
        new_h, new_w = new_h * scale, new_w * scale
    return int(new_w + 0.5), int(new_h + 0.5)


@pytest.mark.parametrize("size", SIZES)
def test_detectron2(size):
    """ResizeShortestEdge by Pillow, normalised, padded with zeros to multiples of 32."""
    image = words.picture(*size)
    new = detectron2_sides(*size, 80, 133)
    small = np.asarray(Image.fromarray(image[..., ::-1].copy()).resize(new, Image.Resampling.BILINEAR))
    normalised = (chw(small) - np.float32([[[103.53]], [[116.28]], [[123.675]]])) / np.float32(1)
    padded = np.zeros((3, math.ceil(new[1] / 32) * 32, math.ceil(new[0] / 32) * 32), np.float32)
    padded[:, : new[1], : new[0]] = normalised
    resize = {"rule": "short_side", "size": 80, "long_side": 133, "rounding": "nearest", "library": "pillow"}
    preprocess = {"channels": "BGR", "mean": GREY_LEVELS["mean"]}
    found, placement = made(image, (160, 160), resize | {"scale": "sides"}, preprocess, multiple=32)
    same(found, padded)
    assert np.broadcast_to(placement["scale"], 2).tolist() == [new[0] / size[0], new[1] / size[1]]


def detr_sides(width: int, height: int, short: int, long: int) -> tuple[int, int]:
    smaller, larger = float(min(width, height)), float(max(width, height))
    if larger / smaller * short > long:
        short = round(long * smaller / larger)
    if min(width, height) == short:
        return width, height
    return (short, int(short * height / width)) if width < height else (int(short * width / height), short)


@pytest.mark.parametrize("size", SIZES)
def test_detr(size):
    image = words.picture(*size)
    new = detr_sides(*size, 80, 133)
    small = np.asarray(Image.fromarray(image).resize(new, Image.Resampling.BILINEAR))
    expected = (chw(small) / np.float32(255) - np.float32(IMAGENET["mean"])[:, None, None]) / np.float32(
        IMAGENET["std"]
    )[:, None, None]
    resize = {"rule": "short_side", "size": 80, "long_side": 133, "rounding": "short_first", "library": "pillow"}
    found, _ = made(image, (160, 160), resize, {"divide_by": 255} | IMAGENET, multiple=1)
    same(found, expected)


def test_sides_of_many_sizes():
    """Whole sides of published code; where a side is exactly a half, its order of operations may decide otherwise."""
    rng = np.random.default_rng(0)
    for width, height in rng.integers(1, 2000, (2000, 2)).tolist():
        scale = min(800 / min(width, height), 1333 / max(width, height))
        if (1333 * min(width, height) / max(width, height)) % 1 == 0.5:
            continue
        assert placing.sides(width, height, scale, "nearest") == detectron2_sides(width, height, 800, 1333)
        assert placing.sides(width, height, scale, "short_first") == detr_sides(width, height, 800, 1333)


@pytest.mark.parametrize("size", SIZES)
def test_torchvision(size):
    """GeneralizedRCNNTransform: normalised first, then interpolated, then padded with zeros."""
    image = words.picture(*size)
    tensor = torch.from_numpy(chw(image)) / 255
    tensor = (tensor - torch.tensor(IMAGENET["mean"])[:, None, None]) / torch.tensor(IMAGENET["std"])[:, None, None]
    scale = min(80 / min(size), 133 / max(size))
    options = {"scale_factor": scale, "mode": "bilinear", "recompute_scale_factor": True, "align_corners": False}
    small = torch.nn.functional.interpolate(tensor[None], **options)[0].numpy()
    new_h, new_w = small.shape[1:]
    padded = np.zeros((3, math.ceil(new_h / 32) * 32, math.ceil(new_w / 32) * 32), np.float32)
    padded[:, :new_h, :new_w] = small
    resize = {"rule": "short_side", "size": 80, "long_side": 133, "by": "sides", "scale": "sides"}
    preprocess = {"divide_by": 255, "normalise": "before_resize"} | IMAGENET
    found, placement = made(image, (160, 160), resize, preprocess, multiple=32)
    same(found, padded, 1e-4)
    assert np.broadcast_to(placement["scale"], 2).tolist() == [new_w / size[0], new_h / size[1]]


@pytest.mark.parametrize("size", SIZES)
def test_yolo_nas(size):
    """The longer side to 60 of 64, padded all around."""
    image = words.picture(*size)
    scale = min(60 / size[1], 60 / size[0])
    new_w, new_h = round(size[0] * scale), round(size[1] * scale)
    small = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    top, left = (64 - new_h) // 2, (64 - new_w) // 2
    padded = np.pad(
        small, ((top, 64 - new_h - top), (left, 64 - new_w - left), (0, 0)), "constant", constant_values=114
    )
    preprocess = {"place": "centre", "fill": 114}
    found, placement = made(image, (64, 64), {"rounding": "even", "long_side": 60}, preprocess, dtype="uint8")
    same(found, padded.transpose(2, 0, 1))
    assert (placement["left"], placement["top"]) == (left, top)


@pytest.mark.parametrize("size", SIZES)
def test_paddle_stretches_by_its_two_factors(size):
    image = words.picture(*size)
    x, y = 64 / float(size[0]), 48 / float(size[1])
    small = cv2.resize(image, None, None, fx=x, fy=y, interpolation=cv2.INTER_CUBIC)
    more = [{"name": "scale_factor", "dtype": "float32", "values": ["scale_y", "scale_x"]}]
    more += [{"name": "im_shape", "dtype": "float32", "values": ["resized_height", "resized_width"]}]
    resize = {"rule": "stretch", "interpolation": "cubic"}
    model = words.model((64, 48), resize, {"divide_by": 255} | IMAGENET, more=more)
    found, placement = tensors.to_tensor(image, model)
    mean, std = (np.float32(IMAGENET[key])[:, None, None] for key in ("mean", "std"))
    same(found, (chw(small) / np.float32(255) - mean) / std)
    scale_factor, im_shape = inputs.derived(model["input"], placement).values()
    same(scale_factor, np.float32([[y, x]]))
    same(im_shape, np.float32([[48, 64]]))


@pytest.mark.parametrize("size", SIZES)
def test_paddle_keeps_the_ratio_by_one_factor(size):
    """Resize(target_size=[80, 133], keep_ratio=True) and PadStride(32)."""
    image = words.picture(*size)
    scale = 80.0 / min(size)
    if np.round(scale * max(size)) > 133:
        scale = 133.0 / max(size)
    small = cv2.resize(image, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    new_h, new_w = small.shape[:2]
    padded = np.zeros((3, math.ceil(new_h / 32) * 32, math.ceil(new_w / 32) * 32), np.float32)
    padded[:, :new_h, :new_w] = chw(small)
    found, placement = made(image, (160, 160), {"rule": "short_side", "size": 80, "long_side": 133}, multiple=32)
    same(found, padded)
    assert placement["scale"] == scale


@pytest.mark.parametrize("size", SIZES)
def test_yolov3_of_the_onnx_zoo(size):
    image = words.picture(*size)
    scale = min(64 / size[0], 48 / size[1])
    new_w, new_h = int(size[0] * scale), int(size[1] * scale)
    canvas = Image.new("RGB", (64, 48), (128, 128, 128))
    left, top = (64 - new_w) // 2, (48 - new_h) // 2
    canvas.paste(Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BICUBIC), (left, top))
    resize = {"library": "pillow", "interpolation": "cubic"}
    preprocess = {"place": "centre", "fill": 128, "divide_by": 255}
    found, placement = made(image, (64, 48), resize, preprocess)
    same(found, chw(np.asarray(canvas)) / np.float32(255))
    assert (placement["left"], placement["top"]) == (left, top)


def test_tensorflow_takes_the_image_as_it_is():
    image = words.picture(50, 37)
    found, placement = made(image, (64, 64), {"rule": "keep"}, dtype="uint8", layout="NHWC", multiple=1)
    same(found, image)
    assert (placement["scale"], placement["size"], placement["pad"]) == (1.0, [50, 37], [0, 0])


@pytest.mark.parametrize("size", SIZES)
def test_a_crop_of_the_middle(size):
    """torchvision's Resize by the shorter side and CenterCrop, on whole factors."""
    image = words.picture(*size)
    new = detr_sides(*size, 32, 10**9)
    small = np.asarray(Image.fromarray(image).resize(new, Image.Resampling.BILINEAR))
    top, left = round((new[1] - 32) / 2.0), round((new[0] - 32) / 2.0)
    resize = {"rule": "short_side", "size": 32, "rounding": "short_first", "library": "pillow", "too_large": "crop"}
    found, placement = made(image, (32, 32), resize, {"place": "centre"})
    same(found, chw(small[top : top + 32, left : left + 32]))
    assert (placement["left"], placement["top"]) == (-left, -top)
    assert placement["pad"] == [32 - new[0] + left, 32 - new[1] + top]
