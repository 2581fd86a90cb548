"""What an ONNX file says of itself: inputs, outputs, operators, metadata, and what in it caps or breaks accuracy."""

import ast
import json
from collections import Counter
from typing import NamedTuple

import onnx

from detport.graph import contract, foreign, limits

NAMES = ("names", "character", "classes", "class_names", "labels")  # metadata that have held the names of classes
STANDARD = ("", "ai.onnx")


class Tensor(NamedTuple):
    """An input or output as the graph states it; None is a length that it leaves open."""

    name: str
    dtype: str
    shape: list[int | None] | None


class Facts(NamedTuple):
    """All that a file says, without running it."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    opset: int
    producer: str
    operators: dict[str, int]
    foreign: list[str]
    metadata: dict[str, object]
    limits: list[dict]
    caps: list[str]


def facts(model: onnx.ModelProto) -> Facts:
    """What a graph says of itself."""
    operators = Counter(operator(node) for node in model.graph.node)
    return Facts(
        inputs=[tensor(value) for value in contract.graph_inputs(model)],
        outputs=[tensor(value) for value in model.graph.output],
        opset=next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0),
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        operators=dict(sorted(operators.items())),
        foreign=sorted({operator(node) for node in foreign.nodes(model)}),
        metadata={entry.key: literal(entry.value) for entry in model.metadata_props},
        limits=limits.found(model),
        caps=limits.capping(model),
    )


def operator(node: onnx.NodeProto) -> str:
    """The operator of a node, with its domain where that is not the standard one."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}:{node.op_type}"


def tensor(value: onnx.ValueInfoProto) -> Tensor:
    """An input or output."""
    return Tensor(value.name, contract.kind_of(value), contract.lengths_of(value))


def literal(text: str) -> object:
    """A value of the metadata, which are texts: Python's literals, JSON, or text."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return text


def class_names(metadata: dict[str, object]) -> tuple[str, list[str]] | None:
    """The key of the metadata that holds the names of the classes, and these in order."""
    for key in NAMES:
        value = metadata.get(key)
        if isinstance(value, str) and len(value.split("\n")) > 1:
            value = [line.strip() for line in value.strip().split("\n")]
        if isinstance(value, dict) and sorted(map(str, value)) == sorted(map(str, range(len(value)))):
            numbered = {str(number): name for number, name in value.items()}
            value = [numbered[str(i)] for i in range(len(value))]
        if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name for name in value):
            return key, list(value)
    return None


def image_size(metadata: dict[str, object]) -> tuple[int, int] | None:
    """Height and width of `imgsz`."""
    size = metadata.get("imgsz")
    size = [size, size] if isinstance(size, int) else size
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
        return tuple(size)
    return None


def warnings(found: Facts) -> list[str]:
    """What in the file caps or breaks accuracy, or keeps it from running, one line each."""
    lines = list(found.caps)
    outputs = {output.name: output for output in found.outputs}
    pair = [outputs.get("dets"), outputs.get("labels")]
    if all(pair) and pair[1].dtype.startswith("float") and pair[1].shape and len(pair[1].shape) == 3:
        lines.append("labels holds logits of every class, not labels, whatever mmdeploy's files of that name hold")
    if found.foreign:
        lines.append(f"operators that are no standard ones: {', '.join(found.foreign)}; {FOREIGN}")
    return lines


FOREIGN = "ONNX Runtime needs a kernel for them. Export without them, or cut the graph before them"


def text(found: Facts) -> list[str]:
    """The facts as lines."""
    lines = [f"opset {found.opset}, by {found.producer or 'nobody who says so'}"]
    for title, tensors in (("inputs", found.inputs), ("outputs", found.outputs)):
        lines += [title, *(f"  {each.name}: {form(each)}" for each in tensors)]
    count = sum(found.operators.values())
    lines.append(f"operators ({count} nodes)")
    lines.append(f"  {', '.join(f'{name} {number}' for name, number in found.operators.items())}")
    if found.metadata:
        lines += ["metadata", *(f"  {key}: {shortened(value)}" for key, value in found.metadata.items())]
    if found.limits:
        lines += ["limits inside the graph", *(f"  {limits.in_words(each)}" for each in found.limits)]
    return lines


def form(each: Tensor) -> str:
    """Type and shape in words."""
    return f"{each.dtype} {contract.listed(each.shape) if each.shape is not None else 'of any shape'}"


def shortened(value: object, most: int = 100) -> str:
    """The beginning of a value, in one line."""
    shown = " ".join(str(value).split())
    return shown if len(shown) <= most else f"{shown[:most]}…"
