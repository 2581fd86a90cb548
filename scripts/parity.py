"""Find where a loss enters: the same images through every form of a model, each compared with the one before.

The rungs are the preprocessing, beside an independent reference in float64; the network with its weights; the exported,
the simplified and the patched graph, in ONNX Runtime without its optimisations; and the compiled model in the backend's
own runner. Of each it is told how far its outputs and its detections are from those of the rung before and of the
first one. A rung that cannot be run here is told with the reason. Nothing is judged: the report does that.

Example: python scripts/parity.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime.yaml \\
             --index results/datasets/coco_val2017/index.tsv --images data/coco/val2017 --count 8 \\
             --weights results/MODEL/weights.safetensors \\
             --exported results/MODEL/onnx/standard/exported.onnx \\
             --simplified results/MODEL/onnx/standard/simplified.onnx \\
             --patched results/MODEL/onnxruntime/patched.onnx --compiled results/MODEL/onnxruntime/model.onnx \\
             --output results/MODEL/onnxruntime/parity.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, inputs, lineage, made, shards
from detport.files import write_json
from detport.parity import GRAPHS, chosen, ladder, precisions, rungs

OWN_SECTIONS = (("patch", "patches"), ("compile", "compile"))  # they are in what patch and compile have made
ROLES = ("weights", *GRAPHS, "compiled")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--count", type=cli.positive, required=True, help="how many images")
    parser.add_argument("--seed", type=int, default=0, help="which ones (%(default)s)")
    parser.add_argument("--score", type=float, default=0.3, help="detections from this score on count (%(default)s)")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="converted weights")
    parser.add_argument("--exported", type=Path, nargs="*", default=[], help="exported graph of every canvas")
    parser.add_argument("--simplified", type=Path, nargs="*", default=[], help="simplified graph of every canvas")
    parser.add_argument("--patched", type=Path, nargs="*", default=[], help="patched graph of every canvas")
    parser.add_argument("--compiled", type=Path, nargs="*", default=[], help="compiled model of every canvas")
    parser.add_argument("--brought", action="store_true", help="what the backend makes comes from another machine")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="parity.json")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    model = config.load_model(args.model, "parity", backend)
    files = {role: getattr(args, role) for role in ROLES}
    drawn = {"count": args.count, "seed": args.seed, "score": args.score, "brought": args.brought}
    record = made.begin(
        lineage.parity_recipe(model, backend, **drawn),
        {"index": args.index} | {role: found for role, found in files.items() if found},
        expect=args.expect,
        threads=args.threads,
    )
    found = measured(model, backend, files, args)
    own = [config.load_model(args.model, stage, backend)[section] for stage, section in OWN_SECTIONS]
    write_json(args.output, found | {"precisions": precisions.by_rung(*own, backend)})
    made.put(record, args.output)


def measured(model: dict, backend: dict, files: dict[str, list[Path]], args: argparse.Namespace) -> dict:
    """What parity.json says."""
    rows = shards.read_index(args.index)
    images, levels, bad = chosen.prepare(rows, args.images, model, args.count, args.seed)
    told = [chosen.rung(levels, images, model)]
    log(told[0])
    climbed = ladder.climb(model, backend, files, images, args.output, args.threads, args.brought)
    for entry in rungs.compared(climbed, images, model, args.score):
        told.append(entry)
        log(entry)
    kind, layout = inputs.fed_form(model["input"])
    return {
        "schema": 1,
        "model": model["name"],
        "backend": backend["name"],
        "images": [{key: image.entry[key] for key in ("image_id", "file", "sha256", "canvas")} for image in images],
        "skipped": bad,
        "seed": args.seed,
        "score": args.score,
        "input": f"{kind} {layout}" + ", normalised where the rung does not do it" * model["input"]["on_device"],
        "rungs": told,
    }


def log(entry: dict) -> None:
    """One line of a rung."""
    state = "measured" if entry["reason"] is None else f"not measured: {entry['reason']}"
    cli.log.info("%s, %s: %s", entry["rung"], entry["runner"], state)


if __name__ == "__main__":
    cli.run(main)
