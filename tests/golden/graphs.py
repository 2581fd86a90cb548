"""ONNX graphs in golden tests: export, run, read."""

import io

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn


def export(model: nn.Module, image: Tensor, names: list[str], opset: int) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.onnx.export(
        model, (image,), file, dynamo=False, opset_version=opset, input_names=["input.1"], output_names=names
    )
    return onnx.load_from_string(file.getvalue())


def run_onnx(model: onnx.ModelProto, image: Tensor) -> dict[str, np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input.1": image.numpy()}), strict=True))


def outputs_of(model: onnx.ModelProto) -> list[tuple[list[int], int]]:
    """Shape and element type of every output of the graph."""
    types = [output.type.tensor_type for output in model.graph.output]
    return [([side.dim_value for side in t.shape.dim], t.elem_type) for t in types]


def attributes(node: onnx.NodeProto) -> dict:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def constant(model: onnx.ModelProto, name: str) -> list[int]:
    """Value of a constant tensor of the graph."""
    tensors = {x.name: x for x in model.graph.initializer}
    tensors |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    return onnx.numpy_helper.to_array(tensors[name]).tolist()
