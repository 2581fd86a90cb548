"""Figures of accuracy on images drawn with replacement, many times: what intervals and their verdicts are made of.

The draws depend on nothing but the number of images and the seed, so that two detectors that were resampled apart are
compared draw by draw. The detections are those of all shards, or with --recorded those that an earlier run or another
tool has left in one file.

Example: python scripts/resample.py --model config/models/MODEL.yaml \\
             --index results/datasets/coco_val2017/index.tsv \\
             --dataset-config config/config.yaml --dataset coco_val2017 --measure bbox.AP \\
             --name onnxruntime --detections results/MODEL/onnxruntime/detections/*.json.gz \\
             --output results/MODEL/onnxruntime/resampled.json
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detport import classes, cli, config, datasets, detections, lineage, made, metrics, recorded, resampling, shards
from detport.errors import UsageError
from detport.files import write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--dataset-config", type=Path, nargs="+", required=True, help="workflow configuration")
    parser.add_argument("--dataset", required=True, help="name of the dataset in it")
    parser.add_argument("--checked", type=Path, nargs="*", default=[], help="what check.py wrote for the model")
    parser.add_argument("--measure", nargs="+", required=True, help="the figures, for example bbox.AP")
    parser.add_argument("--name", required=True, help="whose detections they are: a backend, or a file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--detections", type=Path, nargs="+", help="detections of every shard")
    source.add_argument("--recorded", type=Path, help="one file of ours, or a list of COCO results; .gz or not")
    parser.add_argument("--output", type=Path, required=True, help="resampled.json")
    args = parser.parse_args(argv)

    model = config.load_model(args.model, "resample")
    dataset = config.load_dataset(args.dataset_config, args.dataset)
    kind = datasets.load(dataset["kind"])
    images = shards.read_index(args.index)
    index = [row["image_id"] for row in images]
    inputs = {"index": args.index, "checked": args.checked}
    sources = {"annotations": made.source(*kind.scored(dataset))}
    if args.recorded:
        scored, rows = recorded.read(args.recorded, index)
        sources["recorded"] = made.source(args.recorded.parent, [args.recorded.name])
    else:
        scored, rows = own(args.detections, index)
        inputs["detections"] = args.detections
    recipe = lineage.resample_recipe(model, dataset, args.measure)
    record = made.begin(recipe, inputs, sources, args.expect)
    truth = kind.truth(dataset, images)
    found = resampled(truth, scored, rows, args.measure, model, str(args.recorded or args.name))
    write_json(args.output, {"schema": 1, "of": args.name, "statistics": model["statistics"], **found})
    made.put(record, args.output)
    cli.log.info("resampled %d of %d images", len(scored), len(images))


def own(paths: list[Path], index: list) -> tuple[list, list[dict]]:
    """The scored images, in the index's order, and their detections; every image must be there exactly once."""
    parts = detections.read_all(paths)
    scored = [image for part in parts for image in part["images"]]
    detections.require_all(index, scored, [image["image_id"] for part in parts for image in part["skipped"]])
    there = set(scored)
    return [image for image in index if image in there], [row for part in parts for row in part["detections"]]


def resampled(
    truth: dict | None, scored: list, rows: list[dict], measures: list[str], model: dict, source: str
) -> dict:
    """The figures of all images and of every resample of them; none without ground truth or images."""
    settings, statistics = model["metric"], model["statistics"]
    metric = metrics.load(settings["kind"])
    counted = metric.counted(truth, scored, settings) if truth and scored else []
    images = {"counted": len(counted), "sha256": made.digest_of(counted)}
    if not counted:
        return {"images": images, "measures": {}}
    categories = metric.categories(truth, settings)
    rows, _ = classes.with_ids(rows, categories)
    known = {category["id"] for category in categories}
    if strange := [row["category_id"] for row in rows if row["category_id"] not in known]:
        raise UsageError(f"{source}: has category {strange[0]!r}, which the dataset has not; is it of another dataset?")
    drawn = resampling.draws(len(counted), statistics["resamples"], statistics["seed"])
    all_once = np.ones((1, len(counted)), drawn.dtype)
    values = metric.resampled(truth, counted, rows, settings, measures, np.concatenate([all_once, drawn]))
    plain = {name: [None if math.isnan(each) else each for each in found.tolist()] for name, found in values.items()}
    return {
        "images": images,
        "measures": {name: {"value": found[0], "resamples": found[1:]} for name, found in plain.items()},
    }


if __name__ == "__main__":
    cli.run(main)
