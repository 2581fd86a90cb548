"""From a network with weights to an ONNX file with the model's contract."""

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from detport import cli
from detport.errors import Failure
from detport.files import atomic
from detport.graph import contract, foreign, patches


def export(network: nn.Module, model: dict, flavour: str, output: Path) -> onnx.ModelProto:
    """Trace the network once and write the graph; its weights become initializers."""
    size = model["input"]
    image = torch.zeros(1, 3, size["height"], size["width"])
    with atomic(output) as partial:
        with torch.no_grad(), warnings.catch_warnings():
            # The tracing exporter is the one that writes opsets 11 to 17, which atc reads; it says on every call
            # that there is a newer one, and warns of each shape that becomes a constant, which is wanted here. What it
            # cannot fold, the order of its own pads read backwards, is left to the simplifier.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", "Constant folding - Only steps=1 can be constant folded", UserWarning)
            torch.onnx.export(
                network,
                (image,),
                str(partial),
                dynamo=False,
                opset_version=model["export"]["opset"],
                input_names=[size["name"]],
                output_names=[entry["name"] for entry in model["outputs"]],
            )
        graph = contract.read(partial)
        contract.check(graph, model, str(output))
        domains = sorted({node.domain for node in graph.graph.node})
        if flavour == "standard" and domains != [""]:
            raise Failure(f"{output}: has operators of the domains {domains}; a standard graph has none")
    return graph


def import_onnx(source: Path, model: dict, output: Path) -> onnx.ModelProto:
    """Take a model that is ONNX already, with its patches and after a look at its contract; external data is taken in,
    and axes of its inputs that are open get the lengths of the yaml."""
    graph = contract.read(source)
    for patch in model.get("patches", []):
        changes = patches.apply(graph, patch)
        cli.log.info("patch %s applied: %d places", patch["name"], changes.matches)
    contract.bind(graph, model)
    contract.check(graph, model, str(source))
    if not foreign.nodes(graph):  # onnx's checker knows no other operators than its own
        try:
            onnx.checker.check_model(graph)
        except onnx.checker.ValidationError as error:
            raise Failure(f"{source}: not a valid graph ({str(error).splitlines()[0]}); export it again") from error
    with atomic(output) as partial:
        onnx.save(graph, partial)
    return graph
