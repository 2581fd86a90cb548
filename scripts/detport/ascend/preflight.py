"""What atc would refuse, or worse, found in the graph before atc starts; every message says what to do."""

import math
import re
from collections.abc import Iterator

import numpy as np
import onnx

from detport.ascend.atc import option_name
from detport.graph.patches import cast_roi_concat_to_float16
from detport.graph.view import View, attribute

SHOWN = 5  # nodes in a complaint
LOWEST_OPSET = 9
# Opsets of Ascend's own operators, narrower than those of the toolkit.
OWN_OPSETS = {"BatchMultiClassNMS": (8, 16), "PSROIPooling": (8, 16)}
# Operators whose output has a size that depends on the data. NonMaxSuppression is none: on Ascend it pads.
DATA_DEPENDENT = frozenset({"Compress", "NonZero", "Unique"})
NMS_INPUTS = 5
# First version of CANN, and the highest opset that it parses.
HIGHEST_OPSET = (((7, 0), 18), ((0, 0), 13))
WITHOUT_INT64 = "Ascend310"  # its toolchain of 2021 had no int64 kernels
FIRST_WITHOUT_TUNING = (7, 0)  # where AOE takes its place
FIRST_WITH_PRECISION_V2 = (7, 0)
DYNAMIC_OPTIONS = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "input_shape_range")

# Standard operators that CANN parses, and Ascend's own.
STANDARD = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift Cast Ceil Celu
    Clip Compress Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Det Div Dropout Einsum
    Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Hardmax Identity If InstanceNormalization
    IsInf IsNaN LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool
    Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round ScatterElements ScatterND Selu Shape Shrink
    Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
    ThresholdedRelu Tile TopK Transpose Unsqueeze Where Xor
    """.split()  # noqa: SIM905
)
OWN = frozenset({"BatchMultiClassNMS", "DeformableConv2D", "PSROIPooling", "RoiExtractor"})


def problems(graph: onnx.ModelProto, model: dict, backend: dict, options: dict, chip: str) -> list[str]:
    """Everything that is wrong, in words; empty if atc may start."""
    version = cann_version(backend)
    checks = (
        opset(graph, version),
        operators(graph, backend),
        suppression(graph),
        shapes(graph),
        inner_shapes(graph),
        lowest_pads(graph),
        stated_shape(graph, options["input_shape"]),
        same_bytes(model, options),
        foreign_patches(graph, chip),
        tuning(options, version),
        output_type(options),
        precision(options, version),
        missing_nodes(graph, options),
        half_inputs(graph, model, options),
        dynamic_options(options),
    )
    return [problem for found in checks for problem in found]


def cann_version(backend: dict) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", backend["cann"])
    return int(match[1]), int(match[2])


def opset(graph: onnx.ModelProto, version: tuple[int, int]) -> list[str]:
    """One operator set, of a version that this CANN parses."""
    imports = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    if len(graph.opset_import) > 1:
        return [
            f"the graph imports {len(graph.opset_import)} operator sets ({', '.join(imports)}), atc takes one (E16005):"
            " export operators of Ascend without a domain, and take a graph that no other runtime has optimised"
        ]
    highest = next(opset for first, opset in HIGHEST_OPSET if version >= first)
    own = imports.get("ai.onnx", 0)
    if not LOWEST_OPSET <= own <= highest:
        name = ".".join(map(str, version))
        return [f"the graph has opset {own}, CANN {name} takes {LOWEST_OPSET} to {highest}: set export.opset to 11"]
    narrow = sorted(
        {node.op_type for node in nodes(graph.graph) if not in_range(own, OWN_OPSETS.get(node.op_type, (own, own)))}
    )
    return narrow and [
        f"the graph has opset {own}, {', '.join(narrow)} is parsed from 8 to 16 only: set export.opset to 11"
    ]


def in_range(number: int, limits: tuple[int, int]) -> bool:
    return limits[0] <= number <= limits[1]


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those inside If and Loop too."""
    for node in graph.node:
        yield node
        for entry in node.attribute:
            for inner in (entry.g, *entry.graphs):
                yield from nodes(inner)


def operators(graph: onnx.ModelProto, backend: dict) -> list[str]:
    """Only operators with a parser, in the empty domain."""
    known = STANDARD | OWN | set(backend.get("operators", []))
    found, every = [], list(nodes(graph.graph))
    for name in sorted({node.domain for node in every} - {"", "ai.onnx"}):
        kinds = sorted({node.op_type for node in every if node.domain == name})
        found.append(f"operators of the domain {name} ({', '.join(kinds)}): atc parses the empty domain only")
    unknown = sorted({node.op_type for node in every if node.domain in ("", "ai.onnx")} - known)
    if unknown:
        found.append(
            f"operators that CANN does not parse ({', '.join(unknown)}): replace them in the network or by a patch,"
            " or list them under operators in the backend's yaml if a plug-in of yours adds them"
        )
    return found


def suppression(graph: onnx.ModelProto) -> list[str]:
    """NonMaxSuppression has all its inputs; with fewer the compiler crashes."""
    short = [
        node.name or node.output[0]
        for node in nodes(graph.graph)
        if node.op_type == "NonMaxSuppression" and sum(map(bool, node.input)) < NMS_INPUTS
    ]
    return short and [
        f"NonMaxSuppression with fewer than {NMS_INPUTS} inputs ({', '.join(short)}) crashes atc: give it the limit of"
        " boxes and both thresholds as constants, or take flavour: ascend"
    ]


def inputs_of(graph: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Sizes of every input of the graph; text or 0 where a size is not fixed."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    return {
        value.name: [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in graph.graph.input
        if value.name not in weights
    }


def shapes(graph: onnx.ModelProto) -> list[str]:
    """Static sizes only."""
    loose = [name for name, sizes in inputs_of(graph).items() if not all(isinstance(s, int) and s > 0 for s in sizes)]
    return loose and [
        f"inputs with dynamic sizes ({', '.join(loose)}): export with fixed sizes; a compiled model here has one shape"
    ]


def inner_shapes(graph: onnx.ModelProto) -> list[str]:
    """Fixed sizes of all tensors inside the graph and of its outputs; named is where they are lost first.

    What shape inference cannot know passes: results of Ascend's own operators, and of NonMaxSuppression, which pads.
    """
    try:
        inside = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    except onnx.shape_inference.InferenceError:  # a domain or an operator set that another check names
        return []
    loose = {value.name for value in (*inside.value_info, *inside.output, *inside.input) if is_loose(value)}
    follows = {name for name in inputs_of(graph) if name in loose}  # from something that is complained of, or known
    causes = []
    for node in inside.node:
        if not follows.isdisjoint(node.input) or node.op_type in (*OWN, "NonMaxSuppression"):
            follows.update(node.output)
        elif not loose.isdisjoint(node.output) or node.op_type in DATA_DEPENDENT:
            causes.append(f"{node.op_type} {node.name or node.output[0]}")
            follows.update(node.output)
    return causes and [
        f"sizes inside the graph that depend on data or are not fixed (from {', '.join(causes[:SHOWN])}): export with"
        " fixed sizes, or replace the operator by one whose output has a fixed size"
    ]


def is_loose(value: onnx.ValueInfoProto) -> bool:
    """Whether a tensor has a size that is not fixed; nothing is said of one whose shape is not known at all."""
    kind = value.type.tensor_type
    return kind.HasField("shape") and not all(size.HasField("dim_value") for size in kind.shape.dim)


def lowest_pads(graph: onnx.ModelProto) -> list[str]:
    """No padding with minus infinity, which becomes float16 in front of a pool."""
    found, view = [], View(graph)
    for node in nodes(graph.graph):
        if node.op_type == "Pad":
            value = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else attribute(node, "value")
            if value is not None and np.size(value) and np.min(value) <= np.finfo(np.float32).min:
                found.append(node.name or node.output[0])
    return found and [
        f"paddings with minus infinity ({', '.join(found[:SHOWN])}, {len(found)} in all), which the guide takes out:"
        " declare fuse_pad_into_maxpool (exact) or pad_maxpool_with_zero (the guide's) under patches.ascend, and"
        " compile patched.onnx"
    ]


def stated_shape(graph: onnx.ModelProto, text: str) -> list[str]:
    """--input_shape names the graph's inputs, with their number of dimensions and their sizes."""
    own = inputs_of(graph)
    stated = {}
    for entry in text.split(";"):
        name, _, sizes = entry.rpartition(":")
        stated[name] = [int(size) for size in sizes.split(",")]
    found = []
    for name, sizes in stated.items():
        if name not in own:
            found.append(f"input_shape names {name!r}, the graph's inputs are {', '.join(own)} (E10016): correct it")
        elif len(sizes) != len(own[name]):
            found.append(
                f"input_shape gives {name} {len(sizes)} dimensions, the graph has {len(own[name])} (E10049): correct it"
            )
        elif any(isinstance(a, int) and a not in (0, b) for a, b in zip(own[name], sizes, strict=True)):
            found.append(f"input_shape gives {name} {sizes}, the graph has {own[name]}: correct it, or export again")
    missing = [name for name in own if name not in stated]
    return found + [f"input_shape lacks the graph's input {name}: add it" for name in missing]


def same_bytes(model: dict, options: dict) -> list[str]:
    """Two float outputs of one size can only be told apart by their order, which --out_nodes fixes."""
    sizes = [(entry["dtype"], math.prod(entry["shape"])) for entry in model["outputs"]]
    twins = [entry["name"] for entry, size in zip(model["outputs"], sizes, strict=True) if sizes.count(size) > 1]
    if not twins or "out_nodes" in options:
        return []
    return [
        f"outputs {', '.join(twins)} have one type and size, and CANN's versions order outputs differently: set"
        " out_nodes: contract under compile.ascend"
    ]


def foreign_patches(graph: onnx.ModelProto, chip: str) -> list[str]:
    """The patches that Ascend needs are there, and none that only another chip's toolchain wants."""
    found = []
    if any(cast_roi_concat_to_float16.is_roi_concat(graph.graph, node) for node in graph.graph.node):
        found.append(
            "the rois of RoiAlign join a constant and boxes, which atc makes float16 and float32 and then refuses:"
            " declare cast_roi_concat_to_float16 under patches.ascend, and compile patched.onnx, not simplified.onnx"
        )
    narrow = {tensor.name for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.INT32}
    shaped = [node for node in graph.graph.node if node.op_type == "Reshape" and node.input[1] in narrow]
    if shaped and chip != WITHOUT_INT64:
        found.append(
            f"shapes are int32 (int64_to_int32 without keep_required), which is for the toolchain of {WITHOUT_INT64};"
            f" {chip} takes the graph as it is: declare that patch under patches.ascend310 only"
        )
    return found


def tuning(options: dict, version: tuple[int, int]) -> list[str]:
    if "auto_tune_mode" in options and version >= FIRST_WITHOUT_TUNING:
        return ["auto_tune_mode is gone since CANN 7: remove it, and tune with AOE if need be"]
    return []


def output_type(options: dict) -> list[str]:
    """Outputs stay as declared; half a float32 file could not be told from a float16 one."""
    if options.get("output_type", "FP32").rsplit(":", 1)[-1] != "FP32":
        return ["output_type must be FP32, because the declared outputs are float32: remove it"]
    return []


def precision(options: dict, version: tuple[int, int]) -> list[str]:
    """The old option or the new one; lists of operators only with what they are for."""
    found = []
    if "precision_mode" in options and "precision_mode_v2" in options:
        found.append("precision_mode and precision_mode_v2 exclude each other (E10001): remove one")
    if "precision_mode_v2" in options and version < FIRST_WITH_PRECISION_V2:
        found.append("precision_mode_v2 is of CANN 7 and later: use precision_mode")
    if "optypelist_for_implmode" in options and "op_select_implmode" not in options:
        found.append("optypelist_for_implmode says nothing without op_select_implmode: add it")
    return found


def missing_nodes(graph: onnx.ModelProto, options: dict) -> list[str]:
    """--out_nodes names NODE:INDEX or outputs of the graph."""
    made = {f"{node.name}:{i}" for node in graph.graph.node for i in range(len(node.output))}
    made |= {value.name for value in graph.graph.output}
    unknown = [entry for entry in options.get("out_nodes", "").split(";") if entry and entry not in made]
    return unknown and [
        f"out_nodes names {', '.join(unknown)}, which the graph lacks (E10016): give NODE:INDEX or names of outputs"
        f" ({', '.join(value.name for value in graph.graph.output)}), or contract"
    ]


def half_inputs(graph: onnx.ModelProto, model: dict, options: dict) -> list[str]:
    """--input_fp16_nodes names inputs, and none that AIPP makes from pixels."""
    wanted = [name for name in options.get("input_fp16_nodes", "").split(";") if name]
    own = inputs_of(graph)
    unknown = [name for name in wanted if name not in own]
    if unknown:
        return [
            f"input_fp16_nodes names {', '.join(unknown)}, the graph's inputs are {', '.join(own)} (E10016): correct it"
        ]
    if wanted and "insert_op_conf" in options:
        return [f"input_fp16_nodes: {', '.join(wanted)} has AIPP, which feeds it (E10034): remove one of the two"]
    return wanted and [f"input_fp16_nodes: shards of {model['name']} hold float32: remove it"]


def dynamic_options(options: dict) -> list[str]:
    """No dynamic shapes by way of the extra options either."""
    found = [name for name in map(option_name, options.get("extra", [])) if name in DYNAMIC_OPTIONS]
    more = ", and no two go together (E10009)" if len(found) > 1 else ""
    return found and [f"extra: {', '.join(found)}: a compiled model here has one shape{more}: remove them"]
