"""Decoding, placement and refusal of images."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

import preprocess
import words
from detport import config, images, placing, shards, tensors
from detport.errors import Failure

MODEL = words.model((96, 64), {"library": "pillow", "rule": "fit"})


def jpg(path: Path, width: int = 40, height: int = 30, **options) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=90, **options)
    return path


@pytest.mark.parametrize(
    ("size", "canvas", "expected"),
    [
        ((480, 360), (1344, 1344), (1344, 1007)),  # truncated, not rounded to 1008
        ((79, 40), (1344, 1344), (1343, 680)),  # even the long side loses a pixel in float64
        ((640, 480), (1216, 800), (1066, 800)),
        ((3000, 1), (1344, 1344), (1344, 1)),  # a side never becomes 0
    ],
)
def test_fit(size, canvas, expected):
    assert placing.fit(*size, *canvas)[:2] == expected


def test_tensor_is_top_left_and_padded_with_zeros(tmp_path):
    tensor, placement = tensors.preprocess(jpg(tmp_path / "a.jpg"), MODEL)
    assert tensor.shape == (3, 64, 96)
    assert tensor.flags["C_CONTIGUOUS"]
    assert placement["resized"] == [85, 64]
    assert placement["pad"] == [11, 0]
    assert not tensor[:, :, 85:].any()
    assert tensor[:, :, :85].any()


def test_fill_colour_comes_before_normalisation(tmp_path):
    model = MODEL | {"preprocess": MODEL["preprocess"] | {"fill": [9, 8, 7], "mean": [1, 1, 1]}}
    tensor, _ = tensors.preprocess(jpg(tmp_path / "a.jpg"), model)
    assert tensor[:, 0, -1].tolist() == [8, 7, 6]


def test_channel_order(tmp_path):
    path = jpg(tmp_path / "a.jpg")
    rgb, _ = tensors.preprocess(path, MODEL)
    bgr, _ = tensors.preprocess(path, MODEL | {"preprocess": MODEL["preprocess"] | {"channels": "BGR"}})
    np.testing.assert_array_equal(rgb, bgr[::-1])


def short_side(size: int, too_large: str) -> dict:
    resize = {"library": "opencv", "rule": "short_side", "size": size, "too_large": too_large}
    return words.model((96, 64), resize, {"normalise": "before_resize"})


def test_short_side(tmp_path):
    """40 x 30 with short side 60: the canvas of 96 x 64 holds 80 x 60."""
    tensor, placement = tensors.preprocess(jpg(tmp_path / "a.jpg"), short_side(60, "fit"))
    assert placement == {
        "width": 40,
        "height": 30,
        "canvas": "64x96",
        "resized": [80, 60],
        "scale": 2.0,
        "left": 0,
        "top": 0,
        "pad": [16, 4],
    }
    assert tensor[:, 59, 79].all() and not tensor[:, 60:].any() and not tensor[:, :, 80:].any()


def test_a_larger_image_than_the_canvas_is_made_to_fit(tmp_path):
    """61 x 30 with short side 60 would be 122 wide."""
    _, placement = tensors.preprocess(jpg(tmp_path / "a.jpg", 61, 30), short_side(60, "fit"))
    assert placement["resized"] == [96, 47]
    assert placement["scale"] == 96 / 61
    assert placement["pad"] == [0, 17]
    assert placement["too_large"] == "fit"


def test_or_cropped_on_request(tmp_path):
    path = jpg(tmp_path / "a.jpg", 61, 30)
    cropped, placement = tensors.preprocess(path, short_side(60, "crop"))
    assert placement["resized"] == [122, 60], "the size before the crop: that is what boxes are clipped to"
    assert (placement["scale"], placement["pad"], placement["too_large"]) == (2.0, [-26, 4], "crop")
    wider = {"input": MODEL["input"] | {"width": 128}}
    whole, _ = tensors.preprocess(path, short_side(60, "crop") | wider)
    np.testing.assert_array_equal(cropped, whole[:, :, :96])


def test_a_very_flat_image_keeps_a_pixel(tmp_path):
    _, placement = tensors.preprocess(jpg(tmp_path / "a.jpg", 300, 1), short_side(60, "fit"))
    assert placement["resized"] == [96, 1]


def test_a_very_flat_image_is_not_enlarged_without_end(tmp_path):
    """With its short side of 1 pixel enlarged to 600, and the rest cropped only then."""
    Image.new("RGB", (40_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(images.BadImage, match="is 40000x1 pixels, which the resize rule enlarges beyond"):
        tensors.preprocess(tmp_path / "a.png", short_side(600, "crop"))
    assert tensors.preprocess(tmp_path / "a.png", short_side(600, "fit"))[1]["resized"] == [96, 1]


def test_normalising_before_the_resize_does_not_round(tmp_path):
    before, _ = tensors.preprocess(jpg(tmp_path / "a.jpg"), short_side(60, "fit"))
    late = short_side(60, "fit")
    late["preprocess"]["normalise"] = "after_resize"
    after, _ = tensors.preprocess(tmp_path / "a.jpg", late)
    assert (after == np.round(after)).all()
    assert 0 < np.abs(before - after).max() < 1


@pytest.fixture
def lying(tmp_path) -> Path:
    """A file of 40x30 pixels whose EXIF turns it to 30x40."""
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    return jpg(tmp_path / "a.jpg", exif=exif)


def test_exif_orientation(lying):
    assert images.decode(lying, "pillow").shape[:2] == (30, 40)
    assert images.decode(lying, "opencv").shape[:2] == (40, 30)
    assert images.picture(lying, "opencv").turned
    images.check(lying, 40, 30)
    images.check(lying, 30, 40)
    with pytest.raises(images.BadImage, match="annotations say 41x30"):
        images.check(lying, 41, 30)


def test_a_decoder_that_does_not_turn_takes_the_stored_size_only(lying):
    assert images.decode(lying, "pillow", (40, 30)).shape[:2] == (30, 40)
    with pytest.raises(images.BadImage, match="is 40x30 pixels, the annotations say 30x40 as its EXIF turns it"):
        images.decode(lying, "pillow", (30, 40))
    # As published: COCO's annotations are about the stored pixels, and OpenCV turns them all the same.
    assert images.decode(lying, "opencv", (40, 30)).shape[:2] == (40, 30)
    assert images.decode(lying, "opencv", (30, 40)).shape[:2] == (40, 30)


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
def test_the_log_says_once_that_images_were_turned(tmp_path, lying, decoder, caplog):
    model = yaml.safe_load((config.ROOT / "demo" / "config" / "models" / "retinamask.yaml").read_text())
    model["preprocess"]["decoder"] = decoder
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(model))
    rows = [{"image_id": i, "file": f"{i}.jpg", "width": 40, "height": 30, "bytes": 1} for i in range(3)]
    jpg(tmp_path / "0.jpg")
    for i in (1, 2):
        shutil.copy(lying, tmp_path / f"{i}.jpg")
    shards.write_index(tmp_path / "index.tsv", rows)
    arguments = ["--model", tmp_path / "model.yaml", "--index", tmp_path / "index.tsv", "--images", tmp_path]
    preprocess.main([*map(str, arguments), "--shard", "0/1", "--output", str(tmp_path / "shard")])
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (decoder == "opencv")
    assert all(
        "2 images are turned as their EXIF says (decoder: opencv), the first is '1.jpg'" in line for line in warned
    )


def broken_files() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    return {
        "truncated": whole[: len(whole) // 2],
        "header only": whole[:20],
        "empty": b"",
        "html": b"<html><body>404</body></html>",
        "noise": bytes(range(256)) * 4,
    }


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
@pytest.mark.parametrize("kind", broken_files())
def test_broken_files_are_refused(tmp_path, kind, decoder):
    path = tmp_path / "a.jpg"
    path.write_bytes(broken_files()[kind])
    with pytest.raises(images.BadImage):
        images.decode(path, decoder)


def test_missing_file_is_a_bad_image(tmp_path):
    with pytest.raises(images.BadImage, match="no such file"):
        images.decode(tmp_path / "a.jpg", "pillow")


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "I;16"])
@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
def test_other_modes_become_three_channels(tmp_path, mode, decoder):
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    Image.new(mode, (40, 30)).save(path)
    assert images.decode(path, decoder).shape == (30, 40, 3)


def test_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(images.BadImage, match="far too many pixels"):
        images.decode(jpg(tmp_path / "a.jpg"), "pillow")


def test_zeros_below_an_image_take_no_room(tmp_path):
    """In each layout the file holds what the tensor does, whether or not there are zeros that need not be written."""
    bars = {"fit": (200, 50), "left": (50, 200)}  # bars below, and at the side alone
    for layout in ("NCHW", "NHWC"):
        for name, size in bars.items():
            jpg(tmp_path / "a.jpg", *size)
            model = words.model((512, 512), {"library": "pillow", "rule": "fit"}, layout=layout)
            tensor, _ = tensors.preprocess(tmp_path / "a.jpg", model)
            tensors.preprocess_to(tmp_path / "a.bin", tmp_path / "a.jpg", model)
            assert (tmp_path / "a.bin").read_bytes() == tensor.tobytes()
            used = (tmp_path / "a.bin").stat().st_blocks * 512
            assert used < tensor.nbytes / 2 if name == "fit" else used >= tensor.nbytes


def test_a_colour_below_an_image_is_written(tmp_path):
    model = words.model((96, 96), {"library": "pillow", "rule": "fit"}, {"fill": 114})
    tensor, _ = tensors.preprocess(jpg(tmp_path / "a.jpg"), model)
    _, placement = tensors.preprocess_to(tmp_path / "a.bin", tmp_path / "a.jpg", model)
    assert placement["pad"] == [0, 24] and (tmp_path / "a.bin").read_bytes() == tensor.tobytes()


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
def test_a_digest_stands_for_a_file_that_both_decoders_have_read(tmp_path, decoder, monkeypatch):
    """With it Pillow does not decode a second time for OpenCV; a file with another one is not taken at all."""
    path, loads = jpg(tmp_path / "a.jpg"), []
    monkeypatch.setattr(JpegImageFile, "load", lambda image, load=JpegImageFile.load: (loads.append(1), load(image))[1])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with_it = np.asarray(images.picture(path, decoder, (40, 30), digest).pixels)
    assert bool(loads) == (decoder == "pillow")
    np.testing.assert_array_equal(with_it, images.decode(path, decoder, (40, 30)))
    assert loads
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(Failure, match=r"a\.jpg: has changed since it was indexed; run the same command again"):
        images.picture(path, decoder, (40, 30), digest)
