"""A yaml whose lines say why they are there."""

import pytest

from detport.commented import WIDTH, Line, render
from detport.yamlfile import parse_yaml


def test_reasons_guesses_and_questions():
    lines = [
        Line(("title",), "Mine", "the file's name"),
        Line(("preprocess", "channels"), "RGB", "the usual", True, "RGB or BGR?"),
        Line(("preprocess", "fill"), 114, "preset yolov8"),
        Line(("outputs",), [{"name": "a", "shape": [1, 2]}], "as the run gave them"),
    ]
    assert render(["Written by a test."], lines) == (
        "# Written by a test.\n"
        "title: Mine # the file's name\n"
        "\n"
        "preprocess:\n"
        "  # QUESTION: RGB or BGR?\n"
        "  channels: RGB # GUESS: the usual\n"
        "  fill: 114 # preset yolov8\n"
        "\n"
        "# as the run gave them\n"
        "outputs:\n"
        "  - {name: a, shape: [1, 2]}\n"
    )


@pytest.mark.parametrize(
    "value",
    ["yes", "1e3", "2017-01-01", "null", "a: b", "x # y", "'", "", "012", "~", "-", "人", "[a]", True, None, 0.5, 1e-7],
)
def test_what_is_written_is_read_back(value):
    text = render([], [Line(("a", "b"), value, "why"), Line(("a", "c"), {"d": [value, [value]]}, "why")])
    assert parse_yaml(text, "x")[0] == {"a": {"b": value, "c": {"d": [value, [value]]}}}


def test_long_values_are_broken_into_lines():
    names = [f"a rather long name {i}" for i in range(40)]
    tensors = {"boxes": names[:8], "classes": names[8:16]}
    text = render(["word " * 60], [Line(("a", "names"), names, "why " * 50), Line(("a", "tensors"), tensors, "why")])
    assert parse_yaml(text, "x")[0] == {"a": {"names": names, "tensors": tensors}}
    assert max(map(len, text.splitlines())) <= WIDTH
