"""The simulated tools on the PATH, and a tiny network that they compile and run in milliseconds."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
SIDE = 8


def simulated(**variables: str) -> dict[str, str]:
    """An environment in which the simulated tools come first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASCEND")}
    path = os.pathsep.join([str(HERE / "bin"), str(Path(sys.executable).parent), kept["PATH"]])
    own = {"PATH": path, "PYTHONPATH": str(HERE / "python"), "OMP_NUM_THREADS": "1"}
    return kept | own | {f"ASCEND_SIM_{name.upper()}": value for name, value in variables.items()}


def tiny_graph() -> onnx.ModelProto:
    """Conv to two maps; a score per cell and the index of the higher map."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.standard_normal((2, 3, 3, 3)).astype(np.float32), "w")]
    weights.append(numpy_helper.from_array(np.array([1, SIDE * SIDE]), "flat"))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["maps"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("ArgMax", ["maps"], ["higher"], name="argmax", axis=1, keepdims=0),
        helper.make_node("Cast", ["higher"], ["higher32"], name="cast", to=TensorProto.INT32),
        helper.make_node("Reshape", ["higher32", "flat"], ["best"], name="reshape_best"),
        helper.make_node("ReduceMax", ["maps"], ["top"], name="max", axes=[1], keepdims=0),
        helper.make_node("Reshape", ["top", "flat"], ["scores"], name="reshape_scores"),
    ]
    sizes = {"scores": [1, SIDE * SIDE], "best": [1, SIDE * SIDE], "maps": [1, 2, SIDE, SIDE]}
    kinds = {"best": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in sizes.items()],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
