"""Images as they lie in real folders: each is used as it should be or refused with its reason, never misread."""

import io
import os
import struct
import sys
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import odd_jpegs
from detport import images, jpeg

DECODERS = ("pillow", "opencv")


def whole_png(width: int, height: int) -> bytes:
    """A complete PNG of one bit per pixel, all black: kilobytes on disk, gigabytes in memory."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        file += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return file


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, decoder):
    path = tmp_path / "bomb.png"
    path.write_bytes(whole_png(40_000, 40_000))
    with pytest.raises(images.BadImage, match="far too many pixels"):
        images.decode(path, decoder, (40_000, 40_000))


def test_threads_refuse_what_one_refuses(tmp_path):
    """10,000 x 10,000 pixels are above the limit where Pillow warns, and below the one where it stops by itself."""
    bomb, small = tmp_path / "bomb.png", tmp_path / "small.png"
    bomb.write_bytes(whole_png(10_000, 10_000))
    Image.new("L", (40, 30)).save(small)

    def refused(i: int) -> bool:
        try:
            images.check(bomb, 10_000, 10_000) if i % 2 else images.check(small, 40, 30)
        except images.BadImage:
            return True
        return False

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(refused, range(200))) == [False, True] * 100


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((30, 40), 0x80FF, np.uint16), [0x80] * 3),
        (np.full((30, 40), 0x00FF, np.uint16), [0] * 3),
        (np.full((30, 40), 0xFFFF, np.uint16), [255] * 3),
    ],
    ids=["grey", "nearly black", "white"],
)
def test_of_16_bits_the_upper_8_are_taken(tmp_path, decoder, pixels, expected):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    found = images.decode(path, decoder, (40, 30))[5, 5]
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", images.FORMATS)
def test_both_decoders_see_the_same_in_every_format(tmp_path, kind):
    """Where one of them turns an image as its EXIF says, and the other does not, the stored size is the other's."""
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    for options in ({}, {"exif": exif}):
        Image.fromarray(pixels).save(tmp_path / "a.jpg", kind, **options)
        images.check(tmp_path / "a.jpg", 40, 30)
        by_pillow, by_opencv = (images.decode(tmp_path / "a.jpg", decoder, (40, 30)) for decoder in DECODERS)
        turned = by_opencv.shape != by_pillow.shape
        assert not turned or images.picture(tmp_path / "a.jpg", "opencv").turned
        np.testing.assert_array_equal(np.rot90(by_pillow, -1) if turned else by_pillow, by_opencv)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PPM", "JPEG2000", "ICO", "TGA", "PCX", "DDS", "SGI", "IM"])
def test_other_formats_are_refused_when_the_dataset_is_indexed(tmp_path, kind):
    """Before inference, and by name, whichever of them one of the two decoders would have read."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", kind)
    with pytest.raises(images.BadImage, match="is no JPEG, PNG, BMP or WEBP file"):
        images.check(tmp_path / "a.jpg", 40, 30)


def test_no_file_runs_a_program(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch '{tmp_path}/canary'\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n")
    for decoder in DECODERS:
        with pytest.raises(images.BadImage, match="is no JPEG"):
            images.decode(tmp_path / "a.jpg", decoder, (40, 30))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("error", [NotImplementedError, RuntimeError, AttributeError, KeyError, ZeroDivisionError])
def test_whatever_pillow_raises_is_a_bad_image(tmp_path, monkeypatch, error):
    """Its decoders raise all of these; which file makes them do so changes with every version."""

    def load(self):
        raise error("odd")

    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(images.BadImage, match=r"cannot be decoded \('?odd'?\)"):
        images.check(tmp_path / "a.png", 40, 30)


def test_what_only_one_decoder_reads_is_refused_by_both(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for found, reason in (
        (None, "by OpenCV"),
        (np.zeros((9, 9, 3), np.uint8), "9x9 pixels to OpenCV, 40x30 to Pillow"),
    ):
        monkeypatch.setattr(images.cv2, "imdecode", lambda *_, found=found: found)
        with pytest.raises(images.BadImage, match=reason):
            images.check(tmp_path / "a.png", 40, 30)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_palette_is_looked_up(tmp_path, decoder):
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png", decoder, (40, 30))[5, 5].tolist() == [200, 100, 50]


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_pixel(tmp_path, decoder):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png", decoder, (1, 1)).tolist() == [[[9, 8, 7]]]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_png_named_jpg_is_what_it_is(tmp_path, decoder):
    Image.new("RGB", (40, 30), (9, 8, 7)).save(tmp_path / "a.jpg", "PNG")
    assert images.decode(tmp_path / "a.jpg", decoder, (40, 30))[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("decoder", DECODERS)
def test_cmyk_keeps_its_size_and_about_its_colour(tmp_path, decoder):
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = images.decode(tmp_path / "a.jpg", decoder, (40, 30))[15, 20].astype(int)
    assert np.abs(red - [254, 0, 0]).max() <= 8


def test_a_folder_of_that_name_is_no_image(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(images.BadImage, match="cannot be decoded"):
        images.decode(tmp_path / "a.jpg", "pillow", (1, 1))


@pytest.mark.skipif(os.getuid() != 0, reason="as root, a child process gives its rights away; others cannot")
def test_an_image_without_permission_names_the_reason(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30)).save(path)
    path.chmod(0)
    child = os.fork()
    if child == 0:  # the child tells by its exit status
        status = 3
        try:
            os.setresuid(65534, 65534, 65534)
            images.check(path, 40, 30)
        except images.BadImage as error:
            status = 0 if "ermission denied" in str(error) else 2
        except OSError:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def broken(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    return {
        "truncated": whole[: len(whole) * 2 // 3],
        "zero bytes": bytes(len(whole)),
        "no end": whole[:-2],
        "a hole": whole[:300] + bytes(64) + whole[364:],
        "html": b"<!DOCTYPE html><title>404</title>",
        "a pointer of git lfs": b"version https://git-lfs.github.com/spec/v1\n",
    }[kind]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["truncated", "zero bytes", "html", "a pointer of git lfs"])
def test_what_is_no_whole_image_is_refused(tmp_path, kind, decoder):
    path = Path(tmp_path / "a.jpg")
    path.write_bytes(broken(kind))
    with pytest.raises(images.BadImage, match="cannot be decoded"):
        images.decode(path, decoder, (40, 30))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_jpeg_of_12_bits_is_called_so(tmp_path, decoder):
    (tmp_path / "a.jpg").write_bytes(odd_jpegs.of_12_bits(30, 40, 3000))
    with pytest.raises(images.BadImage, match=r"it is a JPEG of 12 bits per sample; save it with 8 bits"):
        images.decode(tmp_path / "a.jpg", decoder, (40, 30))


def test_a_lossless_jpeg_is_read_where_both_decoders_can_and_else_called_so(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    (tmp_path / "a.jpg").write_bytes(odd_jpegs.lossless(pixels))
    images.check(tmp_path / "a.jpg", 40, 30)
    for decoder in DECODERS:
        np.testing.assert_array_equal(images.decode(tmp_path / "a.jpg", decoder, (40, 30)), pixels)
    (tmp_path / "grey.jpg").write_bytes(odd_jpegs.lossless(pixels[:, :, :1]))
    with pytest.raises(
        images.BadImage, match=r"by OpenCV: it is a lossless JPEG; save it as PNG or as an ordinary JPEG"
    ):
        images.check(tmp_path / "grey.jpg", 40, 30)


@pytest.mark.parametrize(
    ("marker", "expected"),
    [(0xC5, "hierarchical"), (0xF7, "JPEG-LS"), (0xC0, None), (0xC2, None), (0xC9, None), (0xDA, None)],
)
def test_the_kind_of_a_jpeg_is_read_from_its_header(tmp_path, marker, expected):
    comment, frame = odd_jpegs.segment(0xFE, b"x" * 300), odd_jpegs.segment(marker, b"\x08 and so on")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + comment + frame)
    found = jpeg.oddity(tmp_path / "a.jpg")
    assert found is None if expected is None else expected in found
    for cut in range(5):
        (tmp_path / "a.jpg").write_bytes((b"\xff\xd8" + frame)[:cut])
        assert jpeg.oddity(tmp_path / "a.jpg") is None
