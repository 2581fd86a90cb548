"""What the schema of EfficientDet's decoder cannot say: class maps have as many classes as there are categories."""

from detport import decoders
from detport.efficientdet import ANCHORS, CODES, COMPACT


def problem(model: dict) -> tuple[tuple, str] | None:
    """Of the raw contract, whose maps tell the number of classes; an index of pairs does not."""
    outputs = {output["name"]: output["shape"] for output in model["outputs"]}
    if outputs.keys() >= set(COMPACT):
        return None
    values = {shape[1] // ANCHORS for shape in outputs.values() if len(shape) == 4 and shape[1] % ANCHORS == 0}
    settings = model["decode"]
    count = len(decoders.classes(decoders.categories(settings["categories"]), settings["background"]))
    if values - {CODES} <= {count}:
        return None
    found = ", ".join(map(str, sorted(values - {CODES})))
    return ("decode", "categories"), f"stand for {count} classes, background included; the maps of outputs have {found}"
