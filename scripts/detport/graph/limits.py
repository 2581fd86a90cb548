"""Limits inside a graph that cap its accuracy: thresholds and numbers of its NMS, and tensors in which boxes and scores
share one quantisation."""

import numpy as np
import onnx

from detport.graph.view import View, attribute

LOW_SCORE = 0.05  # a threshold above it costs AP, which is a sum over low scores too
FEW = 100  # COCO counts so many boxes of every class of an image, and YOLO's published figures keep 300 in all
# Attributes of the NMS of TensorRT, of mmdeploy and of others, by what they limit.
ATTRIBUTES = {
    "score": ("score_threshold", "scoreThreshold"),
    "iou": ("iou_threshold", "iouThreshold"),
    "keep": ("max_output_boxes", "keepTopK", "keep_top_k", "max_output_boxes_per_class"),
}
WORDS = {
    "score": "keeps scores above {value:g} only",
    "iou": "removes boxes that overlap a better one by more than {value:g}",
    "per_class": "keeps at most {value:g} boxes of a class",
    "keep": "keeps at most {value:g} boxes of an image",
}
COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
PASSING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Cast")
COARSE = 0.01  # step between scores; 8 bits of scores alone have 1 / 127 at most
LARGEST = 10_000  # boxes; a TopK of more limits nothing


def found(model: onnx.ModelProto) -> list[dict]:
    """The limits of a graph, each with its operator, what it limits and the value."""
    view = View(model)
    limits = [limit for node in model.graph.node for limit in of_suppression(view, node)]
    behind = followers(model, [node for node in model.graph.node if node.op_type == "NonMaxSuppression"])
    if behind or view.nodes("TopK") or view.nodes("NonZero"):
        limits += [limit for node in model.graph.node for limit in of_comparison(view, node)]
    kept = [limit for node in model.graph.node for limit in of_selection(view, node, behind)]
    limits += sorted(kept, key=lambda limit: limit["value"])[:1]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(limit.items()) for limit in limits)]


def limit(node: onnx.NodeProto, what: str, value: float) -> dict:
    """A limit as plain data."""
    return {"operator": node.op_type, "what": what, "value": round(float(value), 6)}


def of_suppression(view: View, node: onnx.NodeProto) -> list[dict]:
    """What an NMS says of itself, by its inputs or its attributes."""
    if node.op_type != "NonMaxSuppression":
        if "NMS" not in node.op_type:
            return []
        pairs = [(what, attribute(node, name)) for what, names in ATTRIBUTES.items() for name in names]
        return [limit(node, what, value) for what, value in pairs if isinstance(value, int | float) and value > 0]
    limits = []
    for slot, what in ((2, "per_class"), (3, "iou"), (4, "score")):
        value = scalar(view, node, slot)
        if value is not None and 0 < value < LARGEST:
            limits.append(limit(node, what, value))
    return limits


def of_comparison(view: View, node: onnx.NodeProto) -> list[dict]:
    """A comparison of scores with a constant."""
    if node.op_type not in COMPARISONS:
        return []
    values = [value for slot in (0, 1) if (value := scalar(view, node, slot)) is not None]
    return [limit(node, "score", value) for value in values if 0 < value < 1]


def of_selection(view: View, node: onnx.NodeProto, behind: set[str]) -> list[dict]:
    """How many boxes are kept: by a TopK, or by what is cut off behind an NMS."""
    if node.op_type == "TopK":
        value = scalar(view, node, 1) if len(node.input) > 1 else attribute(node, "k")
        rows = {dim.dim_value for output in view.graph.output for dim in output.type.tensor_type.shape.dim}
        of_boxes = bool(set(node.input) & behind) or value in rows  # others may be of a box's own numbers
        return [limit(node, "keep", value)] if of_boxes and value is not None and 1 < value < LARGEST else []
    if node.op_type == "Slice" and len(node.input) > 3 and set(node.input) & behind:
        start, end, axis = (scalar(view, node, slot) for slot in (1, 2, 3))
        if start == 0 and axis == 0 and end is not None and 1 < end < LARGEST:
            return [limit(node, "keep", end)]
    return []


def scalar(view: View, node: onnx.NodeProto, slot: int) -> float | None:
    """An input of a node that is one constant number."""
    value = view.constant(node.input[slot]) if slot < len(node.input) and node.input[slot] else None
    return None if value is None or np.size(value) != 1 or value.dtype.kind not in "iuf" else float(value.reshape(()))


def followers(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> set[str]:
    """Every tensor that depends on some nodes, which stand in the order of evaluation."""
    tensors = {name for node in nodes for name in node.output}
    for node in model.graph.node:
        if tensors & set(node.input):
            tensors.update(node.output)
    return tensors


def caps(each: dict) -> bool:
    """Whether a limit costs accuracy by the rules of COCO's evaluation."""
    if each["what"] == "per_class":
        return each["value"] < FEW
    return (each["what"] == "score" and each["value"] > LOW_SCORE) or (each["what"] == "keep" and each["value"] <= FEW)


def capping(model: onnx.ModelProto) -> list[str]:
    """What in a graph caps its accuracy, one line each."""
    return [in_words(each) for each in found(model) if caps(each)] + [shared_in_words(each) for each in shared(model)]


def in_words(each: dict) -> str:
    """A limit as a line."""
    return f"{each['operator']} {WORDS[each['what']].format(**each)}"


def shared(model: onnx.ModelProto) -> list[dict]:
    """Outputs that leave one quantised tensor with boxes and scores in it: name, and the step between its numbers."""
    view = View(model)
    found = []
    for output in model.graph.output:
        node = view.producers.get(output.name)
        while node is not None and node.op_type in PASSING:
            node = view.producers.get(node.input[0])
        sizes = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        if node is None or node.op_type != "DequantizeLinear" or len(sizes) < 2 or min(sizes[-2:]) in (1, 4):
            continue
        step = view.constant(node.input[1])
        if step is not None and np.size(step) == 1:
            found.append({"output": output.name, "step": round(float(step.reshape(())), 6)})
    return [each for each in found if each["step"] > COARSE]


def shared_in_words(each: dict) -> str:
    """Such an output as a line."""
    return (
        f"{each['output']} is one quantised tensor of boxes and scores in steps of {each['step']:g}: scores below"
        f" {each['step'] / 2:g} are 0; quantise boxes and scores apart"
    )
