"""RetinaMask's compact contract: the graph keeps the boxes that the decoder keeps of the guide's, in the same order."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from detport import config, decoders
from detport.ascend import preflight
from detport.decoders.after_nms import decode
from detport.errors import UsageError
from detport.networks import retinamask
from graphs import export, outputs_of

PUBLISHED = config.ROOT / "config" / "models" / "retinamask.yaml"
DEMO = config.ROOT / "demo" / "config" / "models" / "retinamask.yaml"
CLASSES, ROWS, LIMIT = 3, 40, 12
SMALL = {
    **{"contract": "compact", "classes": CLASSES, "depths": [1, 1, 1, 1], "width": 4, "channels": 8, "tower": 1},
    **{"mask_convs": 1, "top_k": ROWS, "clip": 64, "nms_iou": 0.4, "max_detections": LIMIT},
}
IMAGE = {"image_id": 1, "file": "a.jpg", "width": 64, "height": 64, "scale": 1.0, "canvas": "64x64"}


def build(flavour: str = "standard", **changes) -> retinamask.RetinaMask:
    torch.manual_seed(0)
    return retinamask.build(SMALL | changes, (64, 64), flavour).eval()


class Survivors(nn.Module):
    """The part between the selection of boxes and their masks."""

    def __init__(self, flavour: str = "standard") -> None:
        super().__init__()
        self.network = build(flavour)

    def forward(self, boxes: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        return self.network.survivors(boxes, labels, scores)


SURVIVORS, ON_ASCEND = Survivors(), Survivors("ascend")


@pytest.fixture(scope="module")
def graph() -> Callable:
    """That part in ONNX Runtime."""
    model = export(Survivors(), selected([((0, 0, 8, 8), 0, 4)]), ("bboxs", "labels", "scores"), 11)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})


def selected(rows: list[tuple]) -> list[Tensor]:
    """Boxes, labels and scores of `ROWS` rows as `select` gives them, best first, from (x y w h), class and score."""
    rows = sorted(rows, key=lambda row: -row[2]) + [((0, 0, 0, 0), 0, 0)] * (ROWS - len(rows))
    corners = np.float32([box for box, _, _ in rows])
    corners[:, 2:] += corners[:, :2]
    labels = np.int32([label + 1 for _, label, _ in rows])
    return [torch.from_numpy(x) for x in (corners, labels, np.float32([score / 8 for _, _, score in rows]))]


def detections(arrays: list) -> list[dict]:
    settings = config.load_model(PUBLISHED, "decode")["decode"] | {"masks": None, "max_detections": LIMIT}
    settings |= {"categories": list(range(1, CLASSES + 1))}
    outputs = {name: np.asarray(x) for name, x in zip(("bboxs", "labels", "scores"), arrays, strict=True)}
    return decode(outputs, IMAGE, settings, decoders.categories(settings["categories"]))


# Equal scores and boxes, and overlaps of exactly 0.4, are frequent on such a grid; thirds are no whole float32 numbers.
places = st.integers(0, 18).map(lambda x: x / 3) | st.integers(0, 6).map(float)
crowds = st.lists(
    st.tuples(st.tuples(places, places, places, places), st.integers(0, CLASSES - 1), st.integers(0, 8)),
    max_size=ROWS,
)


def check(rows: list[tuple], *ways: Callable) -> None:
    arrays = selected(rows)
    expected = detections(arrays)
    for way in ways:
        kept = way(*arrays)
        assert [len(x) for x in kept] == [LIMIT] * 3
        assert detections(kept) == expected
        assert (np.diff(np.asarray(kept[2])) <= 0).all() and not np.asarray(kept[2])[len(expected) :].any()


@settings(max_examples=150, deadline=None)
@given(crowds)
def test_what_is_kept_is_what_the_decoder_keeps(graph, rows) -> None:
    check(rows, SURVIVORS, graph)


CROSS = [((20 * (i % 6), 20 * (i // 6), 9, 9), i % CLASSES, 8 - i // 8) for i in range(36)]


@pytest.mark.parametrize(
    ("rows", "count"),
    {
        "nothing detected": ([], 0),
        "only scores of zero": ([((0, 0, 8, 8), 0, 0)] * 5, 0),
        "one box": ([((0, 0, 8, 8), 2, 8)], 1),
        "more than are wanted": (CROSS, LIMIT),
        "equal scores in another order than their classes": ([((i, 30 * i, 9, 9), 2 - i, 4) for i in range(3)], 3),
        "one box of all classes": ([((0, 0, 8, 8), label, 4) for label in (2, 0, 1, 2, 0)], 3),
        "an overlap of exactly 0.4": ([((0, 0, 6, 0), 0, 8), ((3, 0, 6, 0), 0, 7)], 2),
        "and of more": ([((0, 0, 6, 0), 0, 8), ((2.9, 0, 6, 0), 0, 7)], 1),
    }.values(),
)
def test_crafted_rows(graph, rows, count) -> None:
    check(rows, SURVIVORS, graph)
    assert len(detections(selected(rows))) == count


@settings(max_examples=60, deadline=None)
@given(crowds)
def test_ascends_operator_keeps_the_same_boxes(rows) -> None:
    """In half precision, which has whole eighths; only the order of equal scores is the operator's own."""
    rows = [(tuple(map(round, box)), label, score) for box, label, score in rows]
    arrays = selected(rows)
    kept = ON_ASCEND(*arrays)
    order = lambda row: (-row["score"], row["category_id"], row["bbox"])  # noqa: E731
    every = detections(arrays)
    cut = every[-1]["score"] if len(every) == LIMIT else 0  # of equal scores at the limit either may be left out
    found, expected = ([row for row in x if row["score"] > cut] for x in (detections(kept), every))
    assert sorted(found, key=order) == sorted(expected, key=order)


def test_the_graph_of_each_contract_and_flavour() -> None:
    names = ("bboxs", "labels", "scores", "masks")
    image = torch.zeros(1, 3, 64, 64)
    for contract, count in (("guide", ROWS), ("compact", LIMIT)):
        for flavour in ("standard", "ascend"):
            graph = export(build(flavour, contract=contract), [image], names, 11)
            shapes = [[count, 4], [count], [count], [count, 1, 28, 28]]
            assert [shape for shape, _ in outputs_of(graph)] == shapes
            kinds = {node.op_type for node in graph.graph.node if "NM" in node.op_type or "NonMax" in node.op_type}
            wanted = {("compact", "standard"): {"NonMaxSuppression"}, ("compact", "ascend"): {"BatchMultiClassNMS"}}
            assert kinds == wanted.get((contract, flavour), set())
            assert not preflight.suppression(graph)


@pytest.mark.parametrize("path", [PUBLISHED, DEMO])
def test_the_guides_contract_is_one_key_away(path, tmp_path) -> None:
    (tmp_path / "compact.yaml").write_text(path.read_text())
    (tmp_path / "guide.yaml").write_text("base: compact\nnetwork: {contract: guide}\n")
    counts = {}
    for name in ("compact", "guide"):
        model = config.load(tmp_path / f"{name}.yaml", "model")
        counts[name] = [output["shape"][0] for output in model["outputs"]]
    assert counts == {"compact": [100] * 4, "guide": [model["network"]["top_k"]] * 4}


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        ({"nms_iou": 0.5}, "decode.nms_iou: 0.5 does not go with network.contract compact, .* asks for 0.4; .*guide"),
        ({"nms": "soft"}, "decode.nms: soft .* asks for hard"),
        ({"iou_plus": 0}, "decode.iou_plus: 0 .* asks for 1"),
        ({"agnostic": True}, "decode.agnostic: True .* asks for False"),
        ({"clip": "before_nms"}, "decode.clip: before_nms .* asks for after_nms or none"),
        ({"max_detections": 101}, r"decode.max_detections: 101 .* network.max_detections \(100\) or less"),
        ({"max_detections": None}, r"decode.max_detections: None .* network.max_detections"),
        ({"categories": [None, *range(2, 81)]}, "decode.categories: .* a category of every class"),
    ],
)
def test_a_decoder_that_asks_for_other_boxes_is_refused(tmp_path, decode, said) -> None:
    text = yaml.safe_load(PUBLISHED.read_text())
    text["decode"] |= decode
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(UsageError, match=said):
        config.load(tmp_path / "m.yaml", "model")
    text["network"]["contract"] = "guide"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(text))
    assert config.load(tmp_path / "m.yaml", "model")


def test_outputs_that_are_not_those_of_the_contract_are_refused(tmp_path) -> None:
    text = yaml.safe_load(PUBLISHED.read_text())
    text["outputs"] = [{"name": "bboxs", "shape": [1000, 4], "dtype": "float32"}]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(UsageError, match=r"outputs: network.contract compact has bboxs float32 \[100, 4\], .*declared"):
        config.load(tmp_path / "m.yaml", "model")
