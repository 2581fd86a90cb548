"""Find the nodes that a backend of low precision has to keep in float32, by measuring detections.

The graph is compiled with more and with fewer nodes in float32 and run on some images; its detections are compared with
those of the float32 graph, until a small list is found with which they are within the tolerance. The table of layers says
where to begin. What is written is yaml, the key `keep_fp32` of the backend, behind comments that say what every step has
measured.

Example: python scripts/mixed.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime_int8.yaml \\
             --index results/datasets/coco_val2017/index.tsv --images data/coco/val2017 \\
             --reference results/MODEL/onnx/standard/simplified.onnx \\
             --onnx results/MODEL/onnxruntime_int8/patched.onnx --layers results/MODEL/onnxruntime_int8/layers.tsv \\
             --output results/MODEL/onnxruntime_int8/mixed.yaml
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, compilers, config, layers, lineage, made, mixing, shards, trials
from detport.errors import Failure
from detport.files import atomic, scratch
from detport.graph import contract
from detport.graph.stepping import name_of

FLOAT32 = config.ROOT / "config" / "backends" / "onnxruntime.yaml"
TOLERANCE = ("score", "unmatched", "score_shift", "box_shift")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--images", type=Path, required=True, help="folder of the dataset's images")
    parser.add_argument("--reference", type=Path, required=True, help="the simplified graph of the standard flavour")
    parser.add_argument("--onnx", type=Path, required=True, help="the patched graph, which is compiled")
    parser.add_argument("--layers", type=Path, required=True, help="what layers.py wrote for the backend")
    parser.add_argument("--count", type=cli.positive, default=8, help="how many of them (%(default)s)")
    parser.add_argument("--steps", type=cli.positive, default=24, help="most measurements (%(default)s)")
    parser.add_argument("--score", type=float, default=0.3, help="detections from it on count (%(default)s)")
    parser.add_argument("--unmatched", type=float, default=0.02, help="share that may be lost, or new (%(default)s)")
    parser.add_argument("--score-shift", type=float, default=0.1, help="99th percentile of it (%(default)s)")
    parser.add_argument("--box-shift", type=float, default=4, help="the same of the corners, in pixels (%(default)s)")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the list, .yaml")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    tolerance = {key: getattr(args, key) for key in TOLERANCE}
    views = [config.load_model(args.model, stage, backend) for stage in lineage.MIXED]
    recipe = lineage.mixed_recipe(
        config.load(args.model, "model"), backend, images=args.count, steps=args.steps, **tolerance
    )
    read = {"index": args.index, "reference": args.reference, "onnx": args.onnx, "layers": args.layers}
    record = made.begin(recipe, read, expect=args.expect, threads=args.threads)
    model = canvases.select({key: value for view in views for key, value in view.items()}, None)
    rows = layers.few(shards.read_index(args.index), args.count)
    graph = contract.read(args.onnx)
    known = {name_of(node) for node in graph.graph.node}
    table = layers.read(args.layers)
    with scratch(args.output) as folder:
        inputs = trials.prepare(folder / "images", rows, args.images, model)
        exact = baseline(model, rows, folder, args)

        def measure(kept: list[str]) -> dict:
            mixed = backend | {"keep_fp32": [*backend["keep_fp32"], *kept]}
            compiled = folder / f"model.{compilers.suffix(backend['family'])}"
            compilers.load(backend["family"]).compile_model(args.onnx, model, mixed, compiled)
            found, strange = trials.detections(compiled, model, mixed, inputs, folder, args.threads)
            told = mixing.judged(exact, found, tolerance)
            if strange:
                told = {"inside": False, "found": f"NaN or infinity in {', '.join(strange)}"}
            cli.log.info("%d nodes in float32: %s", len(kept), told["found"])
            return told

        done = mixing.search(measure, mixing.ranked_nodes(table, known), mixing.proposals(table, known), args.steps)
    chosen = mixing.best(done)
    if chosen is None:
        raise Failure(
            f"no list of nodes kept in float32 brings the detections within the tolerance; with {len(done[-1]['kept'])}"
            f" of {len(known)}: {done[-1]['found']}. Look at the stages before, or raise mixed.steps"
        )
    kept = [*backend["keep_fp32"], *chosen["kept"]]
    with atomic(args.output) as partial:
        partial.write_text(text(kept, done, len(known), args, len(rows), tolerance), encoding="utf-8")
    made.put(record, args.output)
    cli.log.info("%d of %d nodes stay in float32: %s", len(kept), len(known), ", ".join(kept) or "none")


def baseline(model: dict, rows: list[dict], folder: Path, args: argparse.Namespace) -> list[list[dict]]:
    """The detections of the float32 graph, on ONNX Runtime."""
    own = model | {"input": model["input"] | {"on_device": False}}
    inputs = trials.prepare(folder / "float32", rows, args.images, own)
    backend = config.load_backend(FLOAT32)
    found, strange = trials.detections(args.reference, own, backend, inputs, folder, args.threads)
    if strange:
        raise Failure(f"{args.reference}: NaN or infinity in {', '.join(strange)}; no precision is to blame for that")
    return found


def text(
    kept: list[str], done: list[dict], nodes: int, args: argparse.Namespace, images: int, tolerance: dict[str, float]
) -> str:
    """The yaml, behind what was measured."""
    limits = ", ".join(f"{key} {value:g}" for key, value in tolerance.items())
    steps = [
        f"#   {'inside ' if each['inside'] else 'outside'} {len(each['kept']):>5} nodes: {each['found']}" for each in done
    ]
    lines = [
        f"# {args.output}: {len(kept)} of {nodes} nodes stay in float32.",
        f"# Paste it into {args.backend}, or what belongs to one model into its yaml.",
        f"# Measured on {images} images, detections beside those of {args.reference};",
        f"# tolerance: {limits} (lost or new as a share of float32's, shifts as their 99th percentile).",
        *steps,
        "keep_fp32:" if kept else "keep_fp32: []",
        *(f"  - {json.dumps(name, ensure_ascii=False)}" for name in kept),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main)
