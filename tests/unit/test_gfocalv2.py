"""GFocalV2 in small: NMS in PyTorch and in ONNX Runtime, Ascend's operator."""

import numpy as np
import pytest
import torch
from torch import Tensor

from detport.errors import UsageError
from detport.networks.ascend_ops import BatchMultiClassNMS
from detport.networks.blocks import NonMaxSuppression, greedy_nms
from detport.networks.gfocalv2 import GFocalV2, build
from graphs import export, run_onnx

CANVAS = (64, 96)
SMALL = {
    "classes": 3,
    "depths": [1, 1, 1, 1],
    "width": 8,
    "channels": 16,
    "tower": 1,
    "groups": 4,
    "bins": 5,
    "quality_width": 8,
    "levels": 5,
    "nms_pre": 20,
    "score_threshold": 0.05,
    "iou_threshold": 0.6,
    "max_detections": 12,
    "round_candidates": "none",
}


def small(flavour: str = "standard", class_bias: float = -2.0, **changes) -> GFocalV2:
    """A random network; the bias decides how many candidates pass the score threshold."""
    torch.manual_seed(4)
    model = build(SMALL | changes, CANVAS, flavour).eval()
    torch.nn.init.normal_(model.bbox_head.gfl_cls.weight, std=0.3)
    torch.nn.init.constant_(model.bbox_head.gfl_cls.bias, class_bias)
    return model


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, *CANVAS, generator=torch.Generator().manual_seed(5))


def random_boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    sides = torch.rand(count, 2, generator=generator) * 40 + 1
    return torch.cat([corners, corners + sides], dim=1), torch.rand(count, generator=generator)


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_nms_is_the_definition(seed: int) -> None:
    boxes, scores = random_boxes(60, seed)
    rows: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        if all(iou(boxes[row].tolist(), boxes[other].tolist()) <= 0.3 for other in rows):
            rows.append(row)
    assert greedy_nms(boxes, scores, 0.3, 1000).tolist() == rows
    assert greedy_nms(boxes, scores, 0.3, 7).tolist() == rows[:7]


def test_greedy_nms_at_its_limits() -> None:
    # The overlap of the two is 60 of 100: exactly the threshold, which does not suppress.
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 6.0]])
    assert greedy_nms(boxes, torch.tensor([0.5, 0.5]), 0.6, 10).tolist() == [0, 1]
    assert greedy_nms(boxes, torch.tensor([0.5, 0.5]), 0.59, 10).tolist() == [0]
    points = torch.ones(3, 4)
    assert greedy_nms(points, torch.ones(3), 0.5, 10).tolist() == [0, 1, 2]
    assert greedy_nms(boxes[:0], torch.ones(0), 0.5, 10).tolist() == []


def test_threshold_is_not_passed_by_its_own_value() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 14.0, 14.0]]])
    scores = torch.tensor([[[0.25, 0.5]]])
    assert NonMaxSuppression.apply(boxes, scores, 5, 0.5, 0.25).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("opset", [11, 13, 15, 17])
@pytest.mark.parametrize("rounded", ["none", "float16"])
def test_onnxruntime_finds_the_same(image: Tensor, opset: int, rounded: str) -> None:
    model = small(round_candidates=rounded)
    with torch.no_grad():
        dets, labels = model(image)
        found = run_onnx(export(model, [image], ["dets", "labels"], opset), [image])
    assert (dets[:, 4] > 0).all()  # more were found than there is place for
    assert np.array_equal(found["labels"], labels)
    one_step = np.spacing(np.float16(max(CANVAS) - 1))
    np.testing.assert_allclose(found["dets"], dets, rtol=0, atol=one_step if rounded == "float16" else 1e-3)


def test_traced_on_one_image_and_run_on_others(image: Tensor) -> None:
    """The number of rows that NMS keeps is no constant of the graph."""
    model = small(max_detections=200)
    counts = set()
    with torch.no_grad():
        graph = export(model, [image], ["dets", "labels"], 11)
        for factor in (0.1, 1.0, 3.0):
            dets, labels = model(image * factor)
            found = run_onnx(graph, [image * factor])
            np.testing.assert_allclose(found["dets"], dets, rtol=0, atol=1e-3)
            assert np.array_equal(found["labels"], labels)
            count = int((dets[:, 4] > 0).sum())
            assert not dets[count:].any() and not labels[count:].any()
            counts.add(count)
    assert len(counts) > 1


def test_nothing_found(image: Tensor) -> None:
    model = small(class_bias=-30.0)
    with torch.no_grad():
        dets, labels = model(image)
        found = run_onnx(export(model, [image], ["dets", "labels"], 11), [image])
    for rows in (dets.numpy(), found["dets"]):
        assert rows.shape == (12, 5) and not rows.any()
    for rows in (labels.numpy(), found["labels"]):
        assert rows.shape == (12,) and not rows.any()


def test_ascend_flavour_is_the_standard_one_rounded(image: Tensor) -> None:
    with torch.no_grad():
        ascend = small("ascend")(image)
        standard = small(round_candidates="float16")(image)
    assert torch.equal(ascend[0], standard[0])
    assert torch.equal(ascend[1], standard[1])


def test_levels_of_the_published_canvas() -> None:
    model = build(SMALL | {"nms_pre": 1000}, (800, 1216))
    assert model.locations == [15200, 3800, 950, 247, 70]
    assert model.candidate_count() == 3267


def test_head_takes_batches() -> None:
    model = small()
    with torch.no_grad():
        features = model.neck(*model.backbone(torch.zeros(2, 3, *CANVAS))[1:])
        scores, distributions = model.bbox_head(features)
    assert [tuple(x.shape) for x in scores] == [(2, 4, *x.shape[2:]) for x in features]
    assert [tuple(x.shape) for x in distributions] == [(2, 20, *x.shape[2:]) for x in features]


def test_groups_that_do_not_divide_the_channels_are_named() -> None:
    with pytest.raises(UsageError, match=r"network\.groups: 3"):
        build(SMALL | {"groups": 3}, CANVAS)


def test_operator_with_one_class_in_float32() -> None:
    boxes, scores = random_boxes(80, 1)
    found = BatchMultiClassNMS.apply(boxes[None, :, None], scores[None, :, None], 0.0, 0.3, 80, 80)
    rows = greedy_nms(boxes, scores, 0.3, 80)
    count = len(rows)
    assert 0 < count < 80 and found[3].tolist() == [count]
    assert torch.equal(found[0][0, :count], boxes[rows]) and not found[0][0, count:].any()
    assert torch.equal(found[1][0, :count], scores[rows]) and not found[1][0, count:].any()
    assert [x.dtype for x in found] == [torch.float32] * 3 + [torch.int32]


def test_operator_limits_each_class_and_all() -> None:
    boxes = torch.arange(6.0)[:, None] * 20 + torch.tensor([0.0, 0.0, 10.0, 10.0])  # none overlap
    scores = torch.tensor([[0.9, 0.85], [0.8, 0.0], [0.7, 0.0], [0.6, 0.0], [0.0, 0.5], [0.0, 0.4]])
    _, scores_kept, classes, count = BatchMultiClassNMS.apply(boxes[None, :, None], scores[None], 0.0, 0.5, 3, 5)
    torch.testing.assert_close(scores_kept, torch.tensor([[0.9, 0.85, 0.8, 0.7, 0.5]]))
    assert classes.tolist() == [[0, 1, 0, 0, 1]] and count.tolist() == [5]


def test_operator_with_own_boxes_per_class_and_two_images() -> None:
    own = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 8.0, 8.0]]])
    boxes = torch.stack([own, own + 10])  # [2, 1, 2, 4]
    scores = torch.tensor([[[0.3, 0.6]], [[0.0, 0.4]]])
    found_boxes, _, classes, count = BatchMultiClassNMS.apply(boxes, scores, 0.1, 0.5, 2, 2)
    assert count.tolist() == [2, 1]
    assert classes.tolist() == [[1, 0], [1, 0]]
    assert torch.equal(found_boxes[0], own[0, [1, 0]])
    assert torch.equal(found_boxes[1], torch.stack([own[0, 1] + 10, torch.zeros(4)]))


def test_operator_drops_boxes_without_area() -> None:
    boxes = torch.tensor([[5.0, 0.0, 5.0, 9.0], [0.0, 3.0, 9.0, 3.0], [0.0, 0.0, 2.0, 2.0]])
    scores = torch.tensor([0.9, 0.8, 0.7]).half()
    found = BatchMultiClassNMS.apply(boxes.half()[None, :, None], scores[None, :, None], 0.05, 0.6, 9, 9)
    assert found[3].tolist() == [1] and found[1][0, 0] == scores[2]
