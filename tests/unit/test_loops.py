"""The loops in C give what Pillow and OpenCV give, byte for byte, and nothing needs them."""

import itertools
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import words
from detport import config, loops, pillow_resize, tensors

BUILD = [sys.executable, config.ROOT / "scripts" / "build.py"]
COMPILER = os.environ.get("CC", "cc").split()[0]


def forget() -> None:
    for cached in (loops.library, pillow_resize.proven):
        cached.cache_clear()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the library, if this machine has a compiler; what the environment has is another matter."""
    if not shutil.which(COMPILER):
        pytest.skip(f"no C compiler ({COMPILER})")
    import build

    folder = tmp_path_factory.mktemp("lib")
    problem = build.compiled(folder / loops.library_file().name)
    assert problem is None
    return folder


@pytest.fixture
def compiled(built, monkeypatch):
    monkeypatch.setattr(loops, "FOLDER", built)
    forget()
    yield
    forget()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """No library anywhere."""
    monkeypatch.setattr(loops, "FOLDER", tmp_path / "none")
    forget()
    yield
    forget()


def pixels_of(rng: np.random.Generator, width: int, height: int, grey: bool) -> np.ndarray:
    shape = (height, width) if grey else (height, width, 3)
    if rng.integers(4) == 0:  # edges, where sums are cut to 8 bits
        return rng.choice(np.array([0, 255], np.uint8), shape)
    return rng.integers(0, 256, shape, np.uint8)


def check(pixels: np.ndarray, new: tuple[int, int], kind: str) -> None:
    """Both forms of the result are Pillow's, and of a canvas nothing else is touched."""
    expected = np.asarray(Image.fromarray(pixels).resize(new, pillow_resize.BY_PILLOW[kind]))
    said = f"{pixels.shape} to {new}, {kind}"
    np.testing.assert_array_equal(pillow_resize.resize(pixels, new, kind), expected, said)
    if pixels.ndim == 3:
        canvas = np.full((new[1] + 3, new[0] + 4, 3), 77, np.uint8)
        area = canvas[2:-1, 3:-1]
        assert pillow_resize.resize(pixels, new, kind, area) is area
        np.testing.assert_array_equal(area, expected, said)
        area[:] = 77
        assert (canvas == 77).all(), said


@pytest.mark.parametrize("kind", ["linear", "area"])
@pytest.mark.parametrize("seed", range(3))
def test_any_size_is_resized_as_pillow_does(compiled, kind, seed):
    rng = np.random.default_rng(seed)
    tried = 0
    for i in range(150):
        longest = np.log(400 if i % 30 else 2000)
        width, height, *new = (int(side) for side in np.exp(rng.uniform(0, longest, 4)))
        new = [width if i % 7 == 0 else new[0], height if i % 11 == 0 else new[1]]
        if pillow_resize.usable(kind, (width, height), tuple(new)):
            check(pixels_of(rng, width, height, i % 3 == 0), tuple(new), kind)
            tried += 1
    assert tried > 100


@pytest.mark.parametrize("kind", ["linear", "area"])
def test_the_pass_that_comes_first_is_pillows(compiled, kind):
    """Rows before columns, but for images that lose far more height: around that border, and with one side alone."""
    rng = np.random.default_rng(0)
    for lost_w, lost_h in itertools.product((-3, 0, 1, 4), (-5, -1, 0, 1, 2, 3, 7, 8, 9, 20)):
        check(pixels_of(rng, 30, 40, False), (30 - lost_w, 40 - lost_h), kind)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (64, 3)),
        ((1, 500), (3, 500)),
        ((500, 1), (9, 2)),
        ((2, 2), (33, 1)),
        ((64, 64), (1, 1)),
        ((17, 33), (16, 16)),
        ((640, 480), (1344, 1008)),
        ((2000, 1500), (1344, 1008)),
        ((375, 500), (1008, 1344)),
    ],
    ids=str,
)
@pytest.mark.parametrize("grey", [False, True], ids=["RGB", "grey"])
def test_odd_and_usual_sizes(compiled, old, new, grey):
    for kind in pillow_resize.RADIUS:
        check(pixels_of(np.random.default_rng(5), *old, grey), new, kind)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("cubic", (9, 9), (20, 20)),
        ("lanczos", (9, 9), (20, 20)),
        ("nearest", (9, 9), (20, 20)),
        ("linear", (40_000, 1), (9, 9)),
        ("linear", (9, 9), (40_000, 1)),
        ("linear", (9, 650), (9, 10)),
    ],
    ids=str,
)
def test_the_rest_is_left_to_pillow(compiled, kind, old, new):
    assert pillow_resize.usable("linear", (9, 9), (20, 20))
    assert not pillow_resize.usable(kind, old, new)


def test_another_pillow_is_noticed(compiled, monkeypatch, caplog):
    """One that always began with the rows, as those before 13.0."""
    monkeypatch.setattr(pillow_resize, "columns_first", lambda old, new: False)
    with caplog.at_level(logging.WARNING):
        assert not pillow_resize.usable("linear", (9, 9), (20, 20))
    assert "gives other bytes than this Pillow" in caplog.text and "so Pillow resizes" in caplog.text


@pytest.mark.parametrize("change", ["type", "shape", "order", "weights"])
def test_what_does_not_fit_is_refused_before_the_library_sees_it(compiled, change):
    pixels, into = np.zeros((9, 8, 3), np.uint8), np.zeros((20, 10, 3), np.uint8)
    if change == "type":
        pixels = pixels.astype(np.uint16)
    elif change == "shape":
        into = into[:, 1:]
    elif change == "order":
        into = into[:, ::-1]
    with pytest.raises(ValueError, match=r"cannot (be|become)"):
        if change == "weights":
            loops.down(pixels, pillow_resize.weights(10, 20, "linear"), np.zeros((20, 8, 3), np.uint8))
        else:
            pillow_resize.resize(pixels, (10, 20), "linear", into)


def test_values_are_looked_up(compiled):
    rng = np.random.default_rng(0)
    levels, table = rng.integers(0, 256, (7, 50, 3), np.uint8), rng.random(256, np.float32)
    for plane in (levels[..., 1], np.ascontiguousarray(levels[..., 2]), levels[::2, 5:-1, 0]):
        into = np.full((plane.shape[0], plane.shape[1] + 2), -1, np.float32)
        loops.look_up(table, plane, into[:, 1:-1])
        np.testing.assert_array_equal(into[:, 1:-1], table[plane])
        assert (into[:, [0, -1]] == -1).all()
    with pytest.raises(ValueError, match="cannot be looked up"):
        loops.look_up(table, levels[..., 0], np.empty((7, 49), np.float32))
    with pytest.raises(ValueError, match="cannot be looked up"):
        loops.look_up(table[:100], levels[..., 0], np.empty((7, 50), np.float32))


FORMS = {
    "NCHW": ({}, {}),
    "NHWC": ({"layout": "NHWC"}, {}),
    "float16": ({"dtype": "float16", "layout": "HWC"}, {"fill": 9}),
    "uint8": ({"dtype": "uint8"}, {"fill": 9}),
    "grey": ({"channels": 1}, {"channels": "grey", "mean": [120], "std": [60]}),
    "BGR in the middle": ({}, {"channels": "BGR", "mean": [1, 2, 3], "std": [4, 5, 6], "place": "centre"}),
    "a colour around": ({}, {"fill": [1, 20, 200], "place": "centre"}),
    "before the resize": ({}, {"normalise": "before_resize", "mean": [1, 2, 3]}),
    "pixels": ({"on_device": True}, {"mean": [1, 2, 3]}),
    "pixels on black": ({"on_device": True}, {"fill": 0, "place": "centre"}),
}
WAYS = {
    "pillow": {"library": "pillow"},
    "opencv": {},
    "cropped": {"library": "pillow", "rule": "short_side", "size": 90, "too_large": "crop"},
    "warped": {"by": "warp_affine"},
}


def shard_files(folder, model: dict) -> list[bytes]:
    """The .bin of some images, each of which is also made in memory."""
    found = []
    for i, size in enumerate([(40, 30), (30, 90), (150, 20), (1, 1)]):
        path, output = folder / f"{i}.png", folder / f"{i}.bin"
        Image.fromarray(words.picture(*size, seed=i)).save(path)
        tensor, placement = tensors.preprocess(path, model)
        length, other = tensors.preprocess_to(output, path, model)
        assert (length, other) == (tensor.nbytes, placement)
        assert output.read_bytes() == tensor.tobytes(), (size, placement)
        found.append(output.read_bytes())
    return found


PAIRS = [  # Pillow resizes no numbers
    pair
    for pair in itertools.product(FORMS, WAYS)
    if pair not in (("before the resize", "pillow"), ("before the resize", "cropped"))
]


@pytest.mark.parametrize(("form", "way"), PAIRS)
def test_a_shard_is_what_is_made_in_memory_and_the_same_without_the_library(built, tmp_path, monkeypatch, form, way):
    """In bands of a few rows, so that images begin and end within one."""
    size, told = FORMS[form]
    told = {"fill": 9} | told if way == "warped" else told
    model = words.model((96, 64), WAYS[way], told, **size)
    monkeypatch.setattr(tensors, "BAND", 3000)
    files = []
    for folder in (built, tmp_path / "none"):
        monkeypatch.setattr(loops, "FOLDER", folder)
        forget()
        files.append(shard_files(tmp_path, model))
    forget()
    assert files[0] == files[1]


def built_by(environment: dict[str, str], prefix) -> subprocess.CompletedProcess:
    """scripts/build.py of an environment of its own."""
    python = prefix / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", prefix], check=True)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    variables = os.environ | {"PYTHONPATH": path} | environment
    return subprocess.run([python, *BUILD[1:]], env=variables, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CC": "no-such-compiler"}, "no C compiler (no-such-compiler: No such file or directory)"),
        ({"CFLAGS": "-include no-such-header.h"}, "cannot compile"),
    ],
    ids=["no compiler", "broken compiler"],
)
def test_without_a_compiler_there_is_a_line_and_no_library(tmp_path, environment, said):
    result = built_by(environment, tmp_path / "env")
    assert result.returncode == 0 and result.stderr == ""
    assert said in result.stdout and "Pillow resizes by itself, which takes longer" in result.stdout
    assert not (tmp_path / "env" / "lib" / "detport").exists()


def test_a_library_is_of_the_source_that_it_was_compiled_from(built, tmp_path, monkeypatch):
    result = built_by({}, tmp_path / "env")
    [library] = (tmp_path / "env" / "lib" / "detport").iterdir()
    assert result.stdout == f"{library}: gives what Pillow gives\n"
    monkeypatch.setattr(loops, "FOLDER", library.parent)
    forget()
    assert pillow_resize.usable("linear", (9, 9), (20, 20))
    edited = tmp_path / "loops.c"
    edited.write_bytes(loops.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(loops, "SOURCE", edited)
    forget()
    assert not pillow_resize.usable("linear", (9, 9), (20, 20))
    forget()


def test_a_broken_library_is_told_and_not_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(loops, "FOLDER", tmp_path)
    loops.library_file().write_bytes(b"\x7fELF")
    forget()
    with caplog.at_level(logging.WARNING):
        assert loops.library() is None
    assert "cannot be opened" in caplog.text and "run scripts/build.py" in caplog.text
    forget()


def test_nothing_needs_the_library(bare):
    assert loops.library() is None and not pillow_resize.usable("linear", (9, 9), (20, 20))
