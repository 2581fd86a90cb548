"""Named edits of an ONNX graph, found by pattern and held to a contract.

A patch is a function from a model, which it edits, to the number of places where its pattern was found. The model's
yaml declares how many places it expects and how many nodes of each type appear and disappear; of a patch that says
what it changed in more detail (Changes), that too.
"""

import inspect
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import onnx
from onnx import helper

from detport.errors import Failure, UsageError
from detport.graph import int64
from detport.graph.pools import fuse_pad_into_maxpool, pad_maxpool_with_zero
from detport.graph.view import attribute, given


class Changes(NamedTuple):
    """What a patch did."""

    matches: int
    changed: dict[str, int]  # number by kind, without zeros
    remarks: list[str]  # for the log


def apply(model: onnx.ModelProto, patch: dict) -> Changes:
    """Apply one declared patch; raise Failure where its contract does not hold."""
    name = patch["name"]
    known = list(inspect.signature(PATCHES[name]).parameters)[1:]
    for option in patch["options"]:
        if option not in known:
            raise UsageError(f"patch {name}: options.{option}: it has {', '.join(known) or 'no options'}")
    before = Counter(node.op_type for node in model.graph.node)
    found = PATCHES[name](model, **patch["options"])
    changes = found if isinstance(found, Changes) else Changes(int(found), {}, [])
    if changes.matches != patch["matches"]:
        raise Failure(
            f"patch {name}: its pattern is {changes.matches} times in the graph, {patch['matches']} expected;"
            " the graph comes from another exporter or is patched already"
        )
    if changes.changed != patch["changed"]:
        raise Failure(f"patch {name}: changed declares {patch['changed']}, the patch changed {changes.changed}")
    after = Counter(node.op_type for node in model.graph.node)
    for change, found in (("before", before - after), ("after", after - before)):
        if dict(found) != patch[change]:
            raise Failure(f"patch {name}: {change} declares {patch[change]}, the graph's change is {dict(found)}")
    return changes


def int64_to_int32(model: onnx.ModelProto, keep_required: bool = True) -> Changes:
    """Everything int64 that may be int32, or with keep_required false simply everything; see detport.graph.int64."""
    counts = int64.int64_to_int32(model, keep_required)
    beyond = counts.pop("beyond_int32")
    changed = {kind: count for kind, count in (counts | {"beyond_int32": len(beyond)}).items() if count}
    remarks = [f"constant {name} has values beyond int32; they are saturated" for name in beyond]
    return Changes(sum(counts.values()), changed, remarks)


def cast_roi_concat_to_float16(model: onnx.ModelProto) -> int:
    """Cast both inputs of the Concat that joins a constant batch index and the boxes to the rois of RoiAlign.

    atc makes the constant float16 and the boxes float32 and then refuses to join them. The guide inserts its Casts by
    position and by the name Concat_742, which fit one exporter only. Not valid ONNX afterwards (the rois are float16
    and the features float32), so only for atc.
    """
    graph = model.graph
    found = [node for node in graph.node if is_roi_concat(graph, node)]
    for concat in found:
        position = list(graph.node).index(concat)
        for i, source in enumerate(concat.input):
            cast_name = f"{concat.output[0]}_input_{i}_float16"
            cast = helper.make_node("Cast", [source], [cast_name], name=cast_name, to=onnx.TensorProto.FLOAT16)
            graph.node.insert(position + i, cast)
            concat.input[i] = cast_name
    return len(found)


def is_roi_concat(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Concat([zeros [K, 1], boxes [K, 4]], axis 1) whose columns become the rois and batch indices of RoiAlign."""
    if node.op_type != "Concat" or attribute(node, "axis") != 1 or len(node.input) != 2:
        return False
    index = given(graph, node.input[0])
    if index is None or index.ndim != 2 or index.shape[1] != 1 or index.any():
        return False
    slots = {slot for gather in consumers(graph, node.output[0]) for slot in roi_align_inputs(graph, gather)}
    return slots == {1, 2}


def roi_align_inputs(graph: onnx.GraphProto, gather: onnx.NodeProto) -> set[int]:
    """Inputs of RoiAlign that a Gather along axis 1 feeds, through nothing but Squeeze and Cast."""
    if gather.op_type != "Gather" or attribute(gather, "axis") != 1:
        return set()
    slots, frontier = set(), [gather]
    while frontier:
        output = frontier.pop().output[0]
        for consumer in consumers(graph, output):
            if consumer.op_type == "RoiAlign":
                slots.add(list(consumer.input).index(output))
            elif consumer.op_type in ("Squeeze", "Cast"):
                frontier.append(consumer)
    return slots


def consumers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    """Nodes that read a tensor."""
    return [node for node in graph.node if tensor in node.input]


PATCHES: dict[str, Callable[..., int | Changes]] = {
    "cast_roi_concat_to_float16": cast_roi_concat_to_float16,
    "fuse_pad_into_maxpool": fuse_pad_into_maxpool,
    "int64_to_int32": int64_to_int32,
    "pad_maxpool_with_zero": pad_maxpool_with_zero,
}

# Patches that change what the graph computes; the stage measures by how much.
LOSSY = {"pad_maxpool_with_zero"}
