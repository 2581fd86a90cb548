"""What a yaml is refused for before anything runs, because its decoder could not read the declared outputs."""

from pathlib import Path

import pytest

from detport import config
from detport.errors import UsageError

MODEL = """\
title: YOLO
dataset: coco
onnx: yolo.onnx
input: {name: images, height: 64, width: 64}
preprocess:
  decoder: opencv
  channels: RGB
  resize: {library: opencv, rule: fit}
  mean: [0, 0, 0]
  std: [255, 255, 255]
  arithmetic: float32
outputs:
  - {name: output0, shape: [1, 84, 84], dtype: float32}
decode:
  kind: cells
  categories: coco80
  objectness: false
  strides: [8, 16, 32]
  centre: none
  size: exp
  score_above: 0.001
  nms: hard
  nms_iou: 0.65
metric: {kind: coco, iou_types: [bbox]}
"""


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("", "", r"m\.yaml:\d+: outputs: .*channels: last; or .*channels: first"),
        ("nms_iou: 0.65", "", r"decode: missing key 'nms_iou'"),
        ("  score_above: 0.001\n", "", r"decode: missing key 'score_above'"),
        ("  objectness: false\n", "", r"84 rows \(maps of 8x8, 4x4, 2x2\) of 4 boxes \+ 1 objectness \+ 80 classes"),
        (
            "coco80",
            "[1, 2]",
            r"4 boxes \+ 2 classes.*declared are output0 \[1, 84, 84\]; correct outputs, decode\.categ",
        ),
        ("strides: [8, 16, 32]", "strides: [8]", r"64 rows \(maps of 8x8\)"),
        ("size: exp", "size: exp\n  scale_x_y: [1, 2]", r"m\.yaml:\d+: decode\.scale_x_y: has 2 numbers for 3 strides"),
        ("size: exp", "size: exp\n  tensors: {rows: x}", r"decode\.tensors\.rows: no output is called 'x'"),
        ("size: exp", "size: exp\n  columns: [boxes]", r"decode\.columns: "),
    ],
)
def test_what_is_refused(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MODEL.replace(right, wrong) if right else MODEL)
    with pytest.raises(UsageError, match=expected):
        config.load(path, "model")


def test_what_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MODEL.replace("size: exp", "size: exp\n  channels: last"))
    assert config.load(path, "model")["decode"]["max_detections"] is None


def test_a_decoder_without_levels_counts_no_candidates_of_them(tmp_path: Path) -> None:
    text = MODEL.replace("cells", "dense\n  box: xyxy\n  channels: last\n  candidates_of: level")
    for key in ("  strides: [8, 16, 32]\n", "  centre: none\n", "  size: exp\n"):
        text = text.replace(key, "")
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"m\.yaml:\d+: decode\.candidates_of: decoder dense knows no levels"):
        config.load(path, "model")
