"""Apply the patches that the model's yaml declares for this backend, or else for its family.

Each patch is found by pattern, never by a node's name or position, and must keep its contract: how often the pattern
is there and which types of nodes appear and disappear. What a lossy patch does to the outputs is measured in ONNX
Runtime with its optimisations off. Patches of the backend's yaml come last. Without any the graph is passed on.

With --explain nothing is written: it prints what every patch would do, where, and what the neighbours look like where a
pattern is not found, and fails if a contract does not hold.

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
from detport.errors import Failure, UsageError
from detport.files import atomic, write_json
from detport.graph import compare, contract, explain, limits, patches, running, view


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--onnx", type=Path, required=True, help="the simplified graph")
    parser.add_argument("--canvas", help="HEIGHTxWIDTH of the graph's input (default: the model's first canvas)")
    parser.add_argument("--threads", type=cli.positive, default=1, help="for measuring what a lossy patch does")
    parser.add_argument("--explain", action="store_true", help="only print what the patches would do")
    parser.add_argument("--output", type=Path, help="the patched graph")
    parser.add_argument("--output-json", type=Path, help="what the patches did, for the report")
    args = parser.parse_args(argv)
    if not args.explain and not (args.output and args.output_json):
        raise UsageError("--output and --output-json are needed, or --explain")

    backend = config.load_backend(args.backend)
    model = canvases.select(config.load_model(args.model, "patch", backend), args.canvas)
    config.check_patches(args.model, [backend])
    if args.explain:
        print_explanation(args.onnx, model["patches"])
        return
    record = made.begin(
        lineage.stage_recipe("patch", model, backend), {"onnx": args.onnx}, expect=args.expect, threads=args.threads
    )
    declared = model["patches"]
    graph = contract.read(args.onnx)
    caps, done = limits.capping(graph), []
    for patch in declared:
        before = copy.deepcopy(graph) if schemas.plugin(config.PATCHES, patch["name"]).get("lossy") else None
        changes = patches.apply(graph, patch)
        lossless = {"effect": None, "unmeasured": None}
        cost = lossless if before is None else cost_of(before, graph, model, args.threads)
        done.append({"name": patch["name"], "matches": changes.matches, "changed": changes.changed} | cost)
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


def cost_of(before: onnx.ModelProto, after: onnx.ModelProto, model: dict, threads: int) -> dict:
    """What a lossy patch does to the outputs, or why that is not known, as patches.json has it."""
    try:
        if half_casts(after) > half_casts(before):
            raise Failure("ONNX Runtime's CPU computes float16 in float32 and drops the rounding")
        return {"effect": effect(before, after, model, threads), "unmeasured": None}
    except Failure as error:
        cli.log.warning("what the patch does to the outputs is not measured: %s", error)
        return {"effect": None, "unmeasured": str(error)}


def half_casts(graph: onnx.ModelProto) -> int:
    """How many nodes make float16 of something."""
    casts = [node for node in graph.graph.node if node.op_type == "Cast"]
    return sum(view.attribute(node, "to") == onnx.TensorProto.FLOAT16 for node in casts)


def effect(before: onnx.ModelProto, after: onnx.ModelProto, model: dict, threads: int) -> dict[str, dict]:
    """What a lossy patch does to each output, from a random image in ONNX Runtime."""
    feeds = inputs.random(model["input"], model["simplify"]["seed"])
    found = compare.changes(*(running.runnable_part(graph, feeds, model, threads) for graph in (before, after)))
    for name, change in found.items():
        cli.log.warning("the patch is lossy: %s", compare.described(name, change))
    return found


def print_explanation(path: Path, declared: list[dict]) -> None:
    """Print what patches would do to a graph."""
    lines, kept = explain.explain(contract.read(path), declared)
    print("\n".join(lines or ["no patches are declared; the graph is passed on"]))
    if not kept:
        raise Failure(f"{path}: a patch does not keep its contract; the lines above say what is there")


if __name__ == "__main__":
    cli.run(main)
