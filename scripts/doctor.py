"""Find out what is wrong with a model's yaml: try the usual mistakes on a few images with ground truth.

The network runs once for every other preprocessing, its outputs are decoded in every other way, and all that is ranked
by AP. It only reports: what to change in the yaml is for you to decide.

Example: python scripts/doctor.py --model config/models/MODEL.yaml \\
             --index results/datasets/coco_val2017/index.tsv \\
             --dataset-config config/config.yaml --dataset coco_val2017 \\
             --onnx results/MODEL/onnx/standard/simplified.onnx --output results/MODEL/doctor.txt
"""

from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, config, datasets, diagnosis, images, lineage, made, sampling, shards
from detport.backends import onnxruntime
from detport.errors import UsageError
from detport.files import atomic
from detport.graph import contract, describe

MOST = 32  # images


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--dataset-config", type=Path, nargs="+", required=True, help="workflow configuration")
    parser.add_argument("--dataset", required=True, help="name of the dataset in it")
    parser.add_argument("--onnx", type=Path, required=True, help="the simplified graph of the standard flavour")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the diagnosis, .txt")
    args = parser.parse_args(argv)

    model = canvases.select(config.load_model(args.model, "doctor"), None)
    dataset = config.load_dataset(args.dataset_config, args.dataset)
    kind = datasets.load(dataset["kind"])
    sources = {"annotations": made.source(*kind.scored(dataset))}
    inputs = {"index": args.index, "onnx": args.onnx}
    record = made.begin(lineage.doctor_recipe(model, dataset), inputs, sources, args.expect, args.threads)
    rows = shards.read_index(args.index)
    truth = kind.truth(dataset, rows)
    if not truth or not truth["annotations"]:
        raise UsageError(
            f"dataset {args.dataset} has no ground truth, by which the doctor could tell better from worse"
        )
    chosen, part = few(rows, truth, Path(dataset["images"]))
    backend = {"session": {"graph_optimization": "all"}}
    run = onnxruntime.open_model(args.onnx, model, backend, args.threads)
    numbered = dict(enumerate(model["metric"].get("classes", []), start=1))
    case = diagnosis.Case(Path(dataset["images"]), chosen, part, numbered, run)
    trials = diagnosis.diagnose(model, case, cli.log.info)
    notes = describe.warnings(describe.facts(contract.read(args.onnx)))
    lines = diagnosis.text(model["name"], trials, notes, len(chosen))
    with atomic(args.output) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made.put(record, args.output)
    cli.log.info("%s", lines[0])


def few(rows: list[dict], truth: dict, folder: Path) -> tuple[list[dict], dict]:
    """Some images with something to find that can be read, and the ground truth of these alone."""
    shown = {annotation["image_id"] for annotation in truth["annotations"] if not annotation["iscrowd"]}
    chosen = sampling.choose([row for row in rows if row["image_id"] in shown], truth, MOST)
    bad = {row["file"]: problem for row in chosen if (problem := complaint(folder / row["file"], row))}
    for file, problem in bad.items():
        cli.log.warning("bad image %r: %s", file, problem)
    chosen = [row for row in chosen if row["file"] not in bad]
    ids = {row["image_id"] for row in chosen}
    kept = [image for image in truth["images"] if image["id"] in ids]
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids]
    return chosen, truth | {"images": kept, "annotations": annotations}


def complaint(path: Path, row: dict) -> str | None:
    """Why an image cannot be used."""
    try:
        images.check(path, row["width"], row["height"])
    except images.BadImage as error:
        return str(error)
    return None


if __name__ == "__main__":
    cli.run(main)
