"""Recipes start. The YOLO-style file: what it says of itself, and that the words of its yaml are the recipe's steps."""

import ast
import importlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import train_yolo as recipe
from detport import config, decoders, tensors
from shapes import KINDS

DEMO = config.ROOT / "demo"
FILE = DEMO / "weights" / "yolo.onnx"
MODEL = config.load(DEMO / "config" / "models" / "yolo.yaml", "model")
IMAGES = [DEMO / "data" / "images" / f"{name}.jpg" for name in ("000000000125", "000000000749", "000000004432")]


@pytest.mark.parametrize("name", sorted(path.stem for path in (DEMO / "recipes").glob("*.py")))
def test_every_recipe_finds_what_it_imports(name):
    importlib.import_module(name)


def test_the_file_tells_names_stride_and_size():
    graph = onnx.load(FILE)
    told = {entry.key: entry.value for entry in graph.metadata_props}
    names = ast.literal_eval(told["names"])
    assert list(names) == list(range(len(names)))
    assert list(names.values()) == list(KINDS) == MODEL["decode"]["categories"]
    assert ast.literal_eval(told["imgsz"]) == [MODEL["input"][side] for side in ("height", "width")]
    assert (told["task"], told["stride"], told["batch"]) == ("detect", "32", "1")
    assert not {"NonMaxSuppression", "TopK"} & {node.op_type for node in graph.graph.node}
    assert FILE.stat().st_size < 2_000_000


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_the_yaml_says_in_words_what_the_recipe_does(path: Path):
    """The tensor is the recipe's bit for bit, the detections are those of its plain loops."""
    image = cv2.imread(str(path))[..., ::-1]
    expected, scale, corner = recipe.letterbox(image)
    tensor, placement = tensors.preprocess(path, MODEL)
    np.testing.assert_array_equal(tensor, expected)

    session = onnxruntime.InferenceSession(FILE, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": expected[None]})
    kept = recipe.select(output[0].T)
    found = decoders.load(MODEL["decode"]["kind"]).decode(
        {"output0": output},
        {"image_id": 1, "file": path.name, **placement},
        MODEL["decode"],
        MODEL["decode"]["categories"],
    )
    assert [row["category_id"] for row in found] == [KINDS[label] for _, _, label in kept]
    np.testing.assert_allclose([row["score"] for row in found], [score for _, score, _ in kept], rtol=1e-6)
    corners = np.array([(box - (*corner, *corner)) / scale for box, _, _ in kept])
    corners = np.clip(corners, 0, [image.shape[1], image.shape[0]] * 2)
    boxes = np.array([row["bbox"] for row in found])
    np.testing.assert_allclose(boxes[:, :2], corners[:, :2], atol=1e-3)
    np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], corners[:, 2:], atol=1e-3)


def test_an_object_has_its_best_locations_and_a_location_its_object():
    """Two boxes of one class, far apart: each is wanted where the network finds it best, and nowhere else."""
    network = recipe.Yolo()
    points = network.points
    boxes = torch.tensor([[[16.0, 16.0, 80.0, 80.0], [160.0, 160.0, 200.0, 220.0], [0.0, 0.0, 0.0, 0.0]]])
    labels = torch.tensor([[2, 2, recipe.NO_OBJECT]])
    inside = [((points > box[:2]) & (points < box[2:])).all(1) for box in boxes[0]]
    found = torch.where(inside[0][:, None], boxes[0, 0], boxes[0, 1])[None]  # as good as can be
    scores = torch.full((1, len(points), len(KINDS)), 0.5)
    scores[0, :, 2] = torch.linspace(0.1, 0.9, len(points))  # later locations are surer
    wanted, targets = recipe.assign(points, found, scores, {"boxes": boxes, "labels": labels})
    for box, within in zip(boxes[0, :2], inside, strict=False):
        own = (targets[0, :, 2] > 0) & within
        assert own.sum() == recipe.NEAREST
        assert (wanted[0, own] == box).all()
        assert targets[0, own, 2].max() == pytest.approx(1)
        assert scores[0, own, 2].min() > scores[0, within & ~own, 2].max()
    assert targets[0, ~(inside[0] | inside[1])].max() == 0 and targets[..., [0, 1, 3, 4, 5, 6]].max() == 0
