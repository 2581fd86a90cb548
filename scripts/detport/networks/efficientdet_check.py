"""The outputs that a model's yaml declares are those of EfficientDet's network on every canvas."""

from detport.efficientdet import outputs
from detport.networks import contracts


def problem(model: dict) -> tuple[tuple, str] | None:
    """Key and text of what is wrong."""
    network, declared = model["network"], model["outputs"]
    for canvas in (model["input"], *model["input"]["canvases"]):
        height, width = canvas["height"], canvas["width"]
        expected = outputs(network, height, width)
        if found := contracts.unlike(declared, expected, network["contract"], f" at {height}x{width}"):
            return found
    return None
