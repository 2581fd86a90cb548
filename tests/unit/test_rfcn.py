"""R-FCN's parts at sizes where every number can be worked out, and the network at demo size."""

import math

import numpy as np
import onnx
import onnxsim
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detport import config, networks
from detport.boxes import nms
from detport.decoders.rfcn import best, decode
from detport.errors import Failure, UsageError
from detport.graph import contract, patches
from detport.graph.export import export as to_onnx
from detport.graph.patches.int64_to_int32 import int64_to_int32
from detport.networks import rfcn
from detport.networks.ascend_ops import PSROIPooling
from detport.networks.psroi import psroi_pool, round_half_away
from graphs import export, run_onnx

SMALL = {
    "classes": 3,
    "depths": [1, 1, 2, 2],
    "width": 4,
    "rpn_channels": 8,
    "head_channels": 8,
    "group": 3,
    "anchor_scales": [1, 2],
    "pre_nms": 40,
    "proposals": 12,
    "proposal_nms_iou": 0.7,
    "clip_proposals": "none",
}
CANVAS = (48, 80)
OUTPUTS = ["rois", "cls_prob", "bbox_pred"]
RULES = {"box_stds": [0.1, 0.1, 0.2, 0.2], "score_above": 0.0, "nms_iou": 0.3, "max_detections": 4}
RULES |= {"background": "first"}


@pytest.fixture
def image() -> Tensor:
    return torch.from_numpy(np.random.RandomState(7).standard_normal((1, 3, *CANVAS)).astype(np.float32) * 50)


def small(flavour: str = "standard", **changes) -> rfcn.RFCN:
    torch.manual_seed(3)
    return rfcn.build(SMALL | changes, CANVAS, flavour).eval()


def c_round(value: np.float32) -> float:
    """Half away from zero; in float64, where adding 0.5 to a float32 of this size is exact."""
    return math.copysign(math.floor(abs(float(value)) + 0.5), value)


def pooled_by_loops(score_map: np.ndarray, roi: np.ndarray, outputs: int, group: int, scale: float) -> np.ndarray:
    """The definition, bin by bin, its edges in float32."""
    one = np.float32

    def span(low: float, high: float, p: int, size: int) -> range:
        start = one(c_round(low)) * one(scale)
        end = (one(c_round(high)) + one(1)) * one(scale)
        step = max(end - start, one(0.1)) / one(group)
        first, last = math.floor(one(p) * step + start), math.ceil(one(p + 1) * step + start)
        return range(min(max(first, 0), size), min(max(last, 0), size))

    found = np.zeros((outputs, group, group))
    height, width = score_map.shape[1:]
    for i in range(group):
        for j in range(group):
            rows, columns = span(roi[1], roi[3], i, height), span(roi[0], roi[2], j, width)
            if len(rows) and len(columns):
                for k in range(outputs):
                    cells = score_map[(k * group + i) * group + j, rows.start : rows.stop, columns.start : columns.stop]
                    found[k, i, j] = cells.mean(dtype=np.float64)
    return found


corner = st.floats(-60, 160, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=5), st.integers(1, 4))
def test_psroi_pooling_is_its_definition(rois: list[tuple], group: int) -> None:
    """Any corners: outside the map, reversed, on halves."""
    score_map = np.random.RandomState(group).standard_normal((2 * group**2, 5, 7)).astype(np.float32)
    columns = torch.tensor([(0.0, *roi) for roi in rois]).t().contiguous()
    found = psroi_pool(torch.from_numpy(score_map)[None], columns, 2, group, 1 / 16)
    expected = [pooled_by_loops(score_map, roi, 2, group, 1 / 16) for roi in columns[1:].t().numpy()]
    assert np.abs(found.numpy() - np.stack(expected)).max() < 1e-5


def test_rounding_is_that_of_c() -> None:
    values = torch.tensor([0.5, 1.5, -0.5, -2.5, 0.49999997, -0.49999997, 8388609.0, 2.4999998, -7.0, 0.0])
    assert round_half_away(values).tolist() == [1, 2, -1, -3, 0, 0, 8388609, 2, -7, 0]


def test_ascend_pooling_takes_one_set_of_rois_per_image() -> None:
    maps = torch.arange(2 * 4 * 3 * 3, dtype=torch.float32).view(2, 4, 3, 3)
    rois = torch.tensor([[[0.0], [0], [0], [47], [47]], [[1.0], [16], [16], [31], [31]]])
    found = PSROIPooling.apply(maps, rois, 1, 2, 1 / 16)
    apart = [psroi_pool(maps[b : b + 1], rois[b], 1, 2, 1 / 16) for b in range(2)]
    assert torch.equal(found, torch.cat(apart))
    assert found[1].flatten().tolist() == [maps[1, c, 1, 1].item() for c in range(4)]


def test_onnxruntime_computes_the_same(image: Tensor) -> None:
    model = small()
    with torch.no_grad():
        expected = model(image)
    graph = export(model, [image], OUTPUTS, 11)
    assert len(graph.graph.input) == 1
    for one, other in zip(expected, run_onnx(graph, [image]).values(), strict=True):
        assert one.shape == other.shape
        assert np.abs(one.numpy() - other).max() <= 1e-4 * one.abs().max()


def test_both_flavours_compute_the_same(image: Tensor) -> None:
    with torch.no_grad():
        for one, other in zip(small()(image), small("ascend")(image), strict=True):
            assert torch.equal(one, other)


def test_too_few_proposals_leave_rows_of_zeros(image: Tensor) -> None:
    """More rois than anchors: the rest is zero in every flavour, and the traced image's number is not in the graph."""
    model = small(proposals=200)
    with torch.no_grad():
        rois = model(image)[0][0]
        ascend = small("ascend", proposals=200)(image)[0][0]
        other = model(-image)[0][0]
    found = int(rois.any(1).sum())
    assert 0 < found < 40 and not rois[found:].any()
    assert torch.equal(rois, ascend)
    assert int(other.any(1).sum()) != found
    graph = export(model, [image], OUTPUTS, 11)
    for picture, expected in ((image, rois), (-image, other)):
        assert np.abs(run_onnx(graph, [picture])["rois"][0] - expected.numpy()).max() < 1e-3


def test_proposals_are_clipped_to_the_canvas_on_request(image: Tensor) -> None:
    with torch.no_grad():
        free, clipped = (small(clip_proposals=choice)(image)[0][0, :, 1:] for choice in ("none", "canvas"))
    height, width = CANVAS
    last = torch.tensor([width - 1, height - 1, width - 1, height - 1])
    assert (free < 0).any() and (free > last).any()
    assert (clipped >= 0).all() and (clipped <= last).all()


def test_equal_scores_keep_the_order_of_the_anchors() -> None:
    model = small()
    probability, deltas = torch.full((1, 12, 3, 5), 0.5), torch.zeros(1, 24, 3, 5)
    boxes, scores = rfcn.candidates(probability, deltas, model.anchors, 40, None)
    # Without deltas a box is its anchor, but for the missing -1 on x2, y2.
    assert torch.equal(boxes, model.anchors[:40] + torch.tensor([0, 0, 1, 1]))
    assert torch.equal(scores, torch.full((40,), 0.5))


def test_the_second_name_of_the_shared_convolution_wins() -> None:
    model = small()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["RCNN_conv_1x1.weight"] += 1
    model.load_state_dict(state)
    assert torch.equal(model.RCNN_conv_1x1.weight, state["RCNN_conv_new.1.weight"])


def test_canvas_must_fit_the_stride() -> None:
    with pytest.raises(UsageError, match=r"50x80.*divisible by 16"):
        rfcn.build(SMALL, (50, 80))


def outputs(boxes: list[list[float]], scores: list[list[float]]) -> dict[str, np.ndarray]:
    """Network outputs whose class boxes are the rois: no deltas. `scores` of the classes 1, 2, ... per roi."""
    count, classes = len(boxes), len(scores[0]) + 1
    return {
        "rois": np.array([[[0.0, *box] for box in boxes]], np.float32),
        "cls_prob": np.array([[[0.0, *row] for row in scores]], np.float32),
        "bbox_pred": np.zeros((1, count, 4 * classes), np.float32),
    }


ENTRY = {"image_id": "000001", "file": "000001.jpg", "width": 100, "height": 50, "resized": [200, 100], "scale": 2.0}


def test_decode_rows() -> None:
    """A roi of 10 to 28 becomes a box of 10 to 29, is halved, and x + w is its corner."""
    rows = decode(outputs([[10, 20, 28, 38]], [[0.25, 0.5]]), ENTRY, RULES, ["a", "b"])
    assert rows == [
        {"image_id": "000001", "category_id": "a", "bbox": [5.0, 10.0, 9.5, 9.5], "score": 0.25},
        {"image_id": "000001", "category_id": "b", "bbox": [5.0, 10.0, 9.5, 9.5], "score": 0.5},
    ]


def test_decode_takes_the_background_for_another_class() -> None:
    """`outputs` puts a column of zeros before the given ones."""
    rois, scores = [[10, 20, 28, 38]], [[0.25, 0.5]]
    last = decode(outputs(rois, scores), ENTRY, RULES | {"background": "last"}, ["a", "b"])
    assert [(row["category_id"], row["score"]) for row in last] == [("b", 0.25)]
    none = decode(outputs(rois, scores), ENTRY, RULES | {"background": "none"}, ["a", "b", "c"])
    assert [(row["category_id"], row["score"]) for row in none] == [("b", 0.25), ("c", 0.5)]


def test_deltas_that_give_no_box_are_named() -> None:
    """dx so large that the centre is infinite, and dw, too: infinity less infinity."""
    found = outputs([[0, 0, 9, 9], [10, 20, 28, 38]], [[0.5], [0.5]])
    found["bbox_pred"][0, 1, 4:] = [3e38, 0, 1e3, 0]
    with np.errstate(all="ignore"), pytest.raises(Failure, match=r"'000001\.jpg': row 1 of bbox_pred becomes the box"):
        decode(found, ENTRY, RULES, [1])


@pytest.mark.parametrize("categories", [["a"], ["a", "b", "c"]])
def test_decode_refuses_another_number_of_classes(categories: list[str]) -> None:
    message = rf"'000001\.jpg': cls_prob has 3 classes, .* there are {len(categories) + 1} classes"
    with pytest.raises(UsageError, match=message):
        decode(outputs([[10, 20, 28, 38]], [[0.25, 0.5]]), ENTRY, RULES, categories)


def test_decode_clips_to_the_resized_image() -> None:
    rows = decode(outputs([[-20, 40, 250, 300]], [[0.5]]), ENTRY, RULES, [1])
    assert rows[0]["bbox"] == [0.0, 20.0, 99.5, 29.5]


def test_decode_drops_scores_of_exactly_zero() -> None:
    assert decode(outputs([[0, 0, 9, 9]], [[0.0]]), ENTRY, RULES, [1]) == []
    assert len(decode(outputs([[0, 0, 9, 9]], [[1e-30]]), ENTRY, RULES, [1])) == 1


def test_decode_keeps_ties_at_the_limit() -> None:
    boxes = [[40 * i, 0, 40 * i + 8, 8] for i in range(5)] + [[0, 60, 8, 68]]
    scores = [[0.9], [0.5], [0.5], [0.8], [0.5], [0.1]]
    rows = decode(outputs(boxes, scores), ENTRY, RULES, [1])
    assert [row["score"] for row in rows] == pytest.approx([0.9, 0.8, 0.5, 0.5, 0.5])
    assert [row["bbox"][0] for row in rows] == [0.0, 60.0, 20.0, 40.0, 80.0]


def test_decode_suppresses_at_exactly_the_threshold() -> None:
    """Original boxes of 10 x 10 and 10 x 3 pixels: IoU 0.3."""
    entry = ENTRY | {"scale": 1.0, "resized": [100, 50]}
    rois = [[0, 0, 8, 8], [0, 0, 8, 1]]
    assert len(decode(outputs(rois, [[0.9], [0.8]]), entry, RULES, [1])) == 1
    assert len(decode(outputs(rois, [[0.9], [0.8]]), entry, RULES | {"nms_iou": 0.31}, [1])) == 2


@pytest.mark.parametrize("opset", [11, 17])
def test_int32_where_onnx_allows_it(image: Tensor, opset: int) -> None:
    """The converted standard graph is valid and has the same results."""
    graph = export(small(), [image], OUTPUTS, opset)
    expected = run_onnx(graph, [image])
    counts = int64_to_int32(graph, keep_required=True)
    onnx.checker.check_model(graph, full_check=True)
    assert counts["Constant"] > 0 and len(counts["beyond_int32"]) == 1
    for name, found in run_onnx(graph, [image]).items():
        assert np.array_equal(found, expected[name])


def test_int32_as_the_guide_has_it(image: Tensor) -> None:
    """No int64 constant is left for the device; the one beyond int32 is the open end of the Slice of the scores."""
    graph = export(small("ascend"), [image], OUTPUTS, 11)
    assert len(int64_to_int32(graph, keep_required=False)["beyond_int32"]) == 1
    tensors = [node.attribute[0].t for node in graph.graph.node if node.op_type == "Constant"]
    assert onnx.TensorProto.INT64 not in {tensor.data_type for tensor in (*graph.graph.initializer, *tensors)}


@pytest.mark.parametrize("path", ["config/models/rfcn.yaml", "demo/config/models/rfcn.yaml"])
def test_declared_patches_fit_the_ascend_graph(tmp_path, path: str) -> None:
    """What is declared neither depends on the depth of the network nor on its width."""
    model = config.load(config.ROOT / path, "model")
    model["network"] |= {"depths": [1, 1, 1, 1], "width": 1, "rpn_channels": 1, "head_channels": 1}
    graph = to_onnx(networks.build(model, "ascend"), model, "ascend", tmp_path / "graph.onnx")
    simplified, _ = onnxsim.simplify(graph)
    assert set(model["patches"]) == {"ascend", "ascend310"}
    for declared in model["patches"].values():
        patched = onnx.ModelProto()
        patched.CopyFrom(simplified)
        for patch in declared:
            patches.apply(patched, patch)
        contract.check(patched, model, path)


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_the_best_are_those_of_nms_of_every_class(seed, limit):
    """Compared with suppressing every class to its end; few different scores, so that many equal the last one."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 60, (60, 2)).repeat(2, axis=1)[:, [0, 2, 1, 3]].astype(np.float32)
    boxes[:, 2:] += rng.uniform(0, 30, (60, 2)).astype(np.float32)
    scores, labels = rng.integers(1, 12, 60).astype(np.float32), np.sort(rng.integers(0, 4, 60))
    every = []
    for label in range(4):
        own = np.flatnonzero(labels == label)
        every += own[nms(boxes[own], scores[own], np.zeros(len(own)), 0.3, len(own), plus=1)].tolist()
    last = np.sort(scores[every])[::-1][:limit][-1]
    expected = [row for row in every if scores[row] >= last]
    found = best(boxes, scores, labels, 0.3, limit)
    assert found[np.argsort(labels[found], kind="stable")].tolist() == expected
