"""What lies in place of a file, a pointer of git-lfs or a link as text, is named wherever such a file is read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detport import checkpoints, files, images
from detport.datasets import coco, voc
from detport.errors import Failure, UsageError
from detport.graph import contract

POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""
READERS = {
    "weights.pth": lambda path: checkpoints.read(path, None, ""),
    "model.onnx": contract.read,
    "000001.jpg": lambda path: images.check(path, 40, 30),
    "instances.json": coco.read,
    "000001.xml": voc.read_annotation,
    "test.txt": voc.image_names,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, r"is a pointer of git-lfs, not the file itself; fetch that: git lfs pull"),
        (
            "../elsewhere/x.bin",
            r"is a link that was saved as text, '\.\./elsewhere/x\.bin'; put the file that it names",
        ),
    ],
    ids=["pointer", "link"],
)
def test_it_is_named_wherever_it_is_read(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_text(content)
    read: Callable[[Path], object] = READERS[name]
    with pytest.raises((Failure, UsageError), match=expected) as told:
        read(path)
    assert name in str(told.value) or isinstance(told.value, images.BadImage)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, True),
        ("/data/weights.pth", True),
        ("weights-1.pth\n", True),
        ("权重/w.pth", True),
        ("", False),
        ("weights", False),
        ("Not found: /a/b", False),
        ("<html>not/found</html>", False),
        ('{"a": "b/c"}', False),
        ("a/b\nc/d\n", False),
        ("https://example.org/w.pth", False),
        ("a/" * 600, False),
    ],
)
def test_what_stands_in_for_a_file(tmp_path, content, expected):
    path = tmp_path / "w.pth"
    path.write_text(content, encoding="utf-8")
    assert bool(files.stand_in(path)) is expected
    path.write_bytes(b"\x80\x02}q\x00./\xff")
    assert files.stand_in(path) is None
