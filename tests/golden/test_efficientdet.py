"""EfficientDet D7 and D0 against the upstream network: keys, tensors, both contracts, pool patches, detections."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

import weights
from detport.decoders.efficientdet import ANCHORS, STRIDES, anchors, best_pairs, decode, pair_maps
from detport.graph.pools import fuse_pad_into_maxpool, pad_maxpool_with_zero
from detport.networks.efficientdet import EfficientDet, build
from parity import OWN_CASES, difference, generated_state, random_input, read_case

# The tracing exporter is the one that writes what atc reads; it says on every call that there is a newer one.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Constant folding")

TOLERANCE = 1e-4  # of the scale of the tensor
# Noise of the goldens between processors and runtimes, with a factor of about seven
LOGIT, CODE, PIXEL, SCORE = 2e-4, 5e-5, 5e-3, 3e-5
CANDIDATES = 5000
NETWORKS = {
    "tf_efficientdet_d7": {
        "width": 1.8,
        "depth": 2.6,
        "channels": 384,
        "cells": 8,
        "combine": "sum",
        "repeats": 5,
        "classes": 90,
        "candidates": CANDIDATES,
    },
    "tf_efficientdet_d0": {
        "width": 1.0,
        "depth": 1.0,
        "channels": 64,
        "cells": 3,
        "combine": "fastattn",
        "repeats": 3,
        "classes": 90,
        "candidates": CANDIDATES,
    },
}
ANCHOR_SCALES = {"tf_efficientdet_d7": 5.0, "tf_efficientdet_d0": 4.0}
CENSUS = {
    "tf_efficientdet_d7": {
        "Conv": 477,
        "Sigmoid": 292,
        "Mul": 292,
        "Add": 126,
        "ReduceMean": 45,
        "MaxPool": 34,
        "Resize": 32,
    },
}
COMPACT = ["logits", "box_codes", "index"]


class Case:
    """One network of the case folder: its golden arrays, the network with its weights, its eager tensors."""

    def __init__(self, folder: Path, stem: str) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.spec, self.golden = read_case(folder, stem)
        self.name = self.spec["model"]
        self.canvas = tuple(self.spec["image_size_hw"])
        self.state = generated_state(folder, self.spec["weights"]["keys"], self.spec["weights"]["init"])
        self.image = case_input(self.spec["input"])
        self.raw_names = [entry["tensor"] for entry in self.spec["onnx_outputs"]]
        self.pools = len(self.spec["zeropad"]["pools"])
        self.categories = list(range(1, NETWORKS[self.name]["classes"] + 1))
        with torch.no_grad():
            self.eager = stages(self.network("raw"), self.image)

    def network(self, contract: str) -> EfficientDet:
        network = build(NETWORKS[self.name] | {"contract": contract}, self.canvas).eval()
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
        return decode(outputs, image, options(self.name), self.categories)


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    return case_folder("efficientdet_d7")


@pytest.fixture(scope="module", params=["network", "network_d0"])
def case(request: pytest.FixtureRequest, folder: Path) -> Case:
    return Case(folder, request.param)


@pytest.fixture(scope="module")
def exported(case: Case) -> onnx.ModelProto:
    return export(case.network("raw"), [case.image], case.raw_names)


@pytest.fixture(scope="module")
def simplified(exported: onnx.ModelProto) -> onnx.ModelProto:
    return simplify(exported)


def case_input(spec: dict) -> Tensor:
    match = re.search(r"RandomState\((\d+)\)\.standard_normal\(shape\)\*([\d.]+)\)", spec["made_by"])
    image = random_input({"seed": int(match[1]), "shape": spec["shape"], "scale": float(match[2])})
    assert sha256(image.numpy().tobytes()).hexdigest() == spec["sha256"]
    return image


def options(name: str) -> dict:
    return {
        "anchor_scale": ANCHOR_SCALES[name],
        "candidates": CANDIDATES,
        "nms": "hard",
        "nms_iou": 0.5,
        "max_detections": 100,
        "min_score": 0.001,
    }


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


def export(network: nn.Module, inputs: list[Tensor], names: list[str]) -> onnx.ModelProto:
    """The graph as the tracing exporter writes it, inputs image0, image1, ..."""
    file = io.BytesIO()
    torch.onnx.export(
        network,
        tuple(inputs),
        file,
        dynamo=False,
        opset_version=11,
        input_names=[f"image{i}" for i in range(len(inputs))],
        output_names=names,
    )
    return onnx.load_from_string(file.getvalue())


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    simple, valid = onnxsim.simplify(model)
    assert valid
    return simple


def session_of(model: onnx.ModelProto, optimise: bool = True) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    if not optimise:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def run_onnx(model: onnx.ModelProto, image: Tensor, optimise: bool = True) -> dict[str, np.ndarray]:
    names = [output.name for output in model.graph.output]
    values = session_of(model, optimise).run(names, {"image0": image.numpy()})
    return dict(zip(names, values, strict=True))


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
        assert difference(case.golden, name, anchors(np.arange(count), canvas, ANCHOR_SCALES[case.name])) == 0


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
    check_detections(rows, case.golden["detections"], options(case.name)["min_score"])


def test_detections_from_golden_candidates(case: Case) -> None:
    golden = case.golden
    index = golden["topk_anchor"] * np.int32(len(case.categories)) + golden["topk_class"]
    outputs = {"logits": golden["topk_logit"][None], "box_codes": golden["topk_box"][None], "index": index[None]}
    check_detections(case.detections(outputs), golden["detections"], options(case.name)["min_score"])


def test_exported_graph(case: Case, exported: onnx.ModelProto) -> None:
    outputs = run_onnx(exported, case.image)
    shapes = {entry["tensor"]: tuple(entry["shape"]) for entry in case.spec["onnx_outputs"]}
    assert {name: value.shape for name, value in outputs.items()} == shapes
    assert list(outputs) == case.raw_names
    check_maps(case, outputs)


def test_simplified_graph(case: Case, simplified: onnx.ModelProto) -> None:
    check_maps(case, run_onnx(simplified, case.image))
    census = Counter(node.op_type for node in simplified.graph.node if node.op_type != "Constant")
    assert census["MaxPool"] == case.pools
    assert census["Pad"] == 0
    assert case.name not in CENSUS or census == CENSUS[case.name]


def test_compact_graph(case: Case) -> None:
    model = simplify(export(case.network("compact"), [case.image], COMPACT))
    outputs = run_onnx(model, case.image)
    assert [outputs[name].dtype for name in COMPACT] == [np.float32, np.float32, np.int32]
    assert sum(value.nbytes for value in outputs.values()) < 300_000
    check_candidates(case, *(outputs[name][0] for name in COMPACT))
    check_detections(case.detections(outputs), case.golden["detections"], options(case.name)["min_score"])
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
    check_maps(case, run_onnx(model, case.image, optimise=False))
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
    outputs = run_onnx(model, case.image, optimise=False)
    check_maps(case, outputs, "zeropad_")
    rows = case.detections(outputs)
    check_detections(rows, case.golden["zeropad_detections"], options(case.name)["min_score"])


class Select(nn.Module):
    """The selection of a network as a graph of its own, from the ten raw outputs."""

    def __init__(self, network: EfficientDet) -> None:
        super().__init__()
        self.network = network

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return self.network.select(list(maps[: len(STRIDES)]), list(maps[len(STRIDES) :]))


@pytest.fixture(scope="module")
def decoded(folder: Path) -> tuple[dict, dict[str, np.ndarray], list[dict]]:
    """The case of the post-processing, and our rows of all its images from the raw contract."""
    spec, golden = read_case(folder, "postprocess")
    rows = []
    for image in spec["images"]:
        outputs = raw_outputs(spec, golden, image["stem"])
        entry, settings, categories = decode_arguments(spec, image)
        own = decode(outputs, entry, settings, categories)
        logits, codes, index = best_pairs(*pair_maps(outputs, len(categories)), settings["candidates"])
        compact = dict(zip(COMPACT, (x[None] for x in (logits, codes, index.astype(np.int32))), strict=True))
        assert decode(compact, entry, settings, categories) == own
        rows += own
    return spec, golden, rows


def raw_outputs(spec: dict, golden: dict[str, np.ndarray], stem: str) -> dict[str, np.ndarray]:
    """The ten outputs of an image, last one first, so that only their shapes tell them apart."""
    outputs = {}
    for entry in reversed(spec["contract"]):
        fill = spec["fill"]["class_logits" if entry["kind"] == "class logits" else "box_codes"]
        value = np.full(entry["shape"], fill, entry["dtype"])
        name = f"{stem}_out{entry['index']}"
        value.reshape(-1)[golden[f"{name}_idx"]] = golden[f"{name}_val"]
        outputs[f"output_{len(outputs)}"] = value
    return outputs


def decode_arguments(spec: dict, image: dict) -> tuple[dict, dict, list[int]]:
    finest = spec["contract"][0]["shape"]
    height, width = (side * STRIDES[0] for side in finest[2:])
    classes = finest[1] // ANCHORS
    entry = {
        "image_id": image["id"],
        "width": image["width"],
        "height": image["height"],
        "scale": 1 / image["img_scale"],
        "resized": [width, height],
        "pad": [0, 0],
    }
    parameters = spec["parameters"]
    settings = options("tf_efficientdet_d7") | {
        "candidates": parameters["topk"],
        "nms_iou": parameters["nms_iou"],
        "max_detections": parameters["max_det"],
        "min_score": parameters["min_score"],
    }
    return entry, settings, list(range(1, classes + 1))


def test_rows_of_the_postprocessing(decoded: tuple) -> None:
    spec, golden, rows = decoded
    assert len(rows) == spec["result_rows"]
    assert [row["image_id"] for row in rows] == golden["det_image_id"].tolist()
    assert [row["category_id"] for row in rows] == golden["det_category_id"].tolist()
    boxes = np.array([row["bbox"] for row in rows])
    scores = np.array([row["score"] for row in rows])
    # The inputs are the reference's own: what is left is the last digit of float32 (2^-13 beyond 1024 pixels).
    assert np.abs(boxes - golden["det_bbox_xywh"]).max() <= 2 * 2**-13
    assert np.abs(scores - golden["det_score"]).max() <= 2**-23


def test_selection_of_the_postprocessing_in_onnx(folder: Path) -> None:
    """The selection at the size where float32 could not hold the index any more."""
    spec, golden = read_case(folder, "postprocess")
    image = spec["images"][0]
    entry, settings, categories = decode_arguments(spec, image)
    maps = raw_outputs(spec, golden, image["stem"])
    canvas = tuple(reversed(entry["resized"]))
    narrow = {"width": 0.1, "depth": 0.1, "channels": 8, "cells": 1, "combine": "sum", "repeats": 1}
    counts = {"classes": len(categories), "candidates": settings["candidates"]}
    module = Select(build(narrow | counts | {"contract": "compact"}, canvas)).eval()
    inputs = [torch.from_numpy(maps[name]) for name in reversed(maps)]
    model = export(module, inputs, COMPACT)
    feeds = {f"image{i}": x.numpy() for i, x in enumerate(inputs)}
    outputs = dict(zip(COMPACT, session_of(model).run(COMPACT, feeds), strict=True))
    assert outputs["index"].dtype == np.int32
    assert outputs["index"].max() > 2**24
    _, _, index = best_pairs(*pair_maps(maps, len(categories)), settings["candidates"])
    assert sorted(outputs["index"][0]) == sorted(index)
    assert decode(outputs, entry, settings, categories) == decode(maps, entry, settings, categories)


def test_coco_figures_of_the_postprocessing(decoded: tuple) -> None:
    spec, _, rows = decoded
    truth = COCO()
    truth.dataset = spec["ground_truth"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.imgIds = [image["id"] for image in spec["images"]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert np.abs(evaluation.stats - spec["coco_metrics_bbox"]).max() <= 0.0005  # given with three digits
