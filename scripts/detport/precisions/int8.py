"""int8: weights and activations as 8-bit integers, in the QDQ form of ONNX Runtime's own quantiser.

Weights have a scale per channel, activations one per tensor, from their range on calibration images. What is behind the
last layer with weights is arithmetic on coordinates and probabilities: it costs nothing in float32, and no 256 steps
would do for it. Such nodes are kept as they are, unless `exclude: none` has them quantised as well.
"""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import onnx
from onnx import TensorProto, version_converter
from onnxruntime.quantization import CalibrationMethod, QuantType, calibrate, qdq_quantizer, registry

from detport import cli
from detport.backends.onnxruntime import REFUSALS, open_session
from detport.errors import Failure
from detport.graph.view import View

Ranges = dict[str, tuple[float, float]]  # lowest and highest value by tensor
Feeds = dict[str, np.ndarray]

LEAST_OPSET = 13
OPERATORS = sorted({*registry.QLinearOpsRegistry, *registry.QDQRegistry})
CALIBRATORS = {
    "minmax": calibrate.MinMaxCalibrater,
    "entropy": calibrate.EntropyCalibrater,
    "percentile": calibrate.PercentileCalibrater,
}
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BOUNDED = ("Sigmoid", "Softmax", "HardSigmoid")  # they make scores
HAND_ON = ("Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
LEAST_BINS, MOST_BINS = 5, 128  # of a distance as a distribution
# Inputs that say where or how many and are no values; None: all of them.
NO_VALUES: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Expand", "Gather", "GatherElements", "GatherND", "MaxRoiPool", "Reshape", "Tile", "TopK"), (1,)),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Split", "Squeeze", "Unsqueeze"), (1,)),
    **dict.fromkeys(("OneHot", "Pad", "Resize", "RoiAlign", "Slice"), (1, 2, 3, 4)),
    "Where": (0,),
    **dict.fromkeys(("ConstantOfShape", "NonMaxSuppression", "Range", "Shape", "Size"), None),
}


def prepared(model: onnx.ModelProto, source: object) -> onnx.ModelProto:
    """The graph in an opset that has scales per channel, with the types and shapes of its tensors."""
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        try:
            model = version_converter.convert_version(model, LEAST_OPSET)
        except RuntimeError as error:
            raise Failure(
                f"{source}: opset {opset} cannot be made {LEAST_OPSET}, which int8 needs; export with it or a later one"
                f" ({str(error).splitlines()[0]})"
            ) from error
    return onnx.shape_inference.infer_shapes(model)


def lowered(model: onnx.ModelProto, kept: set[str], backend: dict, ranges: Ranges) -> onnx.ModelProto:
    """The graph with pairs of QuantizeLinear and DequantizeLinear, but for the nodes that are kept.

    So are those of which a tensor has no range: it was infinite, as the padding of a max-pool may be.
    """
    kept = kept | set(excluded(model, backend["calibration"]))
    floats = float_tensors(model)
    wide = {node.name for node in model.graph.node if floats.intersection((*node.input, *node.output)) - ranges.keys()}
    endless = [node.name for node in model.graph.node if node.name in wide - kept and node.op_type in OPERATORS]
    if endless:
        cli.log.info("kept in float32, because they meet infinite values: %s", ", ".join(endless))
    known = {name: tuple(map(np.float32, found)) for name, found in ranges.items()}
    data = calibrate.TensorsData(CalibrationMethod.MinMax, known)
    per_channel, reduce_range = True, False
    try:
        quantizer = qdq_quantizer.QDQQuantizer(
            *(model, per_channel, reduce_range, QuantType.QInt8, QuantType.QInt8, data),
            *([], sorted(kept | wide), OPERATORS, {}),
        )
        return quantizer.quantize_model()
    except REFUSALS as error:
        raise Failure(
            f"ONNX Runtime's quantiser stops: {str(error).splitlines()[0]}; name the node in keep_fp32"
        ) from error


def measure(model: onnx.ModelProto, images: Iterable[Feeds], settings: dict, threads: int) -> Ranges:
    """The range of every tensor that may be quantised, over the inputs of some images; of infinite ones none."""
    left_out = excluded(model, settings)
    nodes = [node for node in model.graph.node if node.op_type in OPERATORS and node.name not in left_out]
    wanted = float_tensors(model).intersection(name for node in nodes for name in (*node.input, *node.output))
    options = {"percentile": settings["percentile"]} if settings["method"] == "percentile" else {}
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        path, augmented = Path(folder) / "graph.onnx", Path(folder) / "augmented.onnx"
        onnx.save(model, path)
        calibrator = CALIBRATORS[settings["method"]](
            path, augmented_model_path=str(augmented), symmetric=False, **options
        )
        values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        infos = {value.name: value for value in values}
        calibrator.select_tensors_to_calibrate = lambda _: (wanted, infos)
        calibrator.augment_graph()
        calibrator.infer_session = open_session(augmented, {"session": {"graph_optimization": "disabled"}}, threads)
        try:
            for feeds in images:
                turns = iter([feeds, None])  # one image at a time: what the histograms are of is in memory until then
                calibrator.collect_data(SimpleNamespace(get_next=turns.__next__))
            found = calibrator.compute_data()
        except REFUSALS as error:
            raise Failure(f"calibration by {settings['method']} fails: {str(error).splitlines()[0]}") from error
    if found is None:
        raise Failure("there is no image to calibrate on; correct datasets.NAME.images, or replace the images")
    ranges = {name: tuple(float(np.min(side)) for side in each.range_value) for name, each in found.items()}
    return {name: each for name, each in ranges.items() if np.isfinite(each).all()}


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Tensors of float32 that a node computes or an input gives."""
    weights = {tensor.name for tensor in model.graph.initializer}
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT} - weights


def excluded(model: onnx.ModelProto, settings: dict) -> dict[str, str]:
    """Names of the nodes that are not to be quantised, and why."""
    if settings["exclude"] == "none":
        return {}
    view = View(model)
    found = {node.name: "behind the last weights" for node in behind_weights(view)}
    for softmax, through in distributions(view):
        found |= {node.name: f"distances as distributions at {softmax.name}" for node in (softmax, *through)}
    for concat in view.nodes("Concat"):
        if concat.name in found and mixes(view, concat):
            found[concat.name] = "boxes and scores in one tensor"
    return found


def told(found: dict[str, str]) -> list[str]:
    """What `excluded` has found, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in found.items():
        reasons.setdefault(why, []).append(name)
    counts = {why: "1 node," if len(names) == 1 else f"{len(names)} nodes from" for why, names in reasons.items()}
    return [f"kept in float32, {why}: {counts[why]} {names[0]}" for why, names in reasons.items()]


def behind_weights(view: View) -> list[onnx.NodeProto]:
    """Nodes whose values enter no layer with weights; to say where, as the boxes of RoiAlign do, is no value."""
    needed: set[str] = set()
    found = []
    for node in reversed(view.graph.node):
        weighted = node.op_type in WEIGHTED and has_weights(view, node)
        if weighted or needed.intersection(node.output):
            where = NO_VALUES.get(node.op_type, ())
            needed.update(name for i, name in enumerate(node.input) if where is not None and i not in where)
        elif not view.constants.issuperset(node.output):
            found.append(node)
    return found[::-1]


def has_weights(view: View, node: onnx.NodeProto) -> bool:
    """Whether a layer has weights that were learnt: not the ramp that a distribution is weighted with."""
    constants = [name for name in node.input if name in view.constants]
    return any(name and not is_ramp(view, name) for name in constants)


def is_ramp(view: View, name: str) -> bool:
    """Whether a constant is 0, 1, 2, …, as of bins, or a multiple of it."""
    value = view.constant(name)
    if value is None or value.dtype.kind != "f" or not LEAST_BINS <= value.size <= MOST_BINS:
        return False
    steps = np.diff(value.ravel())
    return value.ravel()[0] == 0 and steps[0] > 0 and np.allclose(steps, steps[0])


def distributions(view: View) -> Iterable[tuple[onnx.NodeProto, list[onnx.NodeProto]]]:
    """Every Softmax whose bins meet a ramp, and the nodes from it to the one that weighs them."""
    for softmax in view.nodes("Softmax"):
        through, tensors = [], {softmax.output[0]}
        for node in view.graph.node:
            if tensors.isdisjoint(node.input):
                continue
            if node.op_type in HAND_ON:
                through.append(node)
                tensors.update(node.output)
            elif node.op_type in (*WEIGHTED, "Mul") and any(is_ramp(view, name) for name in node.input):
                yield softmax, [*through, node]
                break


def mixes(view: View, concat: onnx.NodeProto) -> bool:
    """Whether a Concat joins what a Sigmoid or Softmax gives with what none gives."""
    bounded = {source_kind(view, name) in BOUNDED for name in concat.input if name not in view.constants}
    return bounded == {True, False}


def source_kind(view: View, name: str) -> str:
    """The operator that computes a tensor, looking through those that only hand it on."""
    node = view.producers.get(name)
    while node is not None and node.op_type in HAND_ON:
        node = view.producers.get(node.input[0])
    return node.op_type if node is not None else ""
