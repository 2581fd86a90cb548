"""Show a model's report in a browser: one file that holds all it needs, with a gallery of images that teach something.

All figures are those of the report's JSON. --detections are those of all its backends, in its order, each with all its
shards in order.

Example: python scripts/page.py --model config/models/MODEL.yaml --report reports/MODEL.json \\
             --index results/datasets/coco_val2017/index.tsv --dataset-config config/config.yaml \\
             --dataset coco_val2017 --detections results/MODEL/onnxruntime/detections/*.json.gz \\
             --output reports/MODEL.html
"""

from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, datasets, detections, lineage, made, results, shards
from detport.files import atomic
from detport.page import gallery, render, shown
from detport.page import ground as grounds


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--report", type=Path, required=True, help="the report's JSON")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--dataset-config", type=Path, nargs="+", required=True, help="configuration with the dataset")
    parser.add_argument("--dataset", required=True, help="its name there")
    parser.add_argument("--detections", type=Path, nargs="+", required=True, help="detections of every backend")
    parser.add_argument("--images", choices=["all", "licensed", "none"], default="all", help="which are shown")
    parser.add_argument("--output", type=Path, required=True, help="the page")
    args = parser.parse_args(argv)

    model = config.load_model(args.model, "page")
    dataset = config.load_dataset(args.dataset_config, args.dataset)
    kind = datasets.load(dataset["kind"])
    inputs = {"report": args.report, "index": args.index, "detections": args.detections}
    sources = {"annotations": made.source(*kind.scored(dataset))}
    record = made.begin(lineage.page_recipe(model, dataset, args.images), inputs, sources, args.expect)
    report = results.read(args.report, "report")
    files = detections.by_backend(list(report["backends"]), args.detections)
    parts = {name: detections.read_all(own) for name, own in files.items()}
    index = shards.read_index(args.index)
    page = render.page(report, gallery_of(report, model, dataset, index, parts, args.images))
    with atomic(args.output) as partial:
        partial.write_text(page, encoding="utf-8")
    made.put(record, args.output)
    cli.log.info("%s: %d kB", args.output, len(page.encode()) // 1000)


def gallery_of(
    report: dict, model: dict, dataset: dict, index: list[dict], parts: dict[str, list[dict]], choice: str
) -> dict | None:
    """The gallery: its images with objects, where there is a ground truth, and detections; None without an image."""
    truth = datasets.load(dataset["kind"]).truth(dataset, index)
    metric, declared = model["metric"], model["decode"]["categories"]
    ground = grounds.alone(index, metric, declared) if truth is None else grounds.of_truth(truth, metric)
    # Images that one of the backends had to skip cannot be compared.
    scored = [{image for part in each for image in part["images"]} for each in parts.values()]
    common = [row["image_id"] for row in index if all(row["image_id"] in found for found in scored)]
    if not common:
        return None
    rows = {name: [row for part in each for row in part["detections"]] for name, each in parts.items()}
    tasks = shown.tasks(ground, metric, (row for each in rows.values() for row in each))
    seen = {
        name: shown.looked_at(ground, common, each, working(report["backends"][name], ground.judged), tasks[0])
        for name, each in rows.items()
    }
    chosen = gallery.choose(list(seen.values()), ground.ids, ground.judged)
    files = {row["image_id"]: row["file"] for row in index}
    lead = "judged" if ground.judged else "unjudged"
    return shown.images(ground, seen, chosen, tasks, dataset, files, choice, lead)


def working(backend: dict, judged: bool) -> float:
    """The score from which on detections of a backend are shown at first."""
    if not judged:
        return gallery.SURE
    found = backend["analysis"] and backend["analysis"]["working"]
    return found["score"] if found else 0.0


if __name__ == "__main__":
    cli.run(main)
