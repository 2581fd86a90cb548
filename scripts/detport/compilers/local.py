"""What families share whose compiled model is a graph that is opened in this process."""

from pathlib import Path

from onnx import ModelProto

from detport import inputs
from detport.errors import Failure
from detport.graph import contract, normalise

Form = tuple[str, str, list[int | None]]  # of an input: name, type as NumPy calls it, lengths (None: open)


def as_fed(onnx: Path, model: dict) -> ModelProto:
    """The graph for the inputs that the compiled model is fed."""
    graph = contract.read(onnx)
    if model["input"].get("on_device"):
        normalise.fold(graph, model["input"], model["preprocess"])
    return graph


def require_contract(onnx: Path, model: dict, own_fed: list[Form], own_made: list[tuple[str, str]]) -> None:
    """What a runner has opened has the inputs, in any order, and the outputs that the yaml declares."""
    image, *more = inputs.declared(model["input"])
    if model["input"].get("on_device"):
        kind, layout = inputs.fed_form(model["input"])
        image = {"name": image["name"], "dtype": kind, "shape": inputs.shape(model["input"], layout)}
    fed = sorted((entry["name"], entry["dtype"], entry["shape"]) for entry in (image, *more))
    made = [(entry["name"], entry["dtype"]) for entry in model["outputs"]]
    if (fed, made) != (sorted(own_fed), own_made):
        raise Failure(
            f"{onnx}: inputs and outputs are {sorted(own_fed)}, {own_made}; the model's yaml declares {fed}, {made};"
            " make the graph again, or correct the yaml"
        )
