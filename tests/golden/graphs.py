"""ONNX graphs in golden tests: export, run, read."""

import io
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from torch import Tensor, nn

from detport.backends import openvino as backend


def input_names(count: int) -> list[str]:
    return [f"input.{i + 1}" for i in range(count)]


def export(model: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], opset: int) -> onnx.ModelProto:
    """The graph as the tracing exporter writes it, with inputs input.1, input.2, ..."""
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            model,
            tuple(inputs),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=input_names(len(inputs)),
            output_names=list(names),
        )
    return onnx.load_from_string(file.getvalue())


def run_onnx(model: onnx.ModelProto, inputs: Sequence[Tensor], optimise: bool = True) -> dict[str, np.ndarray]:
    """Outputs by name, in the graph's order."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    if not optimise:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = dict(zip(input_names(len(inputs)), (x.numpy() for x in inputs), strict=True))
    return dict(zip(names, session.run(names, feeds), strict=True))


def run_openvino(model: onnx.ModelProto, inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """The same by OpenVINO, as its backend has it, in float32."""
    core, options = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    opened = core.compile_model(backend.read(core, model.SerializeToString()), "CPU", options)
    found = opened(dict(zip(input_names(len(inputs)), (x.numpy() for x in inputs), strict=True)))
    return {output.name: found[output.name] for output in model.graph.output}


RUNNERS = (run_onnx, run_openvino)


def outputs_of(model: onnx.ModelProto) -> list[tuple[list[int], int]]:
    """Shape and element type of every output of the graph."""
    types = [output.type.tensor_type for output in model.graph.output]
    return [([side.dim_value for side in t.shape.dim], t.elem_type) for t in types]


def attributes(node: onnx.NodeProto) -> dict:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
