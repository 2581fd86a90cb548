"""What single words of input and preprocess do, and which do not go together."""

import re

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

import words
from detport import config, inputs, tensors
from detport.errors import UsageError


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHW", "HWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_layouts_and_types(layout, dtype):
    pixels = words.picture(40, 20)
    own = words.model((40, 30), {}, {"fill": [1, 2, 3]}, dtype=dtype, layout=layout)
    found, _ = tensors.to_tensor(pixels, own)
    expected = np.full((30, 40, 3), [1, 2, 3], dtype)
    expected[:20] = pixels
    expected = expected.transpose(2, 0, 1) if "CHW" in layout else expected
    assert found.flags["C_CONTIGUOUS"] and found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    assert inputs.image_bytes(own["input"]) == found.nbytes


@pytest.mark.parametrize("decoder", ["opencv", "pillow"])
def test_grey(decoder):
    pixels = words.picture(40, 30)
    preprocess = {"channels": "grey", "decoder": decoder, "mean": [100], "std": [2]}
    found, _ = tensors.to_tensor(pixels, words.model((40, 30), {}, preprocess, channels=1))
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert found.shape == (1, 30, 40)
    assert np.abs(found[0] * 2 + 100 - luma).max() < 1


def test_normalising_grey_before_the_resize():
    preprocess = {"channels": "grey", "mean": [100], "std": [2], "normalise": "before_resize"}
    found, _ = tensors.to_tensor(np.full((15, 20, 3), 104, np.uint8), words.model((40, 30), {}, preprocess, channels=1))
    np.testing.assert_array_equal(found, np.full((1, 30, 40), 2, np.float32))


def test_one_pixel_wide_images_keep_their_channels():
    own = words.model((40, 30), {"rule": "keep"}, {"normalise": "before_resize", "mean": [1, 2, 3]})
    found, _ = tensors.to_tensor(np.full((1, 1, 3), 9, np.uint8), own)
    assert found[:, 0, 0].tolist() == [8, 7, 6]


@pytest.mark.parametrize(("how", "resized", "scale"), [("fit", [40, 20], 0.5), ("crop", [80, 40], 1.0)])
def test_keep_and_an_image_that_is_too_large(how, resized, scale):
    pixels = words.picture(80, 40)
    found, placement = tensors.to_tensor(pixels, words.model((40, 30), {"rule": "keep", "too_large": how}))
    assert (placement["resized"], placement["scale"], placement["too_large"]) == (resized, scale, how)
    if how == "crop":
        np.testing.assert_array_equal(found, pixels[:30, :40].transpose(2, 0, 1))


def test_a_warp_blends_the_border_with_the_fill():
    """A white image that ends between pixels: the pixel at its edge is part white, part fill."""
    own = words.model((40, 30), {"by": "warp_affine", "rule": "keep"}, {"place": "centre", "fill": [0, 100, 255]})
    found, placement = tensors.to_tensor(np.full((30, 9, 3), 255, np.uint8), own)
    assert placement["left"] == 15.5
    assert found[:, 15, 14].tolist() == [0, 100, 255]
    assert found[2].min() == 255
    assert 120 < found[0, 15, 15] < 135 and 170 < found[1, 15, 15] < 185


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"preprocess": {"channels": "grey"}}, "input.channels: preprocess.channels grey makes 1; correct one of them"),
        ({"preprocess": {"mean": [1, 2]}}, "preprocess.mean: has 2 numbers for 3 channels"),
        ({"preprocess": {"fill": [114]}}, "preprocess.fill: has 1 numbers for 3 channels"),
        ({"input": {"dtype": "uint8"}, "preprocess": {"divide_by": 255}}, "input.dtype: uint8 takes the pixels as"),
        ({"input": {"dtype": "uint8"}, "preprocess": {"normalise": "before_resize"}}, "input.dtype: uint8 cannot hold"),
        ({"resize": {"library": "pillow", "by": "factor"}}, "preprocess.resize.by: Pillow has no factor"),
        ({"resize": {"library": "pillow", "by": "warp_affine"}}, "preprocess.resize.by: Pillow has no warp_affine"),
        ({"resize": {"by": "warp_affine"}}, "preprocess.resize.by: a warp blends the border with a colour"),
        ({"resize": {"by": "factor", "rounding": "up"}}, "preprocess.resize.rounding: with by: factor OpenCV rounds"),
        ({"resize": {"rule": "stretch", "long_side": 9}}, "preprocess.resize.long_side: rule stretch has no use for"),
        ({"resize": {"rule": "keep", "enlarge": False}}, "preprocess.resize.enlarge: rule keep has no use for it"),
        ({"resize": {"rule": "keep", "size": 9}}, "preprocess.resize: not allowed (size belongs to rule short_side)"),
        ({"resize": {"rule": "fit", "too_large": "crop"}}, "preprocess.resize.too_large: rule fit has no use for it"),
        ({"input": {"margin": 16}}, "input.margin: belongs to input.multiple"),
        ({"input": {"multiple": 32}}, "input.height: is no multiple of 32; set it to 32 and limit resize.long_side"),
        ({"input": {"multiple": 10}, "resize": {"rule": "stretch"}}, "input.multiple: this resize always fills"),
        ({"input": {"on_device": True, "layout": "NHWC"}}, "input.layout: with on_device it must be NCHW"),
        ({"input": {"on_device": True}, "preprocess": {"divide_by": 255}}, "preprocess.divide_by: a device takes mean"),
        (
            {"input": {"more": [{"name": "image", "dtype": "int64", "values": [1]}]}},
            "input.more.0.name: image is there already",
        ),
        (
            {"input": {"more": [{"name": "x", "dtype": "int64", "values": ["scale_x"]}]}},
            "input.more.0.dtype: int64 cannot hold scale_x; set float32",
        ),
        (
            {"input": {"more": [{"name": "x", "dtype": "int64", "values": [1], "shape": [2]}]}},
            "input.more.0.shape: [2] does not hold 1 values",
        ),
        ({"input": {"more": [{"name": "x", "dtype": "int64", "values": ["image_size"]}]}}, "input.more.0.values.0"),
    ],
)
def test_words_that_do_not_go_together(change, expected):
    fill = {"fill": 0} if "fill" not in change.get("preprocess", {}) and "warp" not in expected else {}
    with pytest.raises(UsageError) as refusal:
        words.model((40, 30), change.get("resize", {}), fill | change.get("preprocess", {}), **change.get("input", {}))
    assert expected in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "  channels: RGB",
            "  place: centre\n  channels: RGB",
            "preprocess.place: decoder efficientdet knows only",
        ),
        (
            "rule: fit",
            "rule: stretch",
            "preprocess.resize.rule: decoder efficientdet knows only images",
        ),
        ("rule: fit", "rule: fit, scale: sides", "preprocess.resize.scale: decoder efficientdet knows only images"),
        (
            "name: x.1",
            "name: x.1\n  layout: NHWC",
            "input.layout: a network takes NCHW; other inputs are for models",
        ),
    ],
)
def test_words_that_a_decoder_or_a_network_does_not_know(tmp_path, old, new, expected):
    text = (config.ROOT / "config" / "models" / "efficientdet_d7.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "model.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as refusal:
        config.load(tmp_path / "model.yaml", "model")
    assert expected in str(refusal.value)


def test_a_checked_model_passes_again():
    own = words.model((40, 30), {"rule": "stretch", "by": "warp_affine"}, {"fill": 0, "place": "centre"})
    assert config.check(own, "model", "model.yaml") == own


def test_an_axis_that_the_shape_lacks():
    own = words.model((40, 30), {})
    own["outputs"][1]["varies"] = 1
    with pytest.raises(UsageError, match=r"outputs\.1\.varies: shape \[9\] has no axis 1"):
        config.check(own, "model", "model.yaml")


PAGE = (config.ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8")


DOCUMENTED = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])


@pytest.mark.parametrize("family", DOCUMENTED)
def test_the_words_of_the_page_go_together(family):
    sections = DOCUMENTED[family]
    preprocess = dict(sections["preprocess"])
    found = words.model((1344, 1344), preprocess.pop("resize"), preprocess, **sections.get("input", {}))
    assert tensors.to_tensor(words.picture(64, 48), found)[0].size


OPENCV = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
    "lanczos": cv2.INTER_LANCZOS4,
}


PILLOW = {"linear": "BILINEAR", "cubic": "BICUBIC", "nearest": "NEAREST", "lanczos": "LANCZOS", "area": "BOX"}


@pytest.mark.parametrize("size", [(64, 48), (150, 99), (20, 90)])
@pytest.mark.parametrize("kind", PILLOW)
def test_interpolations(size, kind):
    image = words.picture(*size)
    for library in ("opencv", "pillow"):
        resize = {"rule": "stretch", "library": library, "interpolation": kind}
        found, _ = tensors.to_tensor(image, words.model((40, 30), resize))
        if library == "pillow":
            expected = np.asarray(Image.fromarray(image).resize((40, 30), Image.Resampling[PILLOW[kind]]))
        else:  # area only shrinks
            own = OPENCV.get(kind, cv2.INTER_AREA if size[0] >= 40 and size[1] >= 30 else cv2.INTER_LINEAR)
            expected = cv2.resize(image, (40, 30), interpolation=own)
        np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))
