"""Convert a trained checkpoint (.pth) to safetensors, once.

The file is opened with a loader that builds tensors and nothing else: a pickle that carries code is refused by
the name of what it would have called. The name and sha256 of the original go into the new file's header.

Example: python scripts/convert_checkpoint.py --model config/models/MODEL.yaml \\
             --weights weights/model.pth --output results/MODEL/weights.safetensors
"""

from collections.abc import Sequence
from pathlib import Path

from detport import checkpoints, cli, config, lineage, made
from detport.errors import UsageError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--weights", type=Path, required=True, help="the checkpoint, .pth")
    parser.add_argument("--output", type=Path, required=True, help="the converted weights, .safetensors")
    args = parser.parse_args(argv)

    model = config.load_model(args.model, "convert_checkpoint")
    if "checkpoint" not in model:
        raise UsageError(f"{args.model}: has no checkpoint section; a model given as onnx needs no conversion")
    sources = {"checkpoint": made.source(args.weights.parent, [args.weights.name])}
    record = made.begin(lineage.stage_recipe("convert_checkpoint", model), {}, sources, args.expect)
    count = checkpoints.convert(args.weights, model["checkpoint"], args.output)
    made.put(record, args.output)
    cli.log.info("%d tensors in %s", count, args.output)


if __name__ == "__main__":
    cli.run(main)
