"""The output has as many numbers as the network."""


def problem(model: dict) -> tuple[tuple, str] | None:
    """Key and text of what is wrong."""
    values = model["network"]["values"]
    if model["outputs"][0]["shape"] != [1, values]:
        return ("outputs", 0, "shape"), f"is not [1, {values}], as network.values says"
    return None
