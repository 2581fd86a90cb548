"""R-FCN against the upstream network: keys, every tensor, the rois' variants, both graphs."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from cases import difference, generated_state, random_input, read_case
from detport import config
from detport.networks import rfcn
from graphs import RUNNERS, attributes, export, outputs_of, run_onnx

CASE = "rfcn"
TOLERANCE = 1e-4  # of the scale of the tensor
MODEL_YAML = config.ROOT / "config" / "models" / "rfcn.yaml"
PUBLISHED = config.load_model(MODEL_YAML, "export")["network"]
del PUBLISHED["architecture"]
TINY = {"depths": [1, 1, 1, 1], "width": 1, "rpn_channels": 1, "head_channels": 1}
OUTPUTS = ["rois", "cls_prob", "bbox_pred"]
POOLED = ("psroi_cls", "psroi_loc", "cls_prob", "bbox_pred")  # tensors made from the map cells under a roi
OPSETS = (11, 17)


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    torch.set_num_threads(1)
    return case_folder(CASE)


@pytest.fixture(scope="module")
def network(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    return read_case(folder, "network")


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, Tensor]:
    return generated_state(folder)


def make(case: dict, state: dict[str, Tensor], flavour: str = "standard", **changes) -> rfcn.RFCN:
    """The published network at the size of the case, with its weights; `changes` overrides options."""
    options = PUBLISHED | {"proposals": case["post_nms_topn"], "proposal_nms_iou": case["nms_threshold"]} | changes
    model = rfcn.build(options, tuple(case["input"]["shape"][2:]), flavour).eval()
    model.load_state_dict(state)
    return model


def stages(model: rfcn.RFCN, image: Tensor) -> dict[str, Tensor]:
    """Every intermediate tensor under its name in network.npz."""
    found = {}
    base = image
    for i, layer in enumerate(model.RCNN_base):
        base = layer(base)
        if i >= 3:
            found["stem" if i == 3 else f"layer{i - 3}"] = base
    found["rpn_conv"] = model.RCNN_rpn.RPN_Conv(base).relu()
    logits, deltas = model.RCNN_rpn(base)
    probability = rfcn.pair_softmax(logits)
    found |= {"rpn_cls_score": logits, "rpn_cls_prob": probability, "rpn_bbox_pred": deltas}
    found["decoded"] = rfcn.decode_boxes(model.anchors, rfcn.per_anchor(deltas, 4))
    found["layer4"] = model.RCNN_conv_new[0](base)
    head = model.RCNN_conv_new(base)
    found |= {"conv_new": head, "cls_map": model.RCNN_cls_base(head), "bbox_map": model.RCNN_bbox_base(head)}
    rois = model.propose(probability, deltas, model.limits)
    return found | heads(model, found["cls_map"], found["bbox_map"], rois)


def heads(model: rfcn.RFCN, cls_map: Tensor, bbox_map: Tensor, rois: Tensor, suffix: str = "") -> dict[str, Tensor]:
    """What the second half makes of rois [1, R, 5]."""
    columns = rois.permute(0, 2, 1)
    classes, boxes = model.outputs, 4 * model.outputs
    found = {
        "rois": rois,
        "psroi_cls": model.pool(cls_map, columns, classes, model.group),
        "psroi_loc": model.pool(bbox_map, columns, boxes, model.group),
        "cls_prob": model.vote(cls_map, columns, classes).softmax(2),
        "bbox_pred": model.vote(bbox_map, columns, boxes),
    }
    return {f"{name}{suffix}": tensor for name, tensor in found.items()}


class Stages(nn.Module):
    """`stages` as a module that can be exported; `names` says what its outputs are."""

    def __init__(self, model: rfcn.RFCN, image: Tensor) -> None:
        super().__init__()
        self.model = model
        self.names = list(stages(model, image))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(stages(self.model, image).values())


def check(case: dict, golden: dict[str, np.ndarray], found: dict, variant: str = "export") -> None:
    """All tensors agree; what is pooled from rois close to a half integer is left out, as the case says."""
    measured = {}
    for name, tensor in found.items():
        rows = case["fragile_rows"][variant] if name.startswith(POOLED) else []
        measured[name] = difference(*without_rows(golden, name, np.asarray(tensor), rows))
    assert {name: value for name, value in measured.items() if not value < TOLERANCE} == {}


def without_rows(
    golden: dict[str, np.ndarray], name: str, values: np.ndarray, rows: list[int]
) -> tuple[dict[str, np.ndarray], str, np.ndarray]:
    """Golden arrays and values without some rois; whole arrays are [1, R, K], sampled ones [R, ...]."""
    if name in golden:
        return {name: np.delete(golden[name], rows, axis=1)}, name, np.delete(values, rows, axis=1)
    index = golden[f"{name}_idx"]
    kept = ~np.isin(index // (values.size // len(values)), rows)
    return {f"{name}_idx": index[kept], f"{name}_val": golden[f"{name}_val"][kept]}, name, values


def test_keys(network, state) -> None:
    """Loading is strict; of the two names of the shared convolution the second wins."""
    model = make(network[0], state)
    found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert found == {key: tuple(value.shape) for key, value in state.items()}
    assert model.RCNN_conv_1x1.weight is model.RCNN_conv_new[1].weight
    assert torch.equal(model.RCNN_conv_1x1.weight, state["RCNN_conv_new.1.weight"])


def test_stages_in_pytorch(network, state) -> None:
    """Every tensor, and the rois for all three ways to clip: not, to the canvas, to a smaller image."""
    case, golden = network
    model = make(case, state)
    with torch.no_grad():
        found = stages(model, random_input(case["input"]))
        check(case, golden, found | {"base_anchors": rfcn.base_anchors(PUBLISHED["anchor_scales"])})
        check(case, golden, {"anchors": model.anchors, "psroi_rois": found["rois"].permute(0, 2, 1)})
        for variant, info in case["im_info"].items():
            rois = model.propose(found["rpn_cls_prob"], found["rpn_bbox_pred"], tuple(int(side) for side in info[:2]))
            clipped = heads(model, found["cls_map"], found["bbox_map"], rois, f"_{variant}")
            check(case, golden, clipped, variant)


def test_stages_in_every_runner(network, state) -> None:
    case, golden = network
    image = random_input(case["input"])
    module = Stages(make(case, state), image)
    graph = export(module, [image], module.names, OPSETS[0])
    for run in RUNNERS:
        found = run(graph, [image])
        check(case, golden, {name: found[name] for name in module.names})


def test_outputs_at_the_newest_opset_clipped_to_the_canvas(network, state) -> None:
    case, golden = network
    image = random_input(case["input"])
    graph = export(make(case, state, clip_proposals="canvas"), [image], OUTPUTS, OPSETS[1])
    shapes = [list(golden[f"{name}_canvas"].shape) for name in OUTPUTS]
    assert outputs_of(graph) == [(shape, onnx.TensorProto.FLOAT) for shape in shapes]
    assert {node.domain for node in graph.graph.node} == {""}
    onnx.checker.check_model(graph, full_check=True)
    found = run_onnx(graph, [image])
    check(case, golden, {f"{name}_canvas": found[name] for name in OUTPUTS}, "canvas")


def test_ascend_outputs_in_pytorch(network, state) -> None:
    case, golden = network
    with torch.no_grad():
        found = make(case, state, "ascend")(random_input(case["input"]))
    check(case, golden, dict(zip(OUTPUTS, found, strict=True)))


@pytest.mark.parametrize("opset", OPSETS)
def test_ascend_graph(network, opset: int) -> None:
    """The operators, their attributes and shapes are those of the guide's graph; the image is the only input."""
    case, golden = network
    image = random_input(case["input"])
    options = PUBLISHED | TINY | {"proposals": case["post_nms_topn"], "proposal_nms_iou": case["nms_threshold"]}
    model = rfcn.build(options, tuple(image.shape[2:]), "ascend").eval()
    graph = export(model, [image], OUTPUTS, opset).graph
    assert [value.name for value in graph.input] == ["input.1"]
    assert [value.name for value in graph.output] == OUTPUTS
    assert {node.domain for node in graph.node} == {""}
    standard = {schema.name for schema in onnx.defs.get_all_schemas()}
    special = [node for node in graph.node if node.op_type not in standard]
    assert Counter(node.op_type for node in special) == {"BatchMultiClassNMS": 1, "PSROIPooling": 2}
    suppression, *poolings = special
    found = attributes(suppression)
    assert {name: pytest.approx(value) for name, value in case["nms_attrs"].items()} == found
    assert (len(suppression.input), len(suppression.output)) == (2, 4)
    group = PUBLISHED["group"]
    shared = {"group_size": group, "spatial_scale": 1 / 16, "pooled_height": group, "pooled_width": group}
    outputs = [golden[name].shape[2] for name in ("cls_prob", "bbox_pred")]
    assert [attributes(node) for node in poolings] == [shared | {"output_dim": count} for count in outputs]
    assert poolings[0].input[1] == poolings[1].input[1]
    makers = {name: node for node in graph.node for name in node.output}
    transpose = makers[poolings[0].input[1]]
    join = makers[transpose.input[0]]
    assert (transpose.op_type, attributes(transpose)["perm"]) == ("Transpose", [0, 2, 1])
    assert (join.op_type, join.output[0]) == ("Concat", "rois")
    cast = makers[join.input[1]]
    assert (cast.op_type, attributes(cast)["to"], cast.input[0]) == ("Cast", 1, suppression.output[0])
