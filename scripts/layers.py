"""Find the nodes of a graph where error enters: run it in float32 and as it was compiled, every tensor exposed.

Every node of the simplified graph runs by itself, on a few images, once on what its own graph has computed and once on
what the compiled one has: the difference between that and what the compiled one makes is the node's own error. Tensors
are paired by name; what has no partner is counted. No graph is optimised, so that nothing is fused and no name lost.

--from-dump DIR takes the place of the compiled graph: tensors that a device has written, in DIR/STEM for the image
whose .bin is STEM.bin, one file for each tensor, named and formed as docs/layers.md says.

Example: python scripts/layers.py --model config/models/MODEL.yaml \\
             --index results/datasets/coco_val2017/index.tsv --images data/coco/val2017 \\
             --onnx results/MODEL/onnx/standard/simplified.onnx --compiled results/MODEL/onnxruntime_int8/model.onnx \\
             --count 2 --memory-gb 8 --output results/MODEL/onnxruntime_int8/layers.tsv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, config, dumps, layers, lineage, made, shards
from detport.backends import onnxruntime
from detport.disk import GB
from detport.files import atomic
from detport.graph import contract, foreign, partners, stepping, view
from detport.parity import chosen

SHOWN = 5  # names of a list


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--images", type=Path, required=True, help="folder of the dataset's images")
    parser.add_argument("--onnx", type=Path, required=True, help="the simplified graph, in float32")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--compiled", type=Path, help="the graph that the backend opens")
    source.add_argument("--from-dump", type=Path, metavar="DIR", help="folder of tensors brought from another machine")
    parser.add_argument("--count", type=cli.positive, default=1, help="images, if there is no dump (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (%(default)s)")
    parser.add_argument(
        "--memory-gb", type=float, required=True, help="most that tensors may take which wait for a node"
    )
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the table, .tsv")
    args = parser.parse_args(argv)

    model = canvases.select(config.load_model(args.model, "layers"), None)
    read, sources = {"index": args.index, "onnx": args.onnx}, {}
    if args.compiled:
        read["compiled"] = args.compiled
    else:
        sources["dump"] = dumps.source(args.from_dump)
    recipe = lineage.stage_recipe("layers", model, count=args.count, seed=args.seed)
    record = made.begin(recipe, read, sources, args.expect, args.threads)
    whole = contract.read(args.onnx)
    graph, _ = foreign.cut_before(whole, onnxruntime.kernels())
    rows = shards.read_index(args.index)
    if args.from_dump:
        images = [chosen.preprocess(row, args.images, model)[0] for row in dumps.images(args.from_dump, rows)]
    else:
        images, _, _ = chosen.prepare(rows, args.images, model, args.count, args.seed)
    second = contract.read(args.compiled) if args.compiled else None
    shapes = view.static_shapes(graph) if second is None else {}
    pairs, limits = (partners.partners(graph, second), partners.limits(second)) if second else ({}, {})
    tables, strange = [], []
    for image in images:
        exact, compiled = layers.feeds(image, model)
        if second:
            give, held = stepping.stepper(second, compiled, args.threads, pairs.values())
        else:
            pairs, give, strange = dumps.open_folder(args.from_dump / Path(image.entry["bin"]).stem, graph, shapes)
            held = {}
        found = layers.measure(graph, exact, pairs, limits, give, held, args.threads, args.memory_gb * GB)
        tables.append(found)
        cli.log.info("%r: %d tensors", image.entry["file"], len(found.rows))
    rows = layers.ranked(tables)
    left_out = len(whole.graph.node) - len(graph.graph.node)
    lines = head(args, [image.entry["file"] for image in images], rows, tables[-1].alone, strange, left_out)
    with atomic(args.output) as partial:
        partial.write_text(layers.text(rows, lines), encoding="utf-8")
    made.put(record, args.output)
    for line in lines:
        cli.log.info("%s", line)


def head(
    args: argparse.Namespace, images: list[str], rows: list[dict], alone: list[str], strange: list[str], left_out: int
) -> list[str]:
    """What was compared, and what was not."""
    second = args.compiled or args.from_dump
    lines = [f"{second} against {args.onnx}, node by node, nothing optimised, on {', '.join(map(repr, images))}"]
    missing = f"; without a partner there: {listed(alone)}" if alone else ", every one that there is"
    lines.append(f"{len(rows)} tensors of floats compared{missing}")
    if strange:
        lines.append(f"files of the dump that are no tensor of the graph, or of another form: {listed(strange)}")
    if left_out:
        lines.append(f"{left_out} nodes do not run here (no kernel in ONNX Runtime), or stand behind one that does not")
    return lines


def listed(names: list[str]) -> str:
    """How many, and the first of them."""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', …' * (len(names) > SHOWN)})"


if __name__ == "__main__":
    cli.run(main)
