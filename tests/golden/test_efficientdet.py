"""EfficientDet D7 and D0 against the upstream network: keys, tensors, both contracts, pool patches."""

import re
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import pytest
import torch
from torch import Tensor

import weights
from cases import OWN_CASES, difference, generated_state, random_input, read_case
from detport import config
from detport.decoders.efficientdet import anchors, best_pairs, decode, pair_maps
from detport.efficientdet import COMPACT
from detport.graph.patches.fuse_pad_into_maxpool import edit as fuse_pad_into_maxpool
from detport.graph.patches.pad_maxpool_with_zero import edit as pad_maxpool_with_zero
from detport.networks.efficientdet import EfficientDet, build
from graphs import RUNNERS, export, run_onnx

TOLERANCE = 1e-4  # of the scale of the tensor
# Noise of the goldens between processors and runtimes, with a factor of about seven
LOGIT, CODE, PIXEL, SCORE = 2e-4, 5e-5, 5e-3, 3e-5
CANDIDATES = 5000
OPSET = 11
CENSUS = {
    "efficientdet_d7": {
        "Conv": 477,
        "Sigmoid": 292,
        "Mul": 292,
        "Add": 126,
        "ReduceMean": 45,
        "MaxPool": 34,
        "Resize": 32,
    },
}


class Case:
    """One network of the case folder: its golden arrays, the network with its weights, its eager tensors."""

    def __init__(self, folder: Path, stem: str) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.spec, self.golden = read_case(folder, stem)
        self.name = self.spec["model"].removeprefix("tf_")
        yaml = config.ROOT / "config" / "models" / f"{self.name}.yaml"
        self.options = config.load_model(yaml, "export")["network"]
        del self.options["architecture"]
        self.decode = config.load_model(yaml, "decode")["decode"]
        self.canvas = tuple(self.spec["image_size_hw"])
        self.state = generated_state(folder, self.spec["weights"]["keys"], self.spec["weights"]["init"])
        self.image = case_input(self.spec["input"])
        self.raw_names = [entry["tensor"] for entry in self.spec["onnx_outputs"]]
        self.pools = len(self.spec["zeropad"]["pools"])
        self.categories = list(range(1, self.options["classes"] + 1))
        with torch.no_grad():
            self.eager = stages(self.network("raw"), self.image)

    def network(self, contract: str) -> EfficientDet:
        network = build(self.options | {"contract": contract}, self.canvas).eval()
        network.load_state_dict(self.state)
        return network

    def maps(self, prefix: str) -> list[Tensor]:
        """The class or box maps of P3..P7."""
        return [self.eager[name] for name in self.raw_names if name.startswith(prefix)]

    def detections(self, outputs: dict[str, np.ndarray]) -> list[dict]:
        info = self.spec["img_info"]
        width, height = info["img_size_wh"]
        image = {
            "image_id": 1,
            "width": width,
            "height": height,
            "scale": 1 / info["img_scale"],
            "resized": self.canvas[::-1],
            "pad": [0, 0],
        }
        return decode(outputs, image, self.decode, self.categories)


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    return case_folder("efficientdet_d7")


@pytest.fixture(scope="module", params=["network", "network_d0"])
def case(request: pytest.FixtureRequest, folder: Path) -> Case:
    return Case(folder, request.param)


@pytest.fixture(scope="module")
def exported(case: Case) -> onnx.ModelProto:
    return export(case.network("raw"), [case.image], case.raw_names, OPSET)


@pytest.fixture(scope="module")
def simplified(exported: onnx.ModelProto) -> onnx.ModelProto:
    return simplify(exported)


def case_input(spec: dict) -> Tensor:
    match = re.search(r"RandomState\((\d+)\)\.standard_normal\(shape\)\*([\d.]+)\)", spec["made_by"])
    image = random_input({"seed": int(match[1]), "shape": spec["shape"], "scale": float(match[2])})
    assert sha256(image.numpy().tobytes()).hexdigest() == spec["sha256"]
    return image


def stages(network: EfficientDet, image: Tensor) -> dict[str, Tensor]:
    """Every intermediate tensor under its name in the case."""
    stem = network.backbone.stem(image)
    outputs = network.backbone.stages(stem)
    features = network.backbone(image)
    levels = network.fpn.extend(features)
    found = {"stem": stem, "blocks0": outputs[0], "blocks1": outputs[1], "p6_in": levels[3], "p7_in": levels[4]}
    found |= {f"c{i + 3}": x for i, x in enumerate(features)}
    for c, cell in enumerate(network.fpn.cell):
        levels = cell(levels)
        found |= {f"cell{c}_p{i + 3}": x for i, x in enumerate(levels)}
    found |= {f"class_{i}": x for i, x in enumerate(network.class_net(levels))}
    return found | {f"box_{i}": x for i, x in enumerate(network.box_net(levels))}


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    simple, valid = onnxsim.simplify(model)
    assert valid
    return simple


def check_maps(case: Case, outputs: dict[str, np.ndarray | Tensor], prefix: str = "") -> None:
    measured = {name: difference(case.golden, prefix + name, outputs[name]) for name in case.raw_names}
    assert max(measured.values()) < TOLERANCE, measured


def check_detections(rows: list[dict], golden: np.ndarray, min_score: float) -> None:
    """Rows in golden order; golden is x1 y1 x2 y2 score category."""
    golden = golden[golden[:, 4] >= min_score]
    assert [row["category_id"] for row in rows] == golden[:, 5].tolist()
    boxes = np.array([row["bbox"] for row in rows])
    boxes[:, 2:] += boxes[:, :2]
    assert np.abs(boxes - golden[:, :4]).max() < PIXEL
    assert np.abs(np.array([row["score"] for row in rows]) - golden[:, 4]).max() < SCORE


def check_candidates(case: Case, logits: np.ndarray, codes: np.ndarray, index: np.ndarray) -> None:
    """The golden candidates in any order; only a pair as good as the last one may be another."""
    golden = case.golden
    pairs = golden["topk_anchor"].astype(int) * len(case.categories) + golden["topk_class"]
    rows = {int(pair): i for i, pair in enumerate(pairs)}
    assert index.dtype.kind == "i" and len(set(index.tolist())) == len(rows)
    assert np.abs(logits - golden["topk_logit"]).max() < LOGIT  # both descending
    last = golden["topk_logit"].min()
    for logit, code, pair in zip(logits, codes, index.tolist(), strict=True):
        if pair in rows:
            assert abs(logit - golden["topk_logit"][rows[pair]]) < LOGIT
            assert np.abs(code - golden["topk_box"][rows[pair]]).max() < CODE
        else:
            assert logit - last < LOGIT


def pads_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The Pad nodes before a MaxPool."""
    pooled = {node.input[0] for node in model.graph.node if node.op_type == "MaxPool"}
    return [node for node in model.graph.node if node.op_type == "Pad" and node.output[0] in pooled]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_keys_are_those_of_the_checkpoint(case: Case) -> None:
    name = case.spec["weights"]["keys"]
    listed = case.folder / name if (case.folder / name).exists() else OWN_CASES / case.folder.name / name
    own = case.network("compact").state_dict()
    found = [(key, tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in own.items()]
    assert found == list(weights.read_keys(listed))


def test_every_stage_in_pytorch(case: Case) -> None:
    names = [name for name in case.spec["arrays"] if name in case.eager]
    assert {"stem", "c3", "c4", "c5", "p6_in", "p7_in", "cell0_p3", *case.raw_names} <= set(names)
    measured = {name: difference(case.golden, name, case.eager[name]) for name in names}
    assert max(measured.values()) < TOLERANCE, measured


def test_anchors_are_exact(case: Case) -> None:
    canvases = {"anchors": case.canvas}
    for name in case.spec["arrays"]:
        if match := re.fullmatch(r"anchors_(\d+)", name):
            canvases[name] = (int(match[1]), int(match[1]))
    assert len(canvases) > 1
    for name, canvas in canvases.items():
        count = case.spec["arrays"][name]["shape"][0]
        assert difference(case.golden, name, anchors(np.arange(count), canvas, case.decode["anchor_scale"])) == 0


def test_selection_in_pytorch(case: Case) -> None:
    logits, codes, index = case.network("compact").select(case.maps("class_"), case.maps("box_"))
    assert (logits.shape, codes.shape, index.shape) == ((1, CANDIDATES), (1, CANDIDATES, 4), (1, CANDIDATES))
    assert index.dtype == torch.int32
    check_candidates(case, *(x[0].numpy() for x in (logits, codes, index)))


def test_selection_on_the_host_is_the_selection_in_the_network(case: Case) -> None:
    outputs = {name: case.eager[name].numpy() for name in reversed(case.raw_names)}
    logits, codes, index = best_pairs(*pair_maps(outputs, len(case.categories)), CANDIDATES)
    selected = case.network("compact").select(case.maps("class_"), case.maps("box_"))
    compact = dict(zip(COMPACT, (x.numpy() for x in selected), strict=True))
    order, other = np.argsort(index), np.argsort(compact["index"][0])
    assert (index[order] == compact["index"][0, other]).all()
    assert (logits[order] == compact["logits"][0, other]).all()
    assert (codes[order] == compact["box_codes"][0, other]).all()
    rows = case.detections(outputs)
    assert rows == case.detections(compact)
    check_detections(rows, case.golden["detections"], case.decode["min_score"])


def test_detections_from_golden_candidates(case: Case) -> None:
    golden = case.golden
    index = golden["topk_anchor"] * np.int32(len(case.categories)) + golden["topk_class"]
    outputs = {"logits": golden["topk_logit"][None], "box_codes": golden["topk_box"][None], "index": index[None]}
    check_detections(case.detections(outputs), golden["detections"], case.decode["min_score"])


def test_exported_graph(case: Case, exported: onnx.ModelProto) -> None:
    shapes = {entry["tensor"]: tuple(entry["shape"]) for entry in case.spec["onnx_outputs"]}
    for run in RUNNERS:
        outputs = run(exported, [case.image])
        assert {name: value.shape for name, value in outputs.items()} == shapes
        assert list(outputs) == case.raw_names
        check_maps(case, outputs)


def test_simplified_graph(case: Case, simplified: onnx.ModelProto) -> None:
    check_maps(case, run_onnx(simplified, [case.image]))
    census = Counter(node.op_type for node in simplified.graph.node if node.op_type != "Constant")
    assert census["MaxPool"] == case.pools
    assert census["Pad"] == 0
    assert case.name not in CENSUS or census == CENSUS[case.name]


def test_compact_graph(case: Case) -> None:
    model = simplify(export(case.network("compact"), [case.image], COMPACT, OPSET))
    for run in RUNNERS:
        outputs = run(model, [case.image])
        assert [outputs[name].dtype for name in COMPACT] == [np.float32, np.float32, np.int32]
        assert sum(value.nbytes for value in outputs.values()) < 300_000
        check_candidates(case, *(outputs[name][0] for name in COMPACT))
        check_detections(case.detections(outputs), case.golden["detections"], case.decode["min_score"])
    # No index may become a float on its way: float32 has gaps beyond 2^24.
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    casts = [node for node in inferred.node if node.op_type == "Cast"]
    assert {kinds[node.output[0]] for node in casts} <= {onnx.TensorProto.INT32, onnx.TensorProto.INT64}


@pytest.mark.parametrize("start", ["exported", "simplified"])
def test_lossless_pools(case: Case, start: str, request: pytest.FixtureRequest) -> None:
    model = copy_of(request.getfixturevalue(start))
    assert fuse_pad_into_maxpool(model) == case.pools
    assert not pads_of(model)
    onnx.checker.check_model(model)
    check_maps(case, run_onnx(model, [case.image], optimise=False))
    assert fuse_pad_into_maxpool(model) == case.pools


@pytest.mark.parametrize("start", ["exported", "simplified"])
def test_pools_padded_with_zero(case: Case, start: str, request: pytest.FixtureRequest) -> None:
    model = copy_of(request.getfixturevalue(start))
    assert pad_maxpool_with_zero(model) == case.pools
    pads = pads_of(model)
    assert len(pads) == case.pools
    (value,) = {pad.input[2] for pad in pads}
    (tensor,) = (x for x in model.graph.initializer if x.name == value)
    assert onnx.numpy_helper.to_array(tensor) == np.zeros((), np.float32)
    onnx.checker.check_model(model)
    outputs = run_onnx(model, [case.image], optimise=False)
    check_maps(case, outputs, "zeropad_")
    rows = case.detections(outputs)
    check_detections(rows, case.golden["zeropad_detections"], case.decode["min_score"])
