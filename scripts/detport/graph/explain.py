"""What a patch would do, where, and what is there in its place if its pattern is not found."""

import copy
from collections.abc import Iterator

import onnx

from detport import config, schemas
from detport.errors import Failure
from detport.graph import finding, patches
from detport.graph.view import View

SHOWN = 10  # nodes of each kind


def explain(model: onnx.ModelProto, declared: list[dict]) -> tuple[list[str], bool]:
    """Lines about every patch in turn, each applied to a copy of what the one before has left; and whether all of them
    keep their contracts."""
    lines, kept = [], True
    for patch in declared:
        about = schemas.plugin(config.PATCHES, patch["name"])
        lines.append(f"{patch['name']}: {about['title']}")
        after = copy.deepcopy(model)
        try:
            changes = patches.apply(after, patch)
        except Failure as error:
            kept = False
            lines += [f"  FAILS: {error}", *differences(model, after), *near(model, patch, about)]
            continue
        counts = "".join(f", {count} {kind}" for kind, count in changes.changed.items())
        lines += [f"  found in {changes.matches} places{counts}; as declared", *differences(model, after)]
        model = after
    return lines, kept


def differences(before: onnx.ModelProto, after: onnx.ModelProto) -> Iterator[str]:
    """What becomes other: nodes by their first output, inputs and outputs, opset."""
    views = [View(model) for model in (before, after)]
    old, new = ({node.output[0]: node for node in view.graph.node} for view in views)
    changed = [name for name in old.keys() & new.keys() if old[name] != new[name]]
    groups = (
        ("-", [finding.shown(views[0], old[name]) for name in old if name not in new]),
        ("+", [finding.shown(views[1], new[name]) for name in new if name not in old]),
        ("changed", [finding.shown(views[1], new[name]) for name in new if name in changed]),
    )
    for sign, nodes in groups:
        yield from (f"    {sign} {line}" for line in nodes[:SHOWN])
        if len(nodes) > SHOWN:
            yield f"    {sign} … and {len(nodes) - SHOWN} more"
    for what in ("input", "output"):
        sides = [", ".join(value.name for value in getattr(model.graph, what)) for model in (before, after)]
        if sides[0] != sides[1]:
            yield f"    {what}s: {sides[0]} -> {sides[1]}"
    opsets = [entry.version for model in (before, after) for entry in model.opset_import if entry.domain == ""]
    if len(set(opsets)) > 1:
        yield f"    opset: {opsets[0]} -> {opsets[-1]}"


def near(model: onnx.ModelProto, patch: dict, about: dict) -> Iterator[str]:
    """The nodes that a pattern is about, with their neighbours, or the names that there are."""
    view = View(model)
    operators = [patch["options"]["operator"]] if "operator" in patch["options"] else about.get("about", [])
    for operator in operators:
        nodes = view.nodes(operator)
        yield f"    the graph has {len(nodes)} {operator}{':' if nodes else ''}"
        yield from (f"      {finding.shown(view, node)}" for node in nodes[:SHOWN])
        if len(nodes) > SHOWN:
            yield f"      … and {len(nodes) - SHOWN} more"
    if not operators:
        for what in ("input", "output"):
            yield f"    {what}s of the graph: {', '.join(value.name for value in getattr(model.graph, what))}"
