"""Show a model's report in a browser: one file that holds all it needs, with a gallery of images that teach something.

All figures are those of the report's JSON. --detections are those of all its backends, in its order, each with all its
shards in order.

Example: python scripts/page.py --model config/models/MODEL.yaml --report reports/MODEL.json \\
             --index results/datasets/coco_val2017/index.tsv --dataset-config config/config.yaml \\
             --dataset coco_val2017 --detections results/MODEL/onnxruntime/detections/*.json.gz \\
             --output reports/MODEL.html
"""

import json
from collections.abc import Sequence
from pathlib import Path

from detport import analysis, classes, cli, config, datasets, detections, lineage, made, metrics, results, shards
from detport.analysis import matching
from detport.files import atomic
from detport.metrics.coco import distinct_names
from detport.page import gallery, pictures, render


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
    parts = {name: [detections.read(path) for path in own] for name, own in files.items()}
    index = shards.read_index(args.index)
    page = render.page(report, shown(report, model["metric"], dataset, index, parts, args.images))
    with atomic(args.output) as partial:
        partial.write_text(page, encoding="utf-8")
    made.put(record, args.output)
    cli.log.info("%s: %d kB", args.output, len(page.encode()) // 1000)


def shown(
    report: dict, metric: dict, dataset: dict, index: list[dict], parts: dict[str, list[dict]], choice: str
) -> dict | None:
    """The gallery: its images with objects and detections; nothing without ground truth."""
    kind, module = datasets.load(dataset["kind"]), metrics.load(metric["kind"])
    truth = kind.truth(dataset, index)
    if truth is None:
        return None
    categories = module.categories(truth, metric)
    ids = [category["id"] for category in categories]
    truth = analysis.in_categories(truth, categories)
    # Images that one of the backends had to skip cannot be compared.
    scored = [{image for part in each for image in part["images"]} for each in parts.values()]
    common = [row["image_id"] for row in index if all(row["image_id"] in found for found in scored)]
    seen = [looked_at(truth, common, each, categories, report["backends"][name]) for name, each in parts.items()]
    chosen = gallery.choose(seen, ids)
    files = {row["image_id"]: Path(dataset["images"]) / row["file"] for row in index}
    listed = {image["id"]: image for image in truth["images"]}
    first = [seen[0].images[i] for i in chosen]
    may = [pictures.may_be_shown(listed[image.image_id], truth.get("licenses"), choice) for image in first]
    paths = [files[image.image_id] if yes else None for image, yes in zip(first, may, strict=True)]
    names, least = {row["image_id"]: row["file"] for row in index}, gallery.faintest(seen)

    def drawn(side: int) -> list[dict]:
        found = zip(chosen, first, strict=True)
        return [gallery.drawn(image, [each.images[i] for each in seen], side, ids, least) for i, image in found]

    drawings = drawn(pictures.SIDE)
    left = pictures.BUDGET - len(json.dumps(drawings))
    addresses, side = pictures.embedded(paths, kind.TURNED, left)
    return {
        "iou": matching.IOU,
        "near": matching.NEAR,
        "least": least,
        "side": side,
        "scores": [each.score for each in seen],
        "backends": list(parts),
        "classes": list(distinct_names(categories).values()),
        "pictures": [
            {"name": names[drawing["id"]], "why": why, "image": address} | drawing
            for why, address, drawing in zip(
                chosen.values(), addresses, drawings if side == pictures.SIDE else drawn(side), strict=True
            )
        ],
    }


def looked_at(truth: dict, ids: list, parts: list[dict], categories: list[dict], found: dict) -> gallery.Seen:
    """What a backend found in these images."""
    rows, _ = classes.with_ids([row for part in parts for row in part["detections"]], categories)
    images = list(matching.images(truth, ids, rows, analysis.LIMIT))
    working = found["analysis"]["working"] if found["analysis"] else None
    return gallery.Seen(images, [matching.match(image) for image in images], working["score"] if working else 0.0)


if __name__ == "__main__":
    cli.run(main)
