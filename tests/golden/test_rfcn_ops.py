"""R-FCN's own operators against the reference's: anchors, proposals, position-sensitive pooling, NMS, box coding.

Everything that is part of a graph is measured in PyTorch and in ONNX Runtime.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cases import difference, read_case
from detport.boxes import below, nms
from detport.decoders import rfcn as decoder
from detport.networks import rfcn
from detport.networks.ascend_ops import PSROIPooling
from detport.networks.psroi import bin_edges, psroi_pool
from graphs import export, run_onnx

CASE = "rfcn"
TOLERANCE = 1e-4  # of the scale of the tensor
# The published proposal layer and pooling behind the smallest network.
OPTIONS = {
    "classes": 20,
    "depths": [1, 1, 1, 1],
    "width": 1,
    "rpn_channels": 1,
    "head_channels": 1,
    "group": 7,
    "anchor_scales": [8, 16, 32],
    "pre_nms": 6000,
    "proposals": 300,
    "proposal_nms_iou": 0.7,
    "clip_proposals": "none",
}
SCALE = 1 / 16  # map cells per pixel
OPSETS = (11, 17)


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    torch.set_num_threads(1)
    return case_folder(CASE)


@pytest.fixture(scope="module")
def network(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    return read_case(folder, "network")


@pytest.fixture(scope="module")
def ops(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    case, golden = read_case(folder, "ops")
    return case["cases"], golden


def noise(text: str) -> np.ndarray:
    """The array of a recipe in a case: "... RandomState(SEED).standard_normal((SHAPE))*FACTOR ..."."""
    match = re.search(r"RandomState\((\d+)\)\.standard_normal\(\(([\d,]+)\)\)(?:\*([\d.]+))?", text)
    shape = tuple(int(side) for side in match[2].split(","))
    values = np.random.RandomState(int(match[1])).standard_normal(shape)
    return (values * float(match[3] or 1)).astype(np.float32)


def run_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    """Results in PyTorch, after a check that ONNX Runtime has the same at every opset."""
    with torch.no_grad():
        expected = module(*inputs)
    names = [f"output{i}" for i in range(len(expected))]
    for opset in OPSETS:
        found = run_onnx(export(module, inputs, names, opset), inputs)
        for name, tensor in zip(names, expected, strict=True):
            assert difference({name: tensor.numpy()}, name, found[name]) < TOLERANCE
    return [tensor.numpy() for tensor in expected]


class Pooling(nn.Module):
    """Position-sensitive RoI pooling with fixed sizes, rois [5, R]."""

    def __init__(self, outputs: int, group: int, scale: float) -> None:
        super().__init__()
        self.sizes = (outputs, group, scale)

    def forward(self, score_map: Tensor, rois: Tensor) -> tuple[Tensor]:
        return (psroi_pool(score_map, rois, *self.sizes),)


class Proposals(nn.Module):
    """The proposal layer: the candidates of the NMS and the rois."""

    def __init__(self, model: rfcn.RFCN, limits: tuple[int, int] | None) -> None:
        super().__init__()
        self.model = model
        self.limits = limits

    def forward(self, probability: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        boxes, scores = rfcn.candidates(probability, deltas, model.anchors, model.pre_nms, self.limits)
        return boxes.view(1, -1, 1, 4), scores.view(1, -1, 1), model.propose(probability, deltas, self.limits)


def test_proposal_layer_from_golden_maps(network) -> None:
    """With the golden maps as input the candidates have the golden order, too."""
    case, golden = network
    model = rfcn.build(OPTIONS, tuple(case["input"]["shape"][2:])).eval()
    maps = (torch.from_numpy(golden["rpn_cls_prob"]), torch.from_numpy(golden["rpn_bbox_pred"]))
    found = run_module(Proposals(model, None), maps)
    for name, array in zip(("nms_in_boxes", "nms_in_scores", "rois"), found, strict=True):
        assert difference(golden, name, array) < TOLERANCE
    assert len(golden["nms_in_scores"][0]) == case["pre_nms_topn"]
    kept, scores, classes, count = rfcn.ProposalNMS.apply(
        *(torch.from_numpy(golden[name]) for name in ("nms_in_boxes", "nms_in_scores")), *case["nms_attrs"].values()
    )
    assert difference(golden, "nms_out_boxes", kept) < TOLERANCE
    assert difference(golden, "nms_out_scores", scores) < TOLERANCE
    assert count.tolist() == [case["nmsed_num"]] and not classes.any()


@pytest.mark.parametrize(("name", "prefix"), [("proposals", "prop"), ("proposals_small", "prop_small")])
def test_proposals(ops, name: str, prefix: str) -> None:
    cases, golden = ops
    case, rank = cases[name], golden[f"{prefix}_rank"]
    objects = ((rank + 0.5) / rank.size).astype(np.float32)
    maps = (torch.from_numpy(np.concatenate([1 - objects, objects], 1)), torch.from_numpy(noise(case["inputs"])))
    canvas = tuple(int(side / SCALE) for side in rank.shape[2:])
    standard, ascend = (rfcn.build(OPTIONS, canvas, flavour).eval() for flavour in ("standard", "ascend"))
    height, width, _ = case["im_info"][0]
    for limits, suffix in ((None, ""), ((int(height), int(width)), "_clip")):
        boxes, scores, rois = run_module(Proposals(standard, limits), maps)
        if limits is None and f"{prefix}_nms_in_scores" in golden:
            assert difference(golden, f"{prefix}_nms_in_boxes", boxes) < TOLERANCE
            assert difference(golden, f"{prefix}_nms_in_scores", scores.ravel()) < TOLERANCE
        assert difference(golden, f"{prefix}_rois{suffix}", rois) < TOLERANCE
        assert difference(golden, f"{prefix}_rois{suffix}", ascend.propose(*maps, limits)) < TOLERANCE
        filled = case.get(f"survivors{suffix}", rois.shape[1])
        assert not rois[0, filled:].any() and rois[0, :filled, 1:].any(axis=1).all()


def test_base_anchors(ops) -> None:
    assert difference(ops[1], "base_anchors", rfcn.base_anchors(OPTIONS["anchor_scales"])) == 0


class Edges(nn.Module):
    """Cells of all bins of rois [5, R] on a map: [R, 4, group], first and end, y then x."""

    def __init__(self, group: int, height: int, width: int, scale: float) -> None:
        super().__init__()
        self.sizes = (scale, group)
        self.map = (height, width)

    def forward(self, rois: Tensor) -> tuple[Tensor]:
        y = bin_edges(rois[2], rois[4], *self.sizes, self.map[0])
        x = bin_edges(rois[1], rois[3], *self.sizes, self.map[1])
        return (torch.stack([*y, *x], dim=1),)


def test_psroi_small(ops) -> None:
    """Rois of two images, with empty bins, halves and corners outside the map."""
    cases, golden = ops
    case = cases["psroi_small"]
    sizes = [case["attrs"][key] for key in ("output_dim", "pooled", "spatial_scale")]
    feature, rois = torch.from_numpy(noise(case["feature"])), torch.from_numpy(golden["psroi_rois"])
    found = np.zeros_like(golden["psroi_small_out"])
    for image in range(len(feature)):
        own = rois[:, 0] == image
        one, columns = feature[image : image + 1], rois[own].t().contiguous()
        found[own] = run_module(Pooling(*sizes), (one, columns))[0]
        assert np.array_equal(PSROIPooling.apply(one, columns[None], *sizes).numpy(), found[own])
    assert difference(golden, "psroi_small_out", found) < TOLERANCE
    group, scale = sizes[1:]
    bins = run_module(Edges(group, *feature.shape[2:], scale), (rois.t().contiguous(),))[0]
    assert np.array_equal(bins, golden["psroi_small_bins"])


def test_psroi_channel_order(ops) -> None:
    """Channel c holds c everywhere, so output k of bin (i, j) is (k * G + i) * G + j."""
    cases, _ = ops
    numbers = re.search(r"roi \[([\d,]+)\] on a (\d+)x(\d+) map", cases["psroi_order"]["what"])
    roi = torch.tensor([float(value) for value in numbers[1].split(",")])
    outputs, group = (cases["psroi_small"]["attrs"][key] for key in ("output_dim", "group_size"))
    channels = torch.arange(outputs * group**2, dtype=torch.float32)
    feature = channels.view(1, -1, 1, 1).repeat(1, 1, int(numbers[2]), int(numbers[3]))
    found = run_module(Pooling(outputs, group, SCALE), (feature, roi[:, None]))[0]
    assert np.array_equal(found.ravel(), channels.numpy())


def test_psroi_edges_in_float32(ops) -> None:
    cases, golden = ops
    height, width = (int(side) for side in re.search(r"(\d+)x(\d+) map", cases["psroi_edge"]["what"]).groups())
    module = Edges(golden["psroi_edge_bins"].shape[2], height, width, SCALE)
    found = run_module(module, (torch.from_numpy(golden["psroi_edge_rois"]).t().contiguous(),))[0]
    assert np.array_equal(found, golden["psroi_edge_bins"])


def test_psroi_full_size(ops) -> None:
    cases, golden = ops
    feature = torch.from_numpy(noise(cases["psroi_full"]["feature"]))
    group = OPTIONS["group"]
    module = Pooling(feature.shape[1] // group**2, group, SCALE)
    index = golden["psroi_full_idx"]
    for rois, values in (("prop_rois_clip", "psroi_full_val"), ("prop_rois", "psroi_full_noclip_val")):
        columns = torch.from_numpy(golden[rois][0]).t().contiguous()
        found = run_module(module, (feature, columns))[0]
        assert difference({"full_idx": index, "full_val": golden[values]}, "full", found) < TOLERANCE


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[list[int], list[int]]:
    """Rows that the decoder's NMS and the network's NMS keep, ascending."""
    own = nms(boxes, scores, np.zeros(len(boxes)), below(threshold), len(boxes), plus=1)
    rows = rfcn.keep(torch.from_numpy(boxes), torch.from_numpy(scores), len(boxes), threshold)
    return sorted(own.tolist()), sorted(rows.tolist())


def test_nms(ops) -> None:
    cases, golden = ops
    for case in cases["nms_hand"]["cases"]:
        boxes, scores = np.array(case["boxes"], np.float32), np.array(case["scores"], np.float32)
        assert suppress(boxes, scores, case["thr"]) == (case["keep_cpu"], case["keep_cpu"]), case["note"]
    for threshold, name in ((0.3, "nms_keep_3"), (0.7, "nms_keep_7")):
        kept = golden[name].tolist()
        assert suppress(golden["nms_boxes"], golden["nms_scores"], threshold) == (kept, kept)


def test_class_boxes(folder, ops) -> None:
    cases, golden = ops
    stds = read_case(folder, "postprocess")[0]["rules"]["std"]
    boxes = decoder.class_boxes(golden["dec_rois"], golden["dec_deltas"], stds)
    assert difference(golden, "dec_boxes", boxes.reshape(len(boxes), -1)) < TOLERANCE
    height, width, scale = cases["decode"]["im_info"][0]
    clipped = decoder.clip(boxes, width, height) / np.float32(scale)
    assert difference(golden, "dec_clipped", clipped.reshape(len(boxes), -1)) < TOLERANCE
