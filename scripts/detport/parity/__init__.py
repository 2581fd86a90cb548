"""Parity: what each step from the image file to the compiled model does to tensors and to detections.

The steps are called rungs: preprocess, eager, exported, simplified, patched, compiled.
"""

GRAPHS = ("exported", "simplified", "patched")  # the rungs that are graphs on their way to a compiler


def steps(model: dict, backend: dict) -> list[str]:
    """The rungs of a model behind its preprocessing; of a checkpoint that runs on the CPU, eager is all there is."""
    compiles = backend["runs"] == "compiled"
    begin = ["eager"] if "network" in model else []
    end = ["compiled"] if compiles or backend.get("device", "cpu") != "cpu" else []
    return [*begin, *(GRAPHS if compiles else ()), *end]
