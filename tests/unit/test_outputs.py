"""Outputs on disk: every naming, text and bytes, the right image's and nothing else's."""

import re
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays_of

from detport import outputs
from detport.errors import Failure

ROWS = 6
CONTRACT = [
    {"name": "dets", "shape": [ROWS, 5], "dtype": "float32"},
    {"name": "labels", "shape": [ROWS], "dtype": "int64"},
]
FILE = "000000000025.jpg"
STEM = "000000000025"


def arrays(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0, 1216, (ROWS, 5)).astype(np.float32), rng.integers(0, 81, ROWS)]


def put(folder: Path, pattern: str, stem: str, values: list[np.ndarray], first: int = 0) -> None:
    """Write arrays as a tool does; text with 6 significant digits in msame's lines."""
    folder.mkdir(exist_ok=True)
    for i, array in enumerate(values, start=first):
        path = folder / pattern.format(stem=stem, i=i)
        if pattern.endswith(".bin"):
            array.tofile(path)
        else:
            lines = np.atleast_2d(array)
            path.write_text("".join("".join(f"{value:.6g} " for value in line) + "\n" for line in lines))


def read(folder: Path, stem: str = STEM, stems: tuple[str, ...] = (STEM,), file: str = FILE) -> dict[str, np.ndarray]:
    return outputs.read(folder, stem, outputs.naming(folder, stems, CONTRACT), CONTRACT, file)


# Text that is counted from 1 is benchmark's and has no integers: tests/ascend/test_brought.py.
KNOWN = [(pattern, first) for pattern in outputs.NAMINGS for first in (0, 1)]
KNOWN.remove((outputs.BENCHMARKS_TEXT, 1))


@pytest.mark.parametrize(("pattern", "first"), KNOWN)
def test_every_naming(tmp_path, pattern, first):
    put(tmp_path, pattern, STEM, arrays(), first)
    found = read(tmp_path)
    assert found["dets"].dtype == np.float32
    assert found["labels"].dtype == np.int64
    np.testing.assert_allclose(found["dets"], arrays()[0], rtol=5e-6 if pattern.endswith(".txt") else 0)
    np.testing.assert_array_equal(found["labels"], arrays()[1])


def test_what_write_writes(tmp_path):
    outputs.write(tmp_path, STEM, arrays(), CONTRACT, FILE)
    found = read(tmp_path)
    assert all(np.array_equal(found[each["name"]], array) for each, array in zip(CONTRACT, arrays(), strict=True))


# Ids that end in one another, in the forms that the guide's scripts mixed up.
IDS = ("25", "125", "0125", "139", "370139", "000000000025", "000000000125", "000000370139", "9", "1_0", "1")


@pytest.mark.parametrize("pattern", outputs.NAMINGS)
def test_ids_that_end_in_one_another(tmp_path, pattern):
    for i, stem in enumerate(IDS):
        put(tmp_path, pattern, stem, arrays(seed=i))
    for i, stem in enumerate(IDS):
        np.testing.assert_array_equal(read(tmp_path, stem, IDS)["labels"], arrays(seed=i)[1])


@pytest.mark.parametrize("missing", IDS[:8])
def test_a_missing_image_gets_no_other_ones_files(tmp_path, missing):
    for i, stem in enumerate(IDS):
        if stem != missing:
            put(tmp_path, "{stem}_output_{i}.txt", stem, arrays(seed=i))
    with pytest.raises(Failure, match=f"'{missing}.jpg': 0 of 2 outputs are in"):
        read(tmp_path, missing, IDS, f"{missing}.jpg")


@pytest.mark.parametrize("pattern", ["{stem}_{i}.bin", "{stem}_output_{i}.bin"])
def test_an_image_whose_name_ends_in_output(tmp_path, pattern):
    """a_output_0.bin is output 0 of image a to one tool and of image a_output to another."""
    stems = ("a", "a_output", "a_output_output")
    for i, stem in enumerate(stems):
        put(tmp_path, pattern, stem, arrays(seed=i))
    for i, stem in enumerate(stems):
        np.testing.assert_array_equal(read(tmp_path, stem, stems)["labels"], arrays(seed=i)[1])


@pytest.mark.parametrize("stem", ["a*", "[a-z]", "{i}", "it's", "ä", "a.b", "%s", "$(x)"])
def test_stems_are_taken_literally(tmp_path, stem):
    put(tmp_path, "{stem}_output_{i}.txt", stem, arrays())
    put(tmp_path, "{stem}_output_{i}.txt", "abc", arrays(seed=1))
    np.testing.assert_array_equal(read(tmp_path, stem, (stem, "abc"))["labels"], arrays()[1])


@pytest.mark.parametrize("form", ["{:d}", "{:.1f}", "{:f}", "{:e}", "+{:d}"])
def test_labels_in_text_are_integers_or_floats(tmp_path, form):
    put(tmp_path, "{stem}_{i}.txt", STEM, arrays())
    (tmp_path / f"{STEM}_1.txt").write_text("\n".join(form.format(label) for label in arrays()[1].tolist()))
    np.testing.assert_array_equal(read(tmp_path)["labels"], arrays()[1])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
@pytest.mark.parametrize("declared", ["int64", "int32"])
@pytest.mark.parametrize("labels", [[0] * ROWS, [80, 0, 1, 2, 3, 0], [-1, 0, 0, 0, 0, 0]])
def test_labels_in_bytes_are_integers_or_floats(tmp_path, dtype, declared, labels):
    contract = [CONTRACT[0], CONTRACT[1] | {"dtype": declared}]
    put(tmp_path, "{stem}_{i}.bin", STEM, [arrays()[0], np.array(labels, dtype)])
    found = outputs.read(tmp_path, STEM, "{stem}_{i}.bin", contract, FILE)["labels"]
    assert found.dtype == declared
    assert found.tolist() == labels


@pytest.mark.parametrize("pattern", outputs.NAMINGS)
@pytest.mark.parametrize("order", [[1, 0], [2, 0, 1], [1, 0, 2], [0, 1, 2]])
def test_outputs_are_told_by_their_sizes(tmp_path, pattern, order):
    """In any order, and with the number of valid rows as a third output."""
    values = [*arrays(), np.array([4], np.int32)]
    put(tmp_path, pattern, STEM, [values[i] for i in order])
    found = read(tmp_path)
    np.testing.assert_array_equal(found["labels"], values[1])
    np.testing.assert_allclose(found["dets"], values[0], rtol=5e-6)


def test_outputs_of_equal_size_are_told_by_their_order(tmp_path):
    contract = [{"name": name, "shape": [2], "dtype": "float32"} for name in ("a", "b")]
    put(tmp_path, "{stem}_{i}.bin", STEM, [np.float32([1, 2]), np.float32([3, 4])])
    found = outputs.read(tmp_path, STEM, "{stem}_{i}.bin", contract, FILE)
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1, 2], "b": [3, 4]}


def test_the_declared_width_goes_first(tmp_path):
    """Labels of 8 bytes are not taken for another output's 4 bytes because labels of 4 bytes would do, too."""
    contract = [CONTRACT[1], {"name": "scores", "shape": [ROWS], "dtype": "float32"}]
    scores = np.linspace(0, 1, ROWS, dtype=np.float32)
    put(tmp_path, "{stem}_{i}.bin", STEM, [scores, arrays()[1]])
    found = outputs.read(tmp_path, STEM, "{stem}_{i}.bin", contract, FILE)
    assert np.array_equal(found["scores"], scores)
    assert np.array_equal(found["labels"], arrays()[1])


def edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DETS, LABELS = f"{STEM}_output_0.txt", f"{STEM}_output_1.txt"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / LABELS).unlink(), f"1 of 2 outputs are in .* ({DETS}); run inference"),
        (lambda folder: (folder / DETS).unlink(), f"1 of 2 outputs are in .* ({LABELS}); run inference"),
        (lambda folder: edit_text(folder / LABELS, " ", ""), f"the 6 numbers of labels [6]; .* {DETS} 30, {LABELS} 5;"),
        (lambda folder: (folder / LABELS).write_text(""), f"the 6 numbers of labels [6]; .* {LABELS} 0;"),
        (lambda folder: edit_text(folder / DETS, "\n", "7 \n"), f"the 30 numbers of dets [6, 5]; .* {DETS} 31,"),
        (lambda folder: edit_text(folder / DETS, "\n", "x\n"), "holds 'x', no number"),
        (lambda folder: edit_text(folder / DETS, " ", " nan "), "holds 'nan', no number"),
        (lambda folder: edit_text(folder / LABELS, " ", ".5 "), "labels holds .*.5, no int64 number"),
        (lambda folder: edit_text(folder / LABELS, " ", "e30 "), "labels holds .*e+3.*, no int64 number"),
        (lambda folder: edit_text(folder / DETS, " ", "e300 "), "dets holds NaN or infinity"),
        (lambda folder: (folder / DETS).write_bytes(b"\xff\x00" * 30), "holds '.*', no number"),
        (lambda folder: edit_text(folder / DETS, " ", "_0 "), "no number"),
        (lambda folder: edit_text(folder / DETS, " ", "," * 500), "no number"),
    ],
)
def test_broken_text_names_the_image(tmp_path, damage, expected):
    put(tmp_path, "{stem}_output_{i}.txt", STEM, [np.full((ROWS, 5), 9.5), np.full(ROWS, 7)])
    put(tmp_path, "{stem}_output_{i}.txt", "1" + STEM, arrays())
    damage(tmp_path)
    refused(tmp_path, expected)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), f"the 48 bytes of labels [6]; .* {STEM}_1.bin 47;"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), f"the 48 bytes of labels [6]; .* {STEM}_1.bin 49;"),
        (lambda path: path.write_bytes(b""), f"{STEM}_1.bin 0;"),
        (lambda path: np.full(ROWS, 0.5, np.float32).tofile(path), "labels holds 0.5, no int64 number"),
        (lambda path: np.full(ROWS, np.nan, np.float32).tofile(path), "labels holds nan, no int64 number"),
        (lambda path: np.full((ROWS, 5), np.inf, np.float32).tofile(path.with_name(f"{STEM}_0.bin")), "dets holds NaN"),
        (lambda path: nan_at(path.with_name(f"{STEM}_0.bin"), 17), "dets holds NaN or infinity, first at [3, 2]"),
    ],
)
def test_broken_bytes_name_the_image(tmp_path, damage, expected):
    put(tmp_path, "{stem}_{i}.bin", STEM, arrays())
    damage(tmp_path / f"{STEM}_1.bin")
    refused(tmp_path, expected)


def nan_at(path: Path, place: int) -> None:
    values = np.fromfile(path, np.float32)
    values[place] = np.nan
    values.tofile(path)


def refused(folder: Path, expected: str) -> None:
    """Reading fails with one line that begins with the image; in `expected` only .* is a pattern."""
    with pytest.raises(Failure) as refusal:
        read(folder)
    message = str(refusal.value)
    assert message.startswith(f"'{FILE}': ")
    assert "\n" not in message
    assert len(message) < 400
    assert re.search(re.escape(expected).replace(r"\.\*", ".*"), message), message


def test_an_empty_folder(tmp_path):
    with pytest.raises(Failure, match=rf"'{FILE}': 0 of 2 outputs are in .* \(no {STEM}_0\.bin\); run inference"):
        read(tmp_path)


FLOATS = arrays_of.arrays(np.float32, (ROWS, 5), elements=strategies.floats(width=32, allow_nan=False, min_value=-9e4))


@hypothesis.given(FLOATS, arrays_of.arrays(np.int64, ROWS, elements=strategies.integers(0, 10_000)))
def test_text_with_enough_digits_gives_the_same_numbers(tmp_path_factory, dets, labels):
    hypothesis.assume(np.isfinite(dets).all())
    folder = tmp_path_factory.mktemp("outputs")
    for i, array in enumerate((dets, labels)):
        (folder / f"{STEM}_{i}.txt").write_text(" ".join(f"{value:.9g}" for value in array.ravel()))
    found = read(folder)
    assert np.array_equal(found["dets"], dets)
    assert np.array_equal(found["labels"], labels)


@hypothesis.given(strategies.binary(max_size=60))
def test_any_bytes_are_numbers_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("outputs") / "x.txt"
    path.write_bytes(data)
    try:
        assert len(outputs.numbers(path, FILE)) == len(data.split())
    except Failure as error:
        assert FILE in str(error)


@pytest.mark.parametrize(("largest", "exact"), [(2**24 - 1, True), (2**24, False), (39_774_239, False)])
def test_integers_that_a_float32_cannot_hold_are_refused(tmp_path, largest, exact):
    contract = [{"name": "index", "shape": [2], "dtype": "int32"}]
    put(tmp_path, "{stem}_{i}.bin", STEM, [np.float32([0, largest])])
    if exact:
        assert outputs.read(tmp_path, STEM, "{stem}_{i}.bin", contract, FILE)["index"].tolist() == [0, largest]
    else:
        with pytest.raises(Failure, match=f"{FILE}.*{STEM}_0.bin: index holds .* as a float32, which is exact only"):
            outputs.read(tmp_path, STEM, "{stem}_{i}.bin", contract, FILE)
