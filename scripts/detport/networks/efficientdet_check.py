"""The outputs that a model's yaml declares are those of EfficientDet's network on every canvas."""

from detport.efficientdet import outputs


def problem(model: dict) -> tuple[tuple, str] | None:
    """Key and text of what is wrong; names that a contract leaves open may be any."""
    network, declared = model["network"], model["outputs"]
    for canvas in (model["input"], *model["input"]["canvases"]):
        expected = outputs(network, canvas["height"], canvas["width"])
        if [{key: output[key] for key in expected[0]} for output in declared] != expected:
            return ("outputs",), (
                f"network.contract {network['contract']} at {canvas['height']}x{canvas['width']} has"
                f" {signature(expected)}; declared are {signature(declared)}; correct outputs or network.contract"
            )
    return None


def signature(outputs: list[dict]) -> str:
    """Name, type and shape of outputs."""
    return ", ".join(f"{o.get('name', '(any name)')} {o['dtype']} {o['shape']}" for o in outputs)
