"""Named edits of an ONNX graph, found by pattern and held to a contract; one module each.

A module has edit(model, **options), which edits the model and returns the number of places where its pattern was
found, or Changes. The yaml beside it is the schema of the options; `families` there are the only ones that the patch is
for, and `elsewhere` says why; `lossy` is one that changes what the graph computes, which the stage then measures;
`about` are operators to show where its pattern is not found. The model's yaml declares how many places a patch is to
find and how many nodes of each type appear and disappear; of one that returns Changes, also what it changes in more
detail. A backend's yaml, which is for any model, may leave this open; then there must be at least one place.
"""

import importlib
from collections import Counter
from typing import NamedTuple

import onnx

from detport.errors import Failure


class Changes(NamedTuple):
    """What a patch did."""

    matches: int
    changed: dict[str, int]  # number by kind, without zeros
    remarks: list[str]  # for the log


def apply(model: onnx.ModelProto, patch: dict) -> Changes:
    """Apply one declared patch; raise Failure where its contract does not hold."""
    name = patch["name"]
    before = Counter(node.op_type for node in model.graph.node)
    found = importlib.import_module(f"detport.graph.patches.{name}").edit(model, **patch["options"])
    changes = found if isinstance(found, Changes) else Changes(int(found), {}, [])
    expected = patch.get("matches")
    if changes.matches != expected and (expected is not None or changes.matches < 1):
        raise Failure(
            f"patch {name}: its pattern is {changes.matches} times in the graph,"
            f" {'at least 1' if expected is None else expected} expected; the graph comes from another exporter or is"
            " patched already"
        )
    if changes.changed != patch.get("changed", changes.changed):
        raise Failure(f"patch {name}: changed declares {patch['changed']}, the patch changed {changes.changed}")
    after = Counter(node.op_type for node in model.graph.node)
    for change, found in (("before", before - after), ("after", after - before)):
        if dict(found) != patch.get(change, dict(found)):
            raise Failure(f"patch {name}: {change} declares {patch[change]}, the graph's change is {dict(found)}")
    return changes
