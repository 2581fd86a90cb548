"""Operators that are no standard ones, and the part of a graph before those that cannot be run."""

from collections.abc import Container

import onnx

Kind = tuple[str, str]  # domain and name of an operator

BOXES_AND_SCORES = (0, 1)  # inputs of NonMaxSuppression; the others are its limits


def nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose operator is neither a standard one nor a function that the model itself brings."""
    functions = {(function.domain, function.name) for function in model.functions}
    return [
        node
        for node in model.graph.node
        if not (kind(node)[0] == "" and onnx.defs.has(node.op_type)) and kind(node) not in functions
    ]


def kind(node: onnx.NodeProto) -> Kind:
    """Which operator a node is; the domain of the standard ones has two names."""
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def without_kernel(model: onnx.ModelProto, runnable: Container[Kind]) -> str | None:
    """What is wrong with a graph whose operators are not all `runnable`: which, with their domain, and the way out."""
    lacking = sorted({":".join(kind(node)) for node in nodes(model) if kind(node) not in runnable})
    if not lacking:
        return None
    part = "their NMS and let decode do that" if any("NMS" in each.upper() for each in lacking) else "them"
    return f"ONNX Runtime has no kernel for {', '.join(lacking)}; export without, or cut the graph before {part}"


def cut_before(model: onnx.ModelProto, runnable: Container[Kind] = ()) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The graph without foreign nodes, but for the `runnable` ones, and without what depends on them; and what it
    computes.

    Its outputs are the tensors that enter the foreign nodes and the model's outputs, as far as the rest can compute
    them; and those that enter a NonMaxSuppression, because a random image may leave nothing behind one. The dict gives
    their names; its keys say what they are and are the same before and after a simplifier, which keeps the names of
    such a node's outputs.
    """
    short = onnx.ModelProto()
    short.CopyFrom(model)
    foreign = [node for node in nodes(model) if kind(node) not in runnable]
    gone = {name for node in foreign for name in node.output}
    kept = []
    for node in model.graph.node:
        if gone & {*node.input, *node.output}:
            gone.update(node.output)
        else:
            kept.append(node)
    found = {
        f"input {slot} of {node.op_type} ({node.output[0]})": name
        for node in (*foreign, *(node for node in kept if node.op_type == "NonMaxSuppression"))
        for slot, name in enumerate(node.input)
        if name and name not in gone and (node in foreign or slot in BOXES_AND_SCORES)
    }
    found |= {output.name: output.name for output in model.graph.output if output.name not in gone}
    del short.graph.node[:], short.graph.output[:]
    short.graph.node.extend(kept)
    # ONNX Runtime infers the types of outputs that state none.
    short.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(found.values()))
    return short, found
