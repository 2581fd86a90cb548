"""Running a graph node by node, each in a session of its own, with every tensor at hand.

ONNX Runtime rewrites nothing across nodes then: it fuses none, and where the CPU has no float16 kernel and computes a
node in float32 in its place, the result is rounded to float16 before the next node reads it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from detport.backends.onnxruntime import REFUSALS
from detport.errors import Failure
from detport.graph.view import INNER_GRAPHS, used_names

Arrays = dict[str, np.ndarray]
Give = Callable[[Collection[str]], Arrays]


def name_of(node: onnx.NodeProto) -> str:
    """What a node is called here: its name, or its first output's if it has none."""
    return node.name or next(name for name in node.output if name)


def reads(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node reads, each once, those of its inner graphs included."""
    inner = [graph for item in node.attribute if item.type in INNER_GRAPHS for graph in (item.g, *item.graphs)]
    return list(dict.fromkeys(name for name in (*node.input, *(x for g in inner for x in used_names(g))) if name))


def runner(model: onnx.ModelProto, threads: int) -> Callable[[onnx.NodeProto, list[Arrays]], list[Arrays]]:
    """A function that runs one node of a graph on values of the tensors that it reads, once for each of several."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what stops it is an exception
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False  # it would keep the largest tensor of every node

    def run(node: onnx.NodeProto, values: list[Arrays]) -> list[Arrays]:
        needed = reads(node)
        made = [name for name in node.output if name]
        fed = [name for name in needed if name in values[0]]
        part = helper.make_graph(
            [node],
            "node",
            [described(name, [each[name] for each in values]) for name in fed],
            [onnx.ValueInfoProto(name=name) for name in made],  # ONNX Runtime infers their types
            [weights[name] for name in needed if name in weights and name not in values[0]],
        )
        whole = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
        whole.functions.extend(model.functions)
        try:
            session = onnxruntime.InferenceSession(
                whole.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            runs = [session.run(made, {name: each[name] for name in fed}) for each in values]
        except REFUSALS as error:
            raise Failure(
                f"node {name_of(node)} ({node.op_type}): ONNX Runtime does not run it: {str(error).splitlines()[0]}"
            ) from error
        return [dict(zip(made, arrays, strict=True)) for arrays in runs]

    return run


def described(name: str, arrays: list[np.ndarray]) -> onnx.ValueInfoProto:
    """A tensor of the arrays' type and lengths, open where they differ: two runs may have another number of boxes."""
    lengths = [sides[0] if len(set(sides)) == 1 else None for sides in zip(*(x.shape for x in arrays), strict=True)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(arrays[0].dtype), lengths)


def stepper(model: onnx.ModelProto, feeds: Arrays, threads: int, asked: Iterable[str]) -> tuple[Give, Arrays]:
    """A function that gives tensors of a graph, by name, running what has not been run yet; and what it holds.

    Each tensor of `asked` may be asked for as often as it is there, and then is let go, as is any other when the last
    node that reads it has run.
    """
    producers = {name: node for node in model.graph.node for name in node.output if name}
    left = Counter(name for node in model.graph.node for name in reads(node))
    left.update(asked)
    run, held = runner(model, threads), dict(feeds)

    def give(names: Collection[str]) -> Arrays:
        for node in missing(names, producers, held):
            [made] = run(node, [held])
            held.update({name: array for name, array in made.items() if left[name] > 0})
            let_go(reads(node), left, held)
        found = {name: held[name] for name in names}
        let_go(names, left, held)
        return found

    return give, held


def let_go(names: Iterable[str], left: Counter, *holders: Arrays) -> None:
    """Count one reader of each tensor off, and drop those that nobody is going to read any more."""
    for name in names:
        left[name] -= 1
        if left[name] <= 0:
            for held in holders:
                held.pop(name, None)


def missing(names: Iterable[str], producers: dict[str, onnx.NodeProto], held: Arrays) -> list[onnx.NodeProto]:
    """The nodes behind some tensors that have not been run, each behind those that it needs; converters leave them in
    any order."""
    found: dict[int, onnx.NodeProto] = {}
    waiting = [(name, False) for name in names]
    while waiting:
        name, ready = waiting.pop()
        node = producers.get(name)
        if name in held or node is None or id(node) in found:
            continue
        if ready:
            found[id(node)] = node
        else:
            waiting += [(name, True), *((each, False) for each in reads(node))]
    return list(found.values())
