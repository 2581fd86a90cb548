"""atc: an ONNX graph becomes an .om, or an error code with its lines; kernel_meta and fusion_result.json litter."""

import datetime
import itertools
import os
import re
import signal
import sys
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from sim import device, flags, machine

OPTIONS = set(
    """
    model framework output weight soc_version input_format input_shape input_shape_range dynamic_batch_size
    dynamic_image_size dynamic_dims out_nodes output_type insert_op_conf precision_mode op_select_implmode
    optypelist_for_implmode keep_dtype modify_mixlist op_precision_mode auto_tune_mode buffer_optimize
    enable_small_channel input_fp16_nodes fusion_switch_file log mode om json core_type aicore_num
    disable_reuse_memory device_id debug_dir check_report save_original_model op_compiler_cache_mode
    op_compiler_cache_dir help h
    """.split()  # noqa: SIM905
)
NEWER_OPTIONS = {"precision_mode_v2"}
LOG_LEVELS = ("debug", "info", "warning", "error", "null")
MODES = ("0", "1", "3", "5", "6")
WHOLE_NUMBERS = {"device_id": (0, 255), "aicore_num": (0, 64)}  # and their limits
LONGEST_PATH = 4096
DYNAMIC = {
    "dynamic_batch_size": r"\d+(,\d+)*",
    "dynamic_image_size": r"\d+,\d+(;\d+,\d+)*",
    "dynamic_dims": r"\d+(,\d+)*(;\d+(,\d+)*)*",
}
PRECISIONS_V2 = {"fp16": "force_fp16", "origin": "must_keep_origin_dtype"}
PRECISIONS_V2 |= dict.fromkeys(("mixed_float16", "mixed_bfloat16"), "allow_mix_precision")
PRECISIONS_V2 |= {"cube_fp16in_fp32out": "cube_fp16in_fp32out"}
NEWER_CHOICES = {"op_select_implmode": ("high_performance_for_all", "high_precision_for_all")}
CHOICES = {
    "input_format": ("NCHW", "ND", "NCDHW"),
    "op_select_implmode": ("high_performance", "high_precision"),
    "precision_mode_v2": tuple(PRECISIONS_V2),
    "auto_tune_mode": ("RL", "GA", "RL,GA", "GA,RL"),
    "buffer_optimize": ("l2_optimize", "l1_optimize", "off_optimize"),
    "output_type": ("FP32", "FP16", "UINT8", "INT8"),
    "precision_mode": (
        *("force_fp16", "force_fp32", "allow_mix_precision", "allow_fp32_to_fp16", "must_keep_origin_dtype"),
        *("cube_fp16in_fp32out", "allow_mix_precision_fp16", "allow_mix_precision_bf16", "allow_fp32_to_bf16"),
    ),
}
# Operators with a parser; the ones that ONNX does not have at the end.
PARSERS = set(
    """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose
    Cos Div Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool Greater
    GreaterOrEqual GroupNormalization HardSigmoid Identity InstanceNormalization LeakyRelu Less LessOrEqual Log MatMul
    Max MaxPool Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceMax
    ReduceMean ReduceMin ReduceSum Relu Reshape Resize RoiAlign Round ScatterElements ScatterND Shape Sigmoid Sign Sin
    Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Upsample Where Xor
    BatchMultiClassNMS PSROIPooling RoiExtractor DeformableConv2D
    """.split()  # noqa: SIM905
)
OWN_OPSETS = {"BatchMultiClassNMS": (8, 16), "PSROIPooling": (8, 16)}
REMARK = (
    "W11001: Op [Slice_29] does not hit the high-priority operator information library, which might result in"
    " compromised performance."
)
AIPP_NUMBERS = re.compile(r"(mean_chn|min_chn|var_reci_chn)_([0-3])")
AIPP_KEYS = {"aipp_mode", "related_input_rank", "input_format", "src_image_size_w", "src_image_size_h"}
AIPP_KEYS |= {"csc_switch", "rbuv_swap_switch", "crop"}


class AtcError(Exception):
    """An error code with the lines that follow it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Crash(Exception):
    """The compiler dies without a code."""


class Unsupported(Exception):
    """Something that the real atc does and the simulator does not."""


def main(arguments: list[str]) -> int:
    newer = machine.cann_version() >= (7, 0)
    try:
        options = flags.parse(arguments, OPTIONS | (NEWER_OPTIONS if newer else set()))
    except flags.FlagError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    print("ATC start working now, please wait for a moment.", flush=True)
    machine.begin()
    if newer:
        print("......")
    if "help" in options or "h" in options:
        print("usage: atc <args>\n" + "\n".join(f"  --{name}" for name in sorted(OPTIONS - {"h"})))
        return 1
    try:
        build(options)
    except Crash:
        print(f"/usr/local/Ascend/atc/bin/atc: line 22: {os.getpid()} Segmentation fault      (core dumped) atc.bin")
        return 128 + signal.SIGSEGV
    except AtcError as error:
        print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
        print(f"{stamped(str(error)) if newer else error}\n        Possible Cause: the text above.")
        print("        Solution: see the Troubleshooting guide.\n        TraceBack (most recent call last):")
        return 255
    except Unsupported as error:
        print(f"[ERROR] the simulator does not do {error}")
        return 255
    print("ATC run success, welcome to the next use.")
    print(REMARK)
    return 0


def stamped(text: str) -> str:
    """Newer toolkits put process and time behind the code."""
    now = datetime.datetime.now().strftime("%Y-%m-%d-%H:%M:%S.000.000")
    return text.replace(": ", f": [PID: {os.getpid()}] {now} ", 1)


def build(options: dict[str, str]) -> None:
    check_options(options)
    Path("kernel_meta").mkdir(exist_ok=True)
    Path("fusion_result.json").write_text("{}\n", encoding="utf-8")
    model = read(options["model"])
    provoke(model)
    check_graph(model)
    shapes = check_shapes(model, options)
    outputs = choose_outputs(model, options.get("out_nodes"))
    aipp = read_aipp(options.get("insert_op_conf"), shapes)
    check_half_inputs(options.get("input_fp16_nodes"), model, aipp)
    precision = options.get("precision_mode") or PRECISIONS_V2[options.get("precision_mode_v2", "fp16")]
    types = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.INT32: "int32"}
    types |= {TensorProto.INT64: "int64", TensorProto.UINT8: "uint8", TensorProto.BOOL: "bool"}
    chosen = {"FP32": "float32", "FP16": "float16"}.get(options.get("output_type", ""))
    meta = {
        "soc_version": options["soc_version"],
        "cann": machine.cann(),
        "precision_mode": precision,
        "aipp": aipp,
        "nodes": [[node.op_type, node.name, list(node.output)] for node in model.graph.node],
        "inputs": [
            {"name": value.name, "shape": shapes[value.name], "dtype": types[value.type.tensor_type.elem_type]}
            for value in inputs_of(model)
        ],
        "outputs": [
            {"name": name, "dtype": chosen if chosen and types[kind].startswith("float") else types[kind]}
            for name, kind in outputs
        ],
    }
    if aipp:
        batch, _, height, width = meta["inputs"][0]["shape"]
        meta["inputs"][0] |= {"shape": [batch, height, width, 3], "dtype": "uint8"}
    lowered = device.lower(model, precision, read_kept(options.get("keep_dtype"), model))
    path = Path(f"{options['output']}.om")
    if machine.failure("no_om") is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        device.save(path, meta, lowered)


def check_options(options: dict[str, str]) -> None:
    for name in ("framework", "model", "output", "soc_version"):
        if not options.get(name):
            code = "E10007" if name == "framework" else "E10004"
            raise AtcError(code, f"[--{name}] is required. The value cannot be empty.")
    if options["framework"] not in ("0", "1", "3", "5"):
        raise AtcError("E10007", "[--framework] is required. The value must be 0(Caffe), 1, 3(TensorFlow) or 5(Onnx).")
    if options.get("mode", "0") not in MODES:
        raise AtcError("E10014", f"Value [{options['mode']}] for parameter [--mode] is invalid.")
    if options["framework"] == "0" and not options.get("weight"):
        raise AtcError("E10054", "[--weight] is required with the framework Caffe.")
    if options["framework"] != "5" or options.get("mode", "0") != "0":
        raise Unsupported(f"--framework={options['framework']} --mode={options.get('mode', '0')}")
    if options["output"].endswith("/"):
        raise AtcError("E10022", f"Path[{options['output']}] does not include a file name.")
    for name in ("model", "output"):
        if len(options[name]) > LONGEST_PATH:
            raise AtcError("E10021", f"Path length of [--{name}] exceeds {LONGEST_PATH}.")
    for name, (lowest, highest) in WHOLE_NUMBERS.items():
        text = options.get(name, "0")
        if not re.fullmatch(r"-?\d+", text):
            raise AtcError("E10014", f"Value [{text}] for parameter [--{name}] is invalid.")
        if not lowest <= int(text) <= highest:
            raise AtcError("E10013", f"Value [{text}] for parameter [--{name}] is out of range [{lowest}, {highest}].")
    if options.get("save_original_model", "false") not in ("true", "false"):
        raise AtcError("E10005", "Value of parameter[--save_original_model] must be true or false.")
    if options["soc_version"] not in machine.FULL_NAMES:
        raise invalid("soc_version", options["soc_version"])
    newer = machine.cann_version() >= (7, 0)
    if "auto_tune_mode" in options and newer:
        raise AtcError("E10001", "Value for --auto_tune_mode is invalid: auto tune is retired, use AOE instead.")
    for name, choices in CHOICES.items():
        allowed = choices + (NEWER_CHOICES.get(name, ()) if newer else ())
        if name in options and options[name].rsplit(":", 1)[-1] not in allowed:
            raise invalid(name, options[name])
    if "precision_mode" in options and "precision_mode_v2" in options:
        raise AtcError("E10001", "--precision_mode and --precision_mode_v2 exclude each other.")
    if "optypelist_for_implmode" in options and "op_select_implmode" not in options:
        raise AtcError("E10001", "--optypelist_for_implmode needs --op_select_implmode.")
    if "dynamic_dims" in options and "insert_op_conf" in options:
        raise AtcError("E10001", "--insert_op_conf does not go with --dynamic_dims.")
    if options.get("log", "null") not in LOG_LEVELS:
        raise AtcError("E10010", f"Value[{options['log']}] of log invalid, only support {', '.join(LOG_LEVELS)}")
    for name in ("enable_small_channel", "disable_reuse_memory"):
        if options.get(name, "0") not in ("0", "1"):
            raise AtcError("E10006", f"Value[{options[name]}] of parameter[--{name}] must be 0 or 1.")
    if sum(name in options for name in DYNAMIC) > 1:
        raise AtcError("E10009", f"{', '.join(DYNAMIC)} exclude each other.")
    for name, form in DYNAMIC.items():
        if name in options and not re.fullmatch(form, options[name]):
            raise AtcError("E10003", f"Value [{options[name]}] for parameter [--{name}] has a bad format.")
    for name in (*DYNAMIC, "input_shape_range", "modify_mixlist", "op_precision_mode"):
        if name in options:
            raise Unsupported(f"--{name}")


def invalid(name: str, value: str) -> AtcError:
    return AtcError("E10001", f"Value [{value}] for parameter [--{name}] is invalid.")


def read(path: str) -> onnx.ModelProto:
    if not Path(path).is_file():
        raise AtcError("E10410", f"Path [{path}] is empty or not exist.")
    try:
        model = onnx.load(path)
    except DecodeError:
        raise AtcError("E10041", f"Load model from [{path}] failed.") from None
    if not model.graph.node:
        raise AtcError("E10041", f"Load model from [{path}] failed.")
    return model


def provoke(model: onnx.ModelProto) -> None:
    """The failures that a test asks for."""
    if machine.failure("crash") is not None:
        raise Crash
    if machine.failure("E10016") is not None:
        raise AtcError("E10016", "Opname [x] in parameter [--out_nodes] is not found in the model.")
    if machine.failure("E19010") is not None:
        raise no_parser(model, model.graph.node[0])


def no_parser(model: onnx.ModelProto, node: onnx.NodeProto) -> AtcError:
    kind = f"{node.domain or 'ai.onnx'}::{model.opset_import[0].version}::{node.op_type}"
    return AtcError("E19010", f"No parser is registered for Op [{node.name}, optype [{kind}]].")


def check_graph(model: onnx.ModelProto) -> None:
    if len(model.opset_import) > 1:
        count = len(model.opset_import)
        raise AtcError("E16005", f"The model has [{count}] [--domain_version] fields, but only one is allowed.")
    version = model.opset_import[0].version
    highest = 18 if machine.cann_version() >= (7, 0) else 13
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in PARSERS or not 9 <= version <= highest:
            raise no_parser(model, node)
        lowest, limit = OWN_OPSETS.get(node.op_type, (9, highest))
        if not lowest <= version <= limit:
            raise no_parser(model, node)
        given = sum(1 for name in node.input if name)
        if node.op_type == "NonMaxSuppression" and given in (3, 4):
            raise Crash
        if node.op_type == "NonMaxSuppression" and given == 2:
            raise AtcError("E20007", "Failed to run graph fusion pass [NonMaxSuppressionFusionPass].")
    rois = {node.output[0] for node in model.graph.node if joins_zeros_to_boxes(model, node)}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in rois:
            raise AtcError("E89999", "Inner Error! Concat: the dtypes of x0 (float16) and x1 (float32) are different.")


def joins_zeros_to_boxes(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Concat of a constant [K, 1] with boxes, in a graph with RoiAlign: its inputs get different types."""
    if node.op_type != "Concat" or len(node.input) != 2 or not any(n.op_type == "RoiAlign" for n in model.graph.node):
        return False
    constants = {t.name: list(t.dims) for t in model.graph.initializer}
    constants |= {
        n.output[0]: list(entry.t.dims)
        for n in model.graph.node
        if n.op_type == "Constant"
        for entry in n.attribute
        if entry.name == "value"
    }
    dims = constants.get(node.input[0])
    return dims is not None and len(dims) == 2 and dims[1] == 1


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def check_shapes(model: onnx.ModelProto, options: dict[str, str]) -> dict[str, list[int]]:
    """Shape per input, from --input_shape or else from the model."""
    own = {v.name: [d.dim_value or -1 for d in v.type.tensor_type.shape.dim] for v in inputs_of(model)}
    given = {}
    for entry in filter(None, options.get("input_shape", "").split(";")):
        match = re.fullmatch(r"(.+):(-?\d+(?:,-?\d+)*)", entry)
        if not match:
            raise AtcError("E10002", f"Value [{entry}] for parameter [--input_shape] has a bad format: name:n,c,h,w")
        given[match[1]] = [int(size) for size in match[2].split(",")]
    for name, sizes in given.items():
        if name not in own:
            raise AtcError("E10016", f"Opname [{name}] in parameter [--input_shape] is not found in the model.")
        if len(sizes) != len(own[name]):
            raise AtcError("E10049", f"Dimension size of {name} in --input_shape is {len(sizes)}, {len(own[name])} in")
        if -1 in sizes:
            raise invalid("input_shape", options["input_shape"])
        if min(sizes) < 1:
            raise AtcError("E10011", f"Dimension of {name} in --input_shape must be positive.")
        if any(a not in (-1, b) for a, b in zip(own[name], sizes, strict=True)):
            raise AtcError("E19999", f"Inner Error! InferShape failed for the input {name}.")
    shapes = own | given
    for name, sizes in shapes.items():
        if -1 in sizes:
            raise AtcError("E10001", f"Value [-1] for the shape of [{name}] is invalid without a dynamic option.")
    return shapes


def choose_outputs(model: onnx.ModelProto, out_nodes: str | None) -> list[tuple[str, int]]:
    """Name and type of the outputs in the order of the .om: --out_nodes, else by the toolkit's age."""
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.output}
    if not out_nodes:
        names = list(kinds)
        if machine.cann_version() < (5, 1):  # leaves in the order of the nodes
            made = [name for node in model.graph.node for name in node.output]
            names.sort(key=made.index)
        return [(name, kinds[name]) for name in names]
    nodes = {node.name: node for node in model.graph.node}
    chosen = []
    for entry in out_nodes.split(";"):
        name, _, position = entry.rpartition(":")
        if entry in kinds:
            tensor = entry
        elif name in nodes and position.isdigit() and int(position) < len(nodes[name].output):
            tensor = nodes[name].output[int(position)]
        else:
            raise AtcError("E10016", f"Opname [{entry}] in parameter [--out_nodes] is not found in the model.")
        chosen.append((tensor, kinds.get(tensor) or inferred_type(model, tensor)))
    return chosen


def check_half_inputs(text: str | None, model: onnx.ModelProto, aipp: dict | None) -> None:
    for name in filter(None, (text or "").split(";")):
        if name not in [value.name for value in inputs_of(model)]:
            raise AtcError("E10016", f"Opname [{name}] in parameter [--input_fp16_nodes] is not found in the model.")
        if aipp:
            raise AtcError("E10034", f"Nodes [{name}] in parameter [--input_fp16_nodes] has been set with AIPP.")
        raise Unsupported("--input_fp16_nodes")


def inferred_type(model: onnx.ModelProto, tensor: str) -> int:
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        if value.name == tensor:
            return value.type.tensor_type.elem_type
    return helper.np_dtype_to_tensor_dtype("float32")


def read_kept(path: str | None, model: onnx.ModelProto) -> set[str]:
    """Names of the operators that a keep_dtype file keeps: a name in each line, or a type as OpType::Conv."""
    if path is None:
        return set()
    if not Path(path).is_file():
        raise AtcError("E10410", f"Path [{path}] is empty or not exist.")
    lines = {line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()}
    return {node.name for node in model.graph.node if {node.name, f"OpType::{node.op_type}"} & lines}


def read_aipp(path: str | None, shapes: dict[str, list[int]]) -> dict | None:
    """A static AIPP for one RGB888_U8 input."""
    if path is None:
        return None
    if not Path(path).is_file():
        raise AtcError("E13001", f"Open file [{path}] failed.")
    text = Path(path).read_text(encoding="utf-8")
    block = re.fullmatch(r"\s*aipp_op\s*\{(.*)\}\s*", text, re.DOTALL)
    pairs = re.findall(r"(\w+)\s*:\s*(\S+)", block[1]) if block else []
    values = dict(pairs)
    unknown = [key for key in values if key not in AIPP_KEYS and not AIPP_NUMBERS.fullmatch(key)]
    first = next(iter(shapes.values()))
    if len(first) != 4:
        raise AtcError("E10052", f"AIPP file content is invalid: the input has {len(first)} dimensions")
    _, _, height, width = first
    size = (values.get("src_image_size_w", str(width)), values.get("src_image_size_h", str(height)))
    if unknown or len(pairs) != len(values) or size != (str(width), str(height)):
        raise AtcError("E10052", f"AIPP file content is invalid: {', '.join(unknown) or size}")
    if values.get("aipp_mode") != "static" or values.get("input_format") != "RGB888_U8":
        raise AtcError("E10052", "AIPP file content is invalid: aipp_mode or input_format")
    if values.get("related_input_rank", "0") != "0" or values.get("csc_switch", "false") != "false":
        raise AtcError("E10052", "AIPP file content is invalid: related_input_rank or csc_switch")
    numbers = dict.fromkeys(itertools.product(("mean_chn", "min_chn"), "012"), 0.0)
    numbers |= dict.fromkeys(itertools.product(("var_reci_chn",), "012"), 1.0)
    for key, value in values.items():
        match = AIPP_NUMBERS.fullmatch(key)
        if match and match[1] == "mean_chn" and not re.fullmatch(r"\d{1,3}", value):
            raise AtcError("E10052", f"AIPP file content is invalid: {key} must be an integer from 0 to 255")
        if match and not re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value):
            raise AtcError("E10052", f"AIPP file content is invalid: {key}: {value}")
        if match:
            numbers[match[1], match[2]] = float(value)
    return {
        "rbuv_swap_switch": values.get("rbuv_swap_switch", "false") == "true",
        **{short: [numbers[f"{short}_chn", channel] for channel in "012"] for short in ("mean", "min", "var_reci")},
    }
