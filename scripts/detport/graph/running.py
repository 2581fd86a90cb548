"""Running a graph in ONNX Runtime as it is, to compare it with another."""

import tempfile
from pathlib import Path

import numpy as np
import onnx

from detport import cli
from detport.backends import onnxruntime
from detport.errors import Failure
from detport.graph import foreign

# ONNX Runtime's own rewriting would hide what is compared: it undoes a Pad of 0 before a MaxPool, for instance.
UNOPTIMISED = {"graph_optimization": "disabled"}


def runnable_part(
    graph: onnx.ModelProto, feeds: dict[str, np.ndarray], model: dict, threads: int
) -> dict[str, np.ndarray]:
    """The graph's outputs, or what it computes before the operators that ONNX Runtime lacks."""
    runnable = onnxruntime.kernels()
    short, found = foreign.cut_before(graph, runnable)
    count, missing = len(graph.graph.node), len(graph.graph.node) - len(short.graph.node)
    if missing:
        kinds = ", ".join(sorted({node.op_type for node in foreign.nodes(graph) if foreign.kind(node) not in runnable}))
        cli.log.info(
            "without ONNX Runtime's kernel: %s; compared up to there, %d of %d nodes are not", kinds, missing, count
        )
    outputs = [{"name": name} for name in dict.fromkeys(found.values())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(short, path)
        try:
            run = onnxruntime.open_model(path, model | {"outputs": outputs}, {"session": UNOPTIMISED}, threads)
            arrays = dict(zip((output["name"] for output in outputs), run(feeds), strict=True))
        except Failure as error:
            raise Failure(str(error).replace(str(path), "the graph")) from error
    return {what: boxes_first(what, arrays[name]) for what, name in found.items()}


def boxes_first(what: str, array: np.ndarray) -> np.ndarray:
    """Scores that enter NonMaxSuppression as [1, classes, boxes] turned, so that they are parallel to its boxes."""
    return array.swapaxes(1, 2) if what.startswith("input 1 of NonMaxSuppression") else array
