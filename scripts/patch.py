"""Apply the patches that the model's yaml declares for this backend, or else for its family.

Each patch is found by pattern, never by a node's name or position, and must keep its contract: how often the pattern
is there and which types of nodes appear and disappear. What a lossy patch does to the outputs is measured in ONNX
Runtime with its optimisations off. Without patches for either the graph is passed on.

Example: python scripts/patch.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime.yaml \\
             --onnx results/MODEL/onnx/standard/simplified.onnx \\
             --output results/MODEL/onnxruntime/patched.onnx \\
             --output-json results/MODEL/onnxruntime/patches.json
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import onnx

from detport import canvases, cli, config, inputs, lineage, made, schemas
from detport.files import atomic, write_json
from detport.graph import compare, contract, limits, patches, running


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--onnx", type=Path, required=True, help="the simplified graph")
    parser.add_argument("--canvas", help="HEIGHTxWIDTH of the graph's input (default: the model's first canvas)")
    parser.add_argument("--threads", type=cli.positive, default=1, help="for measuring what a lossy patch does")
    parser.add_argument("--output", type=Path, required=True, help="the patched graph")
    parser.add_argument("--output-json", type=Path, required=True, help="what the patches did, for the report")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    model = canvases.select(config.load_model(args.model, "patch", backend), args.canvas)
    config.check_patches(args.model, [backend])
    record = made.begin(
        lineage.stage_recipe("patch", model, backend), {"onnx": args.onnx}, expect=args.expect, threads=args.threads
    )
    declared = model["patches"]
    graph = contract.read(args.onnx)
    caps, done = limits.capping(graph), []
    for patch in declared:
        before = copy.deepcopy(graph) if schemas.plugin(config.PATCHES, patch["name"]).get("lossy") else None
        changes = patches.apply(graph, patch)
        cost = None if before is None else effect(before, graph, model, args.threads)
        done.append({"name": patch["name"], "matches": changes.matches, "changed": changes.changed, "effect": cost})
        counts = "".join(f", {count} {kind}" for kind, count in changes.changed.items())
        cli.log.info("patch %s applied: %d places%s", patch["name"], changes.matches, counts)
        for remark in changes.remarks:
            cli.log.warning("patch %s: %s", patch["name"], remark)
    if not declared:
        cli.log.info("%s declares no patches for %s; the graph is passed on", args.model, backend["name"])
    write_json(
        args.output_json,
        {
            **{"schema": 1, "model": model["name"], "backend": backend["name"], "canvas": args.canvas},
            **{"caps": caps, "patches": done},
        },
    )
    with atomic(args.output) as partial:
        onnx.save(graph, partial)
    for path in (args.output_json, args.output):
        made.put(record, path)


def effect(before: onnx.ModelProto, after: onnx.ModelProto, model: dict, threads: int) -> dict[str, dict]:
    """What a lossy patch does to each output, from a random image in ONNX Runtime."""
    feeds = inputs.random(model["input"], model["simplify"]["seed"])
    found = compare.changes(*(running.runnable_part(graph, feeds, model, threads) for graph in (before, after)))
    for name, change in found.items():
        cli.log.warning("the patch is lossy: %s", compare.described(name, change))
    return found


if __name__ == "__main__":
    cli.run(main)
