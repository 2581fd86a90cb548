"""Normalisation as the first nodes of a graph, for backends that have no device for it."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def fold(model: onnx.ModelProto, size: dict, settings: dict) -> None:
    """Let the graph take pixels [1, H, W, 3], RGB uint8, in place of the normalised tensor [1, 3, H, W]."""
    name = size["name"]
    graph = model.graph
    normalised = f"{name}_normalised"
    for node in graph.node:
        node.input[:] = [normalised if tensor == name else tensor for tensor in node.input]
    order = np.array([2, 1, 0] if settings["channels"] == "BGR" else [0, 1, 2])
    constants = {"order": order}
    for key in ("mean", "std"):
        constants[key] = np.array(settings[key], np.float32).reshape(1, 3, 1, 1)
    graph.initializer.extend(numpy_helper.from_array(value, f"{name}_{key}") for key, value in constants.items())
    steps = [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        ("Gather", [f"{name}_order"], {"axis": 1}),
        ("Sub", [f"{name}_mean"], {}),
        ("Div", [f"{name}_std"], {}),
    ]
    source = name
    for i, (kind, more, attributes) in enumerate(steps):
        result = normalised if kind == "Div" else f"{name}_{kind.lower()}"
        node = helper.make_node(kind, [source, *more], [result], name=f"normalise_{kind.lower()}", **attributes)
        graph.node.insert(i, node)
        source = result
    value = next(value for value in graph.input if value.name == name)
    shape = [1, size["height"], size["width"], 3]
    value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
