"""Simplify an exported graph with onnxsim, and prove that it still computes the same.

Both graphs are run in ONNX Runtime, without its own optimisations, on one seeded random input; a difference above
simplify.tolerance fails the stage. A graph with operators that ONNX Runtime lacks is cut before them, and what enters
them is compared.

Example: python scripts/simplify.py --model config/models/MODEL.yaml \\
             --onnx results/MODEL/onnx/standard/exported.onnx \\
             --output results/MODEL/onnx/standard/simplified.onnx
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxsim

from detport import canvases, cli, config, inputs, lineage, made
from detport.errors import Failure
from detport.files import atomic
from detport.graph import compare, contract, running


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--onnx", type=Path, required=True, help="the exported graph")
    parser.add_argument("--canvas", help="HEIGHTxWIDTH of the graph's input (default: the model's first canvas)")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the simplified graph")
    args = parser.parse_args(argv)

    model = canvases.select(config.load_model(args.model, "simplify"), args.canvas)
    record = made.begin(
        lineage.stage_recipe("simplify", model), {"onnx": args.onnx}, expect=args.expect, threads=args.threads
    )
    before = contract.read(args.onnx)
    after = simplified(before, args.onnx)
    contract.check(after, model, str(args.output))
    require_same(before, after, model, args.threads, str(args.onnx))
    with atomic(args.output) as partial:
        onnx.save(after, partial)
    made.put(record, args.output)
    cli.log.info("%d nodes, %d before", len(after.graph.node), len(before.graph.node))


def simplified(graph: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """What onnxsim makes of a graph."""
    try:
        return onnxsim.simplify(graph)[0]
    # onnxsim has no exceptions of its own: what its C++ part and onnx raise comes through.
    except (RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failure(
            f"{source}: onnxsim cannot simplify it ({reason}); is the graph whole? Export it again"
        ) from error


def require_same(before: onnx.ModelProto, after: onnx.ModelProto, model: dict, threads: int, source: str) -> None:
    """Fail unless both graphs compute the same from a random image, as far as ONNX Runtime can run them."""
    feeds = inputs.random(model["input"], model["simplify"]["seed"])
    try:
        runs = [running.runnable_part(graph, feeds, model, threads) for graph in (before, after)]
    except Failure as error:
        raise Failure(f"{source}: {error}") from error
    if runs[0].keys() != runs[1].keys():
        lost = ", ".join(sorted(runs[0].keys() ^ runs[1].keys()))
        raise Failure(f"{source}: simplifying changes what can be compared: {lost}")
    name, difference = compare.largest_difference(*runs)
    tolerance = model["simplify"]["tolerance"]
    cli.log.info("largest difference after simplifying: %.2g of the scale of %s", difference, name)
    if difference > tolerance:
        raise Failure(
            f"{source}: simplifying changes {name} by {difference:.2g} of its scale;"
            f" simplify.tolerance allows {tolerance:g}"
        )


if __name__ == "__main__":
    cli.run(main)
