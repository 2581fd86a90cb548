"""The reference of the preprocessing: it agrees with what shards hold, and sees what is not as the yaml says."""

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

import words
from detport import config, inputs, tensors
from detport.errors import UsageError
from detport.parity import preprocessed, reference
from detport.report import ladder

ALLOWED = config.load(config.ROOT / "config/models/retinamask.yaml", "model")["parity"]["levels"]
SIZES = [(37, 50), (150, 99), (90, 6)]
BGR = {"channels": "BGR", "mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]}


def complaints(pixels: np.ndarray, told: dict, made_by: dict | None = None) -> list[str]:
    """What is said of pixels that one yaml preprocessed and another one, or the same, describes."""
    model = made_by or told
    if model["input"].get("on_device"):
        tensor, _ = tensors.to_pixels(pixels, model)
    else:
        tensor, _ = tensors.to_tensor(pixels, model)
    tensor = tensor.reshape(inputs.shape(model["input"], inputs.fed_form(model["input"])[1], None))
    found = preprocessed.difference(tensor, pixels.astype(np.float64), told)
    return list(ladder.levels_beyond({"levels": found, "file": "it.jpg"}, ALLOWED))


@pytest.mark.parametrize("by", [None, "sides", "factor", "warp_affine", "warp_perspective"])
@pytest.mark.parametrize("kind", ["linear", "cubic", "area", "nearest", "lanczos"])
@pytest.mark.parametrize("library", ["opencv", "pillow"])
def test_every_way_to_resize(library, kind, by):
    tried = 0
    for rule, place, early in itertools.product(
        ("fit", "short_side", "stretch", "keep"), ("top_left", "centre"), ("after_resize", "before_resize")
    ):
        resize = {"library": library, "interpolation": kind, "rule": rule, "by": by}
        resize |= {"size": 50, "too_large": "crop"} if rule == "short_side" else {}
        fill = {"fill": [1, 20, 200]} if "warp" in str(by) else {}
        try:
            model = words.model((64, 60), resize, BGR | fill | {"place": place, "normalise": early})
        except UsageError:  # these words do not go together
            continue
        if reference.unknown(model):
            assert kind in ("nearest", "lanczos") and "warp" in by
            return
        for i, (width, height) in enumerate(SIZES):
            noise = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
            assert complaints(noise, model) == [], (rule, place, early, width, height)
            tried += 1
    assert tried or (library == "pillow" and by not in (None, "sides"))


FORMS = {
    "uint8 NHWC": (
        {"dtype": "uint8", "layout": "NHWC"},
        {"mean": [0, 0, 0], "std": [1, 1, 1], "channels": "RGB", "fill": 114},
    ),
    "float16 HWC": ({"dtype": "float16", "layout": "HWC"}, {"divide_by": 255, "mean": [0.4] * 3, "std": [0.2] * 3}),
    "grey": ({"channels": 1}, {"channels": "grey", "mean": [120], "std": [60]}),
    "grey by pillow": ({"channels": 1}, {"channels": "grey", "mean": [120], "std": [60], "decoder": "pillow"}),
    "pixels for a device": ({"on_device": True}, {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_input(name):
    size, more = FORMS[name]
    model = words.model(
        (64, 64), {"rounding": "even"}, BGR | {"decoder": "opencv"} | more | {"place": "centre"}, **size
    )
    assert complaints(words.picture(150, 99), model) == []


@pytest.mark.parametrize("rounding", ["down", "nearest", "even", "up", "short_first"])
@pytest.mark.parametrize("size", [(131, 77), (77, 131), (63, 21)])
def test_every_rounding_with_a_tensor_of_its_own_size(rounding, size):
    resize = {"rule": "short_side", "size": 40, "long_side": 60, "by": "sides", "rounding": rounding}
    model = words.model((96, 96), resize, BGR, multiple=32, margin=4)
    pixels = words.picture(*size)
    tensor, _ = tensors.to_tensor(pixels, model)
    found = preprocessed.difference(tensor[None], pixels.astype(np.float64), model)
    assert list(ladder.levels_beyond({"levels": found, "file": ""}, ALLOWED)) == []


WRONG = {
    "wrong mean": ({"mean": [102.53, 116.28, 123.675]}, "over a channel"),
    "means exchanged": ({"mean": BGR["mean"][::-1]}, "over a channel"),
    "red and blue exchanged": ({"channels": "RGB"}, "grey levels off ('it.jpg')"),
    "wrong padding": ({"fill": [104, 116, 125]}, "around the image"),
    "wrong place": ({"place": "centre"}, "grey levels off ('it.jpg')"),
    "wrong std": ({"std": [57.375, 57.12, 62]}, "grey levels off ('it.jpg')"),
    "another filter": ({"resize": {"library": "opencv", "rule": "fit", "interpolation": "cubic"}}, "'it.jpg'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_as_the_yaml_says_is_seen(name):
    change, expected = WRONG[name]
    told = words.model((64, 64), {}, BGR | {"fill": [104, 116, 124]})
    made = words.model((64, 64), change.get("resize", {}), BGR | {"fill": [104, 116, 124]} | change)
    pixels = words.picture(150, 99)
    assert complaints(pixels, told) == []
    assert any(expected in each for each in complaints(pixels, told, made))


@pytest.mark.parametrize("shift", [0.5, -0.5])
def test_half_a_pixel_is_seen(shift, monkeypatch):
    """As a library does that takes the corners of pixels for their centres."""
    model, pixels = words.model((64, 64), {}, BGR), words.picture(150, 99)

    def shifted(image: np.ndarray, size: tuple[int, int], **_) -> np.ndarray:
        scale = size[0] / image.shape[1]
        matrix = np.array([[scale, 0, shift], [0, scale, shift]])
        return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    monkeypatch.setattr(cv2, "resize", shifted)
    assert any("'it.jpg'" in each for each in complaints(pixels, model))


def test_decoding_is_each_librarys_own(tmp_path):
    """Of a picture that its EXIF turns, and of one with 16 bits."""
    pixels = words.picture(20, 10)
    turned = Image.Exif()
    turned[0x0112] = 6  # to the right
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned)
    assert (reference.decoded(tmp_path / "turned.png", "pillow") == pixels).all()
    assert (reference.decoded(tmp_path / "turned.png", "opencv") == np.rot90(pixels, -1)).all()
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert (reference.decoded(tmp_path / "deep.png", "pillow") == pixels[..., :1]).all()
