"""Find the nodes that a backend of low precision has to keep in float32, by measuring detections.

The graph is compiled with more and with fewer nodes in float32 and run on the images of parity; its detections are
compared with those of the float32 graph, until a small list is found with which they are within the tolerance. The
table of layers says where to begin. What is written is yaml, the key `keep_fp32` of the backend, behind comments that
say what every step has measured.

Example: python scripts/mixed.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime_int8.yaml \\
             --index results/datasets/coco_val2017/index.tsv --images data/coco/val2017 \\
             --reference results/MODEL/onnx/standard/simplified.onnx \\
             --onnx results/MODEL/onnxruntime_int8/patched.onnx --layers results/MODEL/onnxruntime_int8/layers.tsv \\
             --calibration results/MODEL/onnxruntime_int8/calibration.json --count 8 --steps 24 \\
             --output results/MODEL/onnxruntime_int8/mixed.yaml
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, compilers, config, layers, made, mixing, several, shards
from detport.errors import Failure
from detport.files import atomic, scratch
from detport.graph import contract
from detport.graph.stepping import name_of
from detport.parity import chosen, precisions, rungs
from detport.parity.rungs import Image, Rung


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--images", type=Path, required=True, help="folder of the dataset's images")
    parser.add_argument("--reference", type=Path, required=True, help="the simplified graph of the standard flavour")
    parser.add_argument("--onnx", type=Path, required=True, help="the patched graph, which is compiled")
    parser.add_argument("--layers", type=Path, required=True, help="what layers.py wrote for the backend")
    parser.add_argument("--calibration", type=Path, help="calibration.json, if the backend is compiled with one")
    parser.add_argument("--count", type=cli.positive, required=True, help="how many images")
    parser.add_argument("--seed", type=int, default=0, help="which ones (%(default)s)")
    parser.add_argument("--score", type=float, default=0.3, help="detections from this score on count (%(default)s)")
    parser.add_argument("--steps", type=cli.positive, required=True, help="most measurements")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the list, .yaml")
    args = parser.parse_args(argv)

    backend, whole = config.load_backend(args.backend), config.load(args.model, "model")
    tolerance = several.allowed(whole, backend)
    drawn = {"count": args.count, "seed": args.seed, "score": args.score, "steps": args.steps}
    read = {"index": args.index, "reference": args.reference, "onnx": args.onnx, "layers": args.layers}
    read |= {"calibration": args.calibration} if args.calibration else {}
    recipe = several.mixed_recipe(whole, backend, tolerance, **drawn)
    record = made.begin(recipe, read, expect=args.expect, threads=args.threads)
    model = canvases.select(several.load_model(args.model, several.MIXED, backend), None)
    images, _, _ = chosen.prepare(shards.read_index(args.index), args.images, model, args.count, args.seed)
    canvas = next(iter(canvases.by_name(model["input"])))
    exact, problem = rungs.decoded(baseline(args, model, images, canvas), images, model["decode"])
    if exact is None:
        raise Failure(f"{args.reference}: {problem}; no precision is to blame for that")
    graph = contract.read(args.onnx).graph
    known = {name_of(node) for node in graph.node}
    table = layers.read(args.layers)
    with scratch(args.output) as folder:
        compiled = folder / f"model.{compilers.suffix(backend['family'])}"

        def measure(kept: list[str]) -> dict:
            mixed = backend | {"keep_fp32": [*backend["keep_fp32"], *kept]}
            compilers.compile_graph(args.onnx, model, mixed, compiled, args.calibration)
            ran = rungs.compiled({canvas: compiled}, model, mixed, images, folder / "run", args.threads)
            found, problem = rungs.decoded(Rung("mixed", backend["title"], ran), images, model["decode"])
            told = {"inside": False, "found": problem}
            if found is not None:
                told = mixing.judged(exact, found, args.score, tolerance)
            cli.log.info("%d nodes in float32: %s", len(kept), told["found"])
            return told | {"simulator": ran.simulator}

        first = mixing.proposals(table, graph) if precisions.of(model["compile"], backend) == "float16" else []
        done = mixing.search(measure, mixing.ranked_nodes(table, known), first, args.steps)
    best = mixing.best(done)
    if best is None:
        most = max(done, key=lambda each: len(each["kept"]))
        raise Failure(
            f"no list of nodes that was tried brings the detections within the tolerance; with {len(most['kept'])} of"
            f" {len(known)} nodes in float32: {most['found']}. Look at the stages before, or raise mixed.steps"
        )
    kept = [*backend["keep_fp32"], *best["kept"]]
    with atomic(args.output) as partial:
        partial.write_text(text(kept, done, len(known), len(images), backend, tolerance, args), encoding="utf-8")
    made.put(record, args.output)
    cli.log.info("%d of %d nodes stay in float32: %s", len(kept), len(known), ", ".join(kept) or "none")


def baseline(args: argparse.Namespace, model: dict, images: Sequence[Image], canvas: str) -> Rung:
    """The float32 graph, on ONNX Runtime."""
    return Rung("float32", "ONNX Runtime", rungs.graph({canvas: args.reference}, model, images, args.threads))


def text(
    kept: list[str],
    done: list[dict],
    nodes: int,
    images: int,
    backend: dict,
    tolerance: dict[str, float],
    args: argparse.Namespace,
) -> str:
    """The yaml, behind what was measured."""
    limits = ", ".join(f"{key} {value:g}" for key, value in tolerance.items() if value is not None)
    steps = [
        f"#   {'inside ' if each['inside'] else 'outside'} {len(each['kept']):>5} nodes: {each['found']}"
        for each in done
    ]
    lines = [
        f"# {args.output}: {len(kept)} of {nodes} nodes stay in float32.",
        f"# Paste it into {backend['name']}.yaml of config/backends, or add it to keep_fp32 in compile of the model.",
        f"# Measured on {images} images: detections from score {args.score:g} on, beside those of {args.reference}.",
        *["# A simulator ran them, no device."] * any(each["simulator"] for each in done),
        f"# Tolerance, that of parity: {limits}.",
        *steps,
        "keep_fp32:" if kept else "keep_fp32: []",
        *(f"  - {json.dumps(name, ensure_ascii=False)}" for name in kept),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main)
