"""Export a network with its weights to ONNX, with the inputs and outputs that the model's yaml declares.

A model whose yaml gives `onnx` instead of a checkpoint is checked against the same contract and taken as it is.

Example: python scripts/export.py --model config/models/MODEL.yaml \\
             --weights results/MODEL/weights.safetensors --output results/MODEL/onnx/standard/exported.onnx
"""

from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, config, lineage, made, progress


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--weights", type=Path, required=True, help="converted weights, or the yaml's .onnx")
    parser.add_argument("--flavour", choices=config.flavours(), default="standard", help="operators of the graph")
    parser.add_argument("--canvas", help="HEIGHTxWIDTH of one of the model's canvases (default: the first)")
    parser.add_argument("--output", type=Path, required=True, help="the exported graph, .onnx")
    args = parser.parse_args(argv)

    model = canvases.select(config.load_model(args.model, "export"), args.canvas)
    recipe = lineage.stage_recipe("export", model, flavour=args.flavour)
    if "onnx" in model:
        from detport.graph.contract import external_files
        from detport.graph.export import import_onnx

        sources = {"onnx": made.source(args.weights.parent, [args.weights.name, *external_files(args.weights)])}
        record = made.begin(recipe, {}, sources, args.expect)
        with progress.step("reading and checking the graph"):
            graph = import_onnx(args.weights, model, args.output)
    else:
        # Imported here so that neither --help nor a ready .onnx needs torch.
        from detport import checkpoints, networks
        from detport.graph.export import export

        record = made.begin(recipe, {"weights": args.weights}, expect=args.expect)
        with progress.step("building the network with its weights"):
            network = networks.build(model, args.flavour)
            checkpoints.load(network, args.weights)
        with progress.step("tracing it once and writing the graph"):
            graph = export(network, model, args.flavour, args.output)
    made.put(record, args.output)
    cli.log.info("%d nodes, opset %d", len(graph.graph.node), graph.opset_import[0].version)


if __name__ == "__main__":
    cli.run(main)
