"""What the simulated device computes: the ONNX graph in ONNX Runtime, with float16 where an AI core has it.

`lower` edits the graph when atc builds it. With the default precision (force_fp16) the weights of convolutions and
matrix products are rounded to float16, as are their results, the network's input and its float outputs; everything
between is float32. Types that a device does not mind are made what ONNX Runtime insists on: rois of RoiAlign may be
float16, shapes and counts may be int32. Operators of operators.py split the graph: what is between them runs as
sessions, they themselves in numpy.
"""

import json
import time
from collections.abc import Container
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from sim import machine
from sim.operators import OPERATORS

MAGIC = b"IMOD simulated by detport tests/ascend\n"
MATRIX_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
EXACT = ("force_fp32", "must_keep_origin_dtype")
# Inputs that ONNX Runtime wants in one type and the device takes in another, by operator and position.
INTEGERS = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "Pad", "Unsqueeze", "Squeeze", "Split"), (1,)),
    **dict.fromkeys(("ReduceSum", "ScatterND", "GatherND"), (1,)),
    "ConstantOfShape": (0,),
    "Slice": (1, 2, 3, 4),
    "RoiAlign": (2,),
}
FLOATS = {"RoiAlign": (0, 1)}


class DeviceError(Exception):
    """The model cannot be loaded or executed."""


def save(path: Path, meta: dict, model: onnx.ModelProto) -> None:
    """Write a simulated .om."""
    machine.write(path, MAGIC + json.dumps(meta).encode() + b"\n" + model.SerializeToString())


def load(path: Path, device: int) -> "Model":
    """Open an .om on a device; one that was built for another chip, or is cut, is refused."""
    try:
        magic, meta, graph = path.read_bytes().split(b"\n", 2)
        model = onnx.load_from_string(graph)
    except (ValueError, OSError, DecodeError) as error:
        raise DeviceError(f"model file {path} is broken: {error}") from error
    if magic + b"\n" != MAGIC or machine.failure("load") is not None:
        raise DeviceError(f"{path} is no om")
    meta = json.loads(meta)
    if machine.failure("wrong_soc") is not None or meta["soc_version"] != machine.soc(device):
        raise DeviceError(f"{path} was built for {meta['soc_version']}, device {device} is {machine.soc(device)}")
    machine.lasts("ASCEND_SIM_LOAD_S", 0.0)
    return Model(path, meta, model)


def lower(model: onnx.ModelProto, precision: str, kept: Container[str] = ()) -> onnx.ModelProto:
    """The graph as the device would compute it; the nodes that are kept stay float32."""
    halved = {node.output[0] for node in model.graph.node if node.op_type in MATRIX_OPERATORS and node.name not in kept}
    nodes = []
    for i, node in enumerate(model.graph.node):
        for position in INTEGERS.get(node.op_type, ()):
            nodes += retype(node, position, TensorProto.INT64, f"sim_{i}_{position}")
        for position in FLOATS.get(node.op_type, ()):
            nodes += retype(node, position, TensorProto.FLOAT, f"sim_{i}_{position}")
        nodes.append(node)
        if node.output[0] in halved and precision not in EXACT:
            result, wide, half = node.output[0], f"sim_{i}_wide", f"sim_{i}_half"
            node.output[0] = wide
            nodes.append(helper.make_node("Cast", [wide], [half], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [half], [result], to=TensorProto.FLOAT))
    weights = {
        name for node in nodes if node.op_type in MATRIX_OPERATORS and node.name not in kept for name in node.input
    }
    if precision not in EXACT:
        for tensor in model.graph.initializer:
            if tensor.name in weights and tensor.data_type == TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(tensor)), tensor.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    return model


def retype(node: onnx.NodeProto, position: int, kind: int, name: str) -> list[onnx.NodeProto]:
    """A Cast before an input that is there; the input reads it afterwards."""
    if position >= len(node.input) or not node.input[position]:
        return []
    cast = helper.make_node("Cast", [node.input[position]], [name], to=kind)
    node.input[position] = name
    return [cast]


def rounded(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond 65504 float16 is infinite, on the device too
        return array.astype(np.float16).astype(array.dtype)


class Model:
    """A loaded .om: `run` takes one array per input and gives one per output, in the order of the .om. With `dump` set,
    `dumped` are the tensors of the last run."""

    dump = False

    def __init__(self, path: Path, meta: dict, model: onnx.ModelProto) -> None:
        self.path, self.meta, self.model = path, meta, model
        self.inputs = meta["inputs"]  # name, shape, dtype of what the host feeds
        self.exact = meta["precision_mode"] in EXACT
        self.steps = split(model.graph)
        self.sessions: dict[int, onnxruntime.InferenceSession] = {}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def bytes_per_input(self) -> list[int]:
        return [int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize for entry in self.inputs]

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        began = time.perf_counter()
        found = self.compute(arrays)
        machine.lasts("ASCEND_SIM_LATENCY_S", time.perf_counter() - began)
        return found

    def compute(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        values = dict(self.constants)
        for entry, array in zip(self.inputs, arrays, strict=True):
            array = array.reshape(entry["shape"])
            if self.meta["aipp"]:
                array = image_preprocessing(array, self.meta["aipp"])
            values[entry["name"]] = array if self.exact or array.dtype != np.float32 else rounded(array)
        for i, step in enumerate(self.steps):
            if step[0].op_type in OPERATORS:
                self.run_operator(step[0], values)
            else:
                self.run_segment(i, step, values)
        self.dumped = values if self.dump else {}
        return [self.output(entry, values[entry["name"]]) for entry in self.meta["outputs"]]

    def run_operator(self, node: onnx.NodeProto, values: dict[str, np.ndarray]) -> None:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        inputs = [values[name] if name else None for name in node.input]
        results = OPERATORS[node.op_type](inputs, attributes)
        values.update({name: result for name, result in zip(node.output, results, strict=False) if name})

    def run_segment(self, i: int, nodes: list[onnx.NodeProto], values: dict[str, np.ndarray]) -> None:
        made = {name for node in nodes for name in node.output}
        read = list(dict.fromkeys(name for node in nodes for name in node.input if name and name not in made))
        fed = [name for name in read if name not in self.constants]
        if i not in self.sessions:
            inner = onnx.ModelProto()
            inner.CopyFrom(self.model)
            graph = helper.make_graph(
                nodes,
                f"segment {i}",
                [described(name, values[name]) for name in fed],
                [helper.make_empty_tensor_value_info(name) for name in self.needed(i, made)],
                [tensor for tensor in self.model.graph.initializer if tensor.name in read],
            )
            inner.graph.CopyFrom(graph)
            self.sessions[i] = open_session(inner)
        session = self.sessions[i]
        results = session.run(None, {name: values[name] for name in fed})
        values.update(zip((value.name for value in session.get_outputs()), results, strict=True))

    def needed(self, i: int, made: set[str]) -> list[str]:
        """What later steps, or the host, read of a segment."""
        if self.dump:
            return sorted(made - {""})
        later = {name for step in self.steps[i + 1 :] for node in step for name in node.input}
        later |= {entry["name"] for entry in self.meta["outputs"]}
        return sorted(made & later)

    def output(self, entry: dict, array: np.ndarray) -> np.ndarray:
        array = array if self.exact or array.dtype != np.float32 else rounded(array)
        return np.ascontiguousarray(array.astype(entry["dtype"]))


def split(graph: onnx.GraphProto) -> list[list[onnx.NodeProto]]:
    """The nodes in order, cut before and after each operator that ONNX Runtime does not run."""
    steps: list[list[onnx.NodeProto]] = []
    open_end = False
    for node in graph.node:
        special = node.op_type in OPERATORS
        if special or not open_end:
            steps.append([])
        steps[-1].append(node)
        open_end = not special
    return steps


def described(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Higher levels undo what the graph means on the device, such as a zero before a pool.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError) as error:
        raise DeviceError(str(error)) from error


def image_preprocessing(image: np.ndarray, aipp: dict) -> np.ndarray:
    """AIPP's order of work for RGB888_U8: channel swap, then (in - mean - min) * var_reci; uint8 NHWC to float NCHW."""
    pixels = image[..., ::-1] if aipp["rbuv_swap_switch"] else image
    mean = np.array(aipp["mean"], np.float32) + np.array(aipp["min"], np.float32)
    result = (pixels.astype(np.float32) - mean) * np.array(aipp["var_reci"], np.float32)
    return np.ascontiguousarray(result.transpose(0, 3, 1, 2))
