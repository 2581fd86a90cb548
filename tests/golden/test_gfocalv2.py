"""GFocalV2 against the upstream network: heads, candidates, detections, the Ascend operator and its graph."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from cases import difference, generated_state, random_input, read_case
from detport.graph import foreign
from detport.graph.view import given
from detport.networks.ascend_ops import BatchMultiClassNMS
from detport.networks.gfocalv2 import GFocalV2, build
from graphs import RUNNERS, attributes, export, outputs_of, run_onnx

CASE = "gfocalv2"
TOLERANCE = 1e-4  # of the scale of the tensor
SCORE_STEP = 5e-4  # largest score difference where candidates were rounded to float16
PUBLISHED = {
    "classes": 80,
    "depths": [3, 4, 6, 3],
    "width": 64,
    "channels": 256,
    "tower": 4,
    "groups": 32,
    "bins": 17,
    "quality_width": 64,
    "levels": 5,
}


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    return case_folder(CASE)


@pytest.fixture(scope="module")
def network(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    return read_case(folder, "network")


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, Tensor]:
    return generated_state(folder)


def make(case: dict, state: dict[str, Tensor], flavour: str = "standard", **changes) -> GFocalV2:
    """The published network at the size of the case, with its weights; `changes` overrides options."""
    settings = case["decode"]
    options = PUBLISHED | {
        "nms_pre": settings["nms_pre"],
        "score_threshold": settings["score_thr"],
        "iou_threshold": settings["iou_threshold"],
        "max_detections": settings["max_per_img"],
        "round_candidates": "none",
    }
    model = build(options | changes, tuple(case["input"]["shape"][2:]), flavour).eval()
    model.load_state_dict(state)
    return model


def with_integers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with 0, 1, 2, ... as bin distances: the arrays linspace_*."""
    key = "bbox_head.integral.project"
    return state | {key: torch.arange(len(state[key]), dtype=torch.float32)}


def stages(model: GFocalV2, image: Tensor) -> dict[str, Tensor]:
    """Every intermediate tensor under its name in network.npz."""
    maps = model.backbone(image)
    features = model.neck(*maps[1:])
    scores, distributions = model.bbox_head(features)
    boxes, candidate_scores, index = model.candidates(scores, distributions)
    found = {"stem": model.backbone.stem(image)}
    found |= {f"C{i + 2}": x for i, x in enumerate(maps)}
    for i, (feature, distribution) in enumerate(zip(features, distributions, strict=True)):
        rows = distribution.permute(0, 2, 3, 1).reshape(-1, distribution.shape[1])
        found |= {
            f"P{i + 3}": feature,
            f"cls_feat_l{i}": model.bbox_head.cls_convs(feature),
            f"reg_feat_l{i}": model.bbox_head.reg_convs(feature),
            f"cls_logit_l{i}": model.bbox_head.class_logits(feature),
            f"stat_l{i}": model.bbox_head.statistics(distribution),
            f"quality_l{i}": model.bbox_head.quality(distribution),
            f"cls_score_l{i}": scores[i],
            f"bbox_pred_l{i}": distribution,
            f"distance_l{i}": model.bbox_head.integral(rows) * model.strides[i],
        }
    return found | {"boxes": boxes, "scores": candidate_scores, "cand_index": index}


class Stages(nn.Module):
    """`stages` as a module that can be exported; `names` says what its outputs are."""

    def __init__(self, model: GFocalV2, image: Tensor) -> None:
        super().__init__()
        self.model = model
        self.names = list(stages(model, image))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(stages(self.model, image).values())


def check_stages(golden: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    scores = sorted(name for name in found if name.startswith("cls_score_l"))
    candidates = ("boxes", "scores", "cand_index")
    measured = {
        name: difference(golden, name, array)
        for name, array in found.items()
        if name not in (*scores, *candidates) and (name in golden or f"{name}_val" in golden)
    }
    # The scale of a score is that of all levels: one level may hold nothing above 1e-5, and ONNX Runtime's
    # sigmoid is exact to 3e-8 of 1, not of its result.
    joined = {"cls_score": np.concatenate([golden[name].ravel() for name in scores])}
    measured["cls_score"] = difference(joined, "cls_score", np.concatenate([found[name].ravel() for name in scores]))
    assert sorted(golden["cand_index"]) == sorted(found["cand_index"])
    order = candidate_order(golden, found["cand_index"])
    measured["boxes"] = difference(golden, "boxes", found["boxes"][order])
    # The golden scores have the column of zeros that only Ascend's graph appends.
    columns = found["scores"].shape[1]
    assert not golden["scores"][:, columns:].any()
    own = {"scores": golden["scores"][:, :columns]}
    measured["scores"] = difference(own, "scores", found["scores"][order])
    assert {name: value for name, value in measured.items() if not value < TOLERANCE} == {}


def candidate_order(golden: dict[str, np.ndarray], index: np.ndarray) -> list[int]:
    """For every golden candidate the row of the same location."""
    row = {location: i for i, location in enumerate(index.tolist())}
    return [row[location] for location in golden["cand_index"].tolist()]


def check_detections(
    golden: dict[str, np.ndarray], prefix: str, dets: np.ndarray, labels: np.ndarray, steps: bool
) -> None:
    """Compare as sets: each golden row with the nearest row of its label. `steps`: float16 steps are allowed."""
    valid = golden[f"{prefix}dets"][:, 4] > 0
    expected, expected_labels = golden[f"{prefix}dets"][valid], golden[f"{prefix}labels"][valid]
    count = len(expected)
    assert dets.shape[1] == 5 and len(dets) == len(labels) and labels.dtype == np.int64
    assert not dets[count:].any() and not labels[count:].any()
    assert (np.diff(dets[:, 4]) <= 0).all()
    scale = np.array([*[expected[:, :4].max()] * 4, expected[:, 4].max()])
    free = set(range(count))
    for row, label in zip(expected, expected_labels, strict=True):
        same = [i for i in free if labels[i] == label]
        assert same, f"no row of class {label} is left for {row}"
        nearest = min(same, key=lambda i: np.abs(dets[i] - row).max())
        free.remove(nearest)
        apart = np.abs(dets[nearest] - row)
        limits = TOLERANCE * scale
        if steps:
            limits = np.maximum(limits, [*np.spacing(row[:4].astype(np.float16)), SCORE_STEP])
        assert (apart <= limits).all(), (row, dets[nearest])
    assert not free


def test_state_dict_is_the_checkpoint(network, state) -> None:
    own = make(network[0], state).state_dict()
    assert {key: (x.shape, x.dtype) for key, x in own.items()} == {key: (x.shape, x.dtype) for key, x in state.items()}


def test_points_are_cell_corners(network, state) -> None:
    case, golden = network
    for i, points in enumerate(make(case, state).grid.buffers()):
        anchors = golden[f"anchors_l{i}"]
        assert np.array_equal(points, golden[f"points_l{i}"])
        assert np.array_equal(points, (anchors[:, :2] + anchors[:, 2:]) / 2)


def test_stages_in_pytorch(network, state) -> None:
    case, golden = network
    image = random_input(case["input"])
    assert difference(golden, "input", image) == 0
    model = make(case, state)
    with torch.no_grad():
        found = stages(model, image)
    for level in (int(name.removeprefix("topk_inds_l")) for name in golden if name.startswith("topk_inds_l")):
        first = sum(model.locations[:level])
        kept = [i - first for i in found["cand_index"].tolist() if 0 <= i - first < model.locations[level]]
        assert sorted(kept) == sorted(golden[f"topk_inds_l{level}"])
    check_stages(golden, {name: x.numpy() for name, x in found.items()})


@pytest.mark.parametrize("opset", [11, 17])
def test_stages_in_onnxruntime(network, state, opset: int) -> None:
    case, golden = network
    image = random_input(case["input"])
    with torch.no_grad():
        module = Stages(make(case, state), image).eval()
        found = run_onnx(export(module, [image], module.names, opset), [image])
    check_stages(golden, found)


@pytest.mark.parametrize("prefix", ["", "linspace_"])
@pytest.mark.parametrize("rounded", [False, True])
def test_detections(network, state, prefix: str, rounded: bool) -> None:
    case, golden = network
    image = random_input(case["input"])
    model = make(case, with_integers(state) if prefix else state, round_candidates="float16" if rounded else "none")
    arrays = prefix if rounded else f"{prefix}fp32_"
    with torch.no_grad():
        dets, labels = model(image)
        graph = export(model, [image], ["dets", "labels"], 11)
    check_detections(golden, arrays, dets.numpy(), labels.numpy(), rounded)
    for run in RUNNERS:
        found = run(graph, [image])
        check_detections(golden, arrays, found["dets"], found["labels"], rounded)
    if prefix:
        with torch.no_grad():
            inner = stages(model, image)
        boxes = inner["boxes"][candidate_order(golden, inner["cand_index"])]
        assert difference(golden, "linspace_boxes", boxes) < TOLERANCE


def test_standard_graph(network, state) -> None:
    """Standard operators only, all five inputs of NonMaxSuppression, constant output shapes, same rows in 17."""
    case, golden = network
    image = random_input(case["input"])
    with torch.no_grad():
        model = export(make(case, state), [image], ["dets", "labels"], 17)
    onnx.checker.check_model(model, full_check=True)
    (nms,) = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    assert len(nms.input) == 5
    assert outputs_of(model) == contract(case)
    found = run_onnx(model, [image])
    check_detections(golden, "fp32_", found["dets"], found["labels"], steps=False)


@pytest.mark.parametrize("prefix", ["op_", "opb_"])
def test_operator(network, state, prefix: str) -> None:
    case, golden = network
    settings = case["decode"]
    boxes, scores = (torch.from_numpy(golden[f"{prefix}{name}"]) for name in ("boxes", "scores"))
    limit = settings["max_per_img"]
    found = BatchMultiClassNMS.apply(boxes, scores, settings["score_thr"], settings["iou_threshold"], limit, limit)
    assert [x.dtype for x in found] == [torch.float16] * 3 + [torch.int32]
    assert found[3].tolist() == golden[f"{prefix}num"].tolist()
    dets = torch.cat([found[0][0], found[1][0, :, None]], dim=1).float().numpy()
    check_detections(golden, prefix, dets, found[2][0].long().numpy(), steps=False)
    assert np.array_equal(dets, golden[f"{prefix}dets"])

    model = make(case, state)
    columns = model.score_columns
    dets, labels = model.standard_nms(boxes[0, :, 0].float(), scores[0, :, :columns].float())
    check_detections(golden, prefix, dets.numpy(), labels.numpy(), steps=False)


def test_full_size(network, state) -> None:
    case, golden = network
    case = case | {"input": case["input"] | case["input_full"]}
    image = random_input(case["input"])
    model = make(case, state)
    golden = {name.removeprefix("full_"): x for name, x in golden.items() if name.startswith("full_")}
    with torch.no_grad():
        features = model.neck(*model.backbone(image)[1:])
        scores, distributions = model.bbox_head(features)
        boxes, candidate_scores, index = model.candidates(scores, distributions)
        dets, labels = model.standard_nms(boxes, candidate_scores)
        model.round_candidates = "float16"
        rounded_dets, rounded_labels = model.standard_nms(boxes, candidate_scores)
    found = {f"P{i + 3}": x for i, x in enumerate(features)}
    for i, (score, distribution) in enumerate(zip(scores, distributions, strict=True)):
        found |= {f"cls_score_l{i}": score, f"bbox_pred_l{i}": distribution}
    measured = {name: difference(golden, name, x) for name, x in found.items() if f"{name}_val" in golden}
    assert {name: value for name, value in measured.items() if not value < TOLERANCE} == {}
    assert set(golden["fp32_cand_index"]) <= set(index.tolist())
    check_detections(golden, "fp32_", dets.numpy(), labels.numpy(), steps=False)
    check_detections(golden, "", rounded_dets.numpy(), rounded_labels.numpy(), steps=True)


def contract(case: dict) -> list[tuple[list[int], int]]:
    return [(x["shape"], onnx.helper.np_dtype_to_tensor_dtype(np.dtype(x["dtype"]))) for x in case["contract_outputs"]]


@pytest.mark.parametrize("opset", [11, 17])
def test_ascend_graph(network, state, opset: int) -> None:
    case, golden = network
    settings = case["decode"]
    limit = settings["max_per_img"]
    image = random_input(case["input"])
    with torch.no_grad():
        model = export(make(case, state, "ascend"), [image], ["dets", "labels"], opset)

    assert [(x.domain, x.version) for x in model.opset_import] == [("", opset)]
    assert {node.domain for node in model.graph.node} == {""}
    assert outputs_of(model) == contract(case)
    (nms,) = [node for node in model.graph.node if node.op_type == "BatchMultiClassNMS"]
    assert attributes(nms) == pytest.approx(
        {
            "score_threshold": settings["score_thr"],
            "iou_threshold": settings["iou_threshold"],
            "max_size_per_class": limit,
            "max_total_size": limit,
        }
    )
    maker = {name: node for node in model.graph.node for name in node.output}
    users = {name: [n for n in model.graph.node if name in n.input] for name in nms.output}
    assert len(nms.input) == 2 and len(nms.output) == 4 and users[nms.output[3]] == []

    chains = []
    for name, length in zip(nms.input, (3, 4), strict=True):
        chain = []
        for _ in range(length):
            chain.append(maker[name])
            name = maker[name].input[0]
        chains.append(chain)
    kinds = [[node.op_type for node in chain] for chain in chains]
    assert kinds == [["Cast", "Reshape", "Concat"], ["Cast", "Reshape", "Concat", "Concat"]]
    assert [attributes(chain[0])["to"] for chain in chains] == [onnx.TensorProto.FLOAT16] * 2
    shapes = [given(model.graph, chain[1].input[1]).tolist() for chain in chains]
    assert shapes == [list(golden["nms_in_boxes"].shape), list(golden["nms_in_scores"].shape)]
    axes = [attributes(node)["axis"] for chain in chains for node in chain[2:]]
    assert axes == [0, 1, 0]
    assert [len(chains[0][2].input), len(chains[1][3].input)] == [model_levels(golden)] * 2
    targets = [attributes(user)["to"] for name in nms.output[:3] for user in users[name]]
    assert targets == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64]

    short, entering = foreign.cut_before(model)
    assert list(entering.values()) == list(nms.input)
    found = run_onnx(short, [image])
    boxes, scores = (found[name] for name in nms.input)
    check_operator_input(golden, boxes, scores)
    limits = (settings["score_thr"], settings["iou_threshold"], limit, limit)
    found = BatchMultiClassNMS.apply(torch.from_numpy(boxes), torch.from_numpy(scores), *limits)
    dets = torch.cat([found[0][0], found[1][0, :, None]], dim=1).float().numpy()
    check_detections(golden, "", dets, found[2][0].long().numpy(), steps=True)


def model_levels(golden: dict[str, np.ndarray]) -> int:
    return next(i for i in itertools.count() if f"points_l{i}" not in golden)


def check_operator_input(golden: dict[str, np.ndarray], boxes: np.ndarray, scores: np.ndarray) -> None:
    """Within one float16 step, as sets: neighbouring ranks of a level may be exchanged."""
    assert boxes.dtype == scores.dtype == np.float16
    expected = np.concatenate([golden["nms_in_boxes"][0, :, 0], golden["nms_in_scores"][0]], axis=1)
    rows = np.concatenate([boxes[0, :, 0], scores[0]], axis=1)
    assert rows.shape == expected.shape
    limits = np.abs(np.spacing(expected)).astype(np.float32)
    rows, expected = rows.astype(np.float32), expected.astype(np.float32)
    # The step of a number close to 0 is far below the accuracy of the float32 number before it.
    limits[:, :4] = np.maximum(limits[:, :4], TOLERANCE * expected[:, :4].max())
    limits[:, 4:] = np.maximum(limits[:, 4:], TOLERANCE * expected[:, 4:].max())
    free = np.ones(len(rows), bool)
    for row, limit in zip(expected, limits, strict=True):
        fits = (np.abs(rows - row) <= limit).all(axis=1) & free
        assert fits.any(), f"no row is left for the candidate {row[:4]}"
        free[np.argmax(fits)] = False


def test_ascend_detections_in_pytorch(network, state) -> None:
    case, golden = network
    with torch.no_grad():
        dets, labels = make(case, state, "ascend")(random_input(case["input"]))
    check_detections(golden, "", dets.numpy(), labels.numpy(), steps=True)
