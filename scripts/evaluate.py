"""Score the detections of all shards against the ground truth.

Refuses to score unless every image of the index is there exactly once, as decoded or as skipped, and not all of them
as skipped. The same inputs give the same bytes.

Example: python scripts/evaluate.py --model config/models/MODEL.yaml \\
             --index results/datasets/coco_val2017/index.tsv \\
             --annotations data/coco/annotations/instances_val2017.json \\
             --detections results/MODEL/onnxruntime/detections/*.json.gz \\
             --output results/MODEL/onnxruntime/accuracy.json

--output-analysis analysis.json says besides where the errors are and what the scores are worth.

--dataset-config CONFIG.yaml --dataset NAME in place of --annotations takes a dataset of any kind, also one without
ground truth, for which accuracy.json then holds no figure.

--coco-results FILE writes the detections as one list of COCO results, as COCO's own tools read it; with metric voc,
--comp4 DIR writes them as the result files of VOC's tools.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from detport import (
    classes,
    cli,
    columns,
    config,
    datasets,
    detections,
    doubts,
    lineage,
    made,
    metrics,
    progress,
    shards,
)
from detport.errors import Failure, UsageError
from detport.files import atomic, sha256, write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    truth_options = parser.add_mutually_exclusive_group(required=True)
    truth_options.add_argument("--annotations", type=Path, help="the ground truth: COCO's file, or VOC's folder")
    truth_options.add_argument("--dataset", help="name of the dataset in --dataset-config")
    parser.add_argument("--dataset-config", type=Path, nargs="+", help="workflow configuration with the dataset")
    parser.add_argument("--detections", type=Path, nargs="+", required=True, help="detections of every shard")
    parser.add_argument("--checked", type=Path, nargs="*", default=[], help="what check.py wrote for the model")
    parser.add_argument("--cross-check", action="store_true", help="a second evaluator must agree on every number")
    parser.add_argument("--output", type=Path, help="accuracy.json")
    parser.add_argument("--output-analysis", type=Path, help="analysis.json")
    parser.add_argument("--coco-results", type=Path, metavar="FILE", help="list of COCO results")
    parser.add_argument("--comp4", type=Path, metavar="DIR", help="folder for VOC's result files, one per class")
    parser.add_argument("--image-set", default="test", help="SET in their names, comp4_det_SET_CLASS.txt (%(default)s)")
    args = parser.parse_args(argv)
    if not (args.output or args.output_analysis or args.coco_results or args.comp4):
        raise UsageError("--output, --output-analysis, --coco-results or --comp4 is needed")
    if args.dataset and not args.dataset_config:
        raise UsageError("--dataset needs --dataset-config, the configuration that has it")

    model = config.load_model(args.model, "evaluate")
    settings = model["metric"]
    metric = metrics.load(settings["kind"])
    if args.dataset:
        dataset = config.load_dataset(args.dataset_config, args.dataset)
    else:
        dataset = {"kind": settings["kind"], "annotations": str(args.annotations)}
    kind = datasets.load(dataset["kind"])
    images = shards.read_index(args.index)
    inputs = {"index": args.index, "checked": args.checked, "detections": args.detections}
    with progress.step("reading detections"):
        parts = detections.read_all(args.detections, detections.read_columns)
    scored = scored_images([row["image_id"] for row in images], parts)
    sources = {"annotations": made.source(*kind.scored(dataset))}

    def record(**how: object) -> dict:
        return made.begin(lineage.evaluate_recipe(model, dataset, **how), inputs, sources, args.expect)

    if args.comp4:
        with atomic(args.comp4, directory=True) as folder:
            metric.write_results(folder, scored, all_rows(parts), settings, args.image_set)
            made.put_folder(
                record(image_set=args.image_set), folder, {path.name: sha256(path) for path in folder.iterdir()}
            )
    if args.coco_results:
        with atomic(args.coco_results) as partial:
            found = coco_results(kind.truth(dataset, images), all_rows(parts), settings)
            partial.write_text(json.dumps(found), encoding="utf-8")
        made.put(record(coco_results=True), args.coco_results)
    if args.output:
        of = sample(args.index, len(images), kind, dataset)
        with progress.step("scoring"):
            write_json(args.output, assemble(settings, dataset, images, parts, args.cross_check, of))
        made.put(record(cross_check=args.cross_check), args.output)
    if args.output_analysis:
        with progress.step("curves and errors"):
            write_json(args.output_analysis, analysed(settings, dataset, images, parts))
        made.put(record(cross_check=args.cross_check), args.output_analysis)
    count = sum(columns.count(part["detections"]) for part in parts)
    cli.log.info("%d detections in %d of %d images", count, len(scored), len(images))


def all_rows(parts: list[dict]) -> list[dict]:
    """The detections of all shards as COCO results."""
    return [row for part in parts for row in columns.rows(part["detections"])]


def scored_images(index: list, parts: list[dict]) -> list:
    """Ids of the images that were decoded, in the order of the index, of which none is missing."""
    skipped = [image for part in parts for image in part["skipped"]]
    scored = [image for part in parts for image in part["images"]]
    detections.require_all(index, scored, [image["image_id"] for image in skipped])
    if not scored:
        raise Failure(
            f"no image could be scored: all {len(index)} were skipped, the first ({skipped[0]['file']!r}) because it"
            f" {skipped[0]['reason']}. Correct datasets.NAME.images, or replace the images"
        )
    return sorted(scored, key={image: position for position, image in enumerate(index)}.__getitem__)


def assemble(
    settings: dict, dataset: dict, images: list[dict], parts: list[dict], cross_check: bool, sample: dict | None
) -> dict:
    """accuracy.json of the detections of all shards, for the images of the index."""
    kind, metric = datasets.load(dataset["kind"]), metrics.load(settings["kind"])
    skipped, too_large = ([each for part in parts for each in part[key]] for key in ("skipped", "too_large"))
    found = columns.joined(part["detections"] for part in parts)
    scored = scored_images([row["image_id"] for row in images], parts)
    truth = kind.truth(dataset, images)
    return {
        "schema": 1,
        "metric": settings,
        **figures(truth, scored, found, settings, cross_check),
        "images": {"indexed": len(images), "scored": len(scored), "skipped": skipped},
        "too_large": too_large,
        "detections": columns.count(found),
        "simulator": any(part["simulator"] for part in parts),
        "doubts": doubts.of_detections(parts, truth, scored, found, metric, settings),
        "sample": sample,
        "annotations": kind.source(dataset, images),
    }


def coco_results(truth: dict | None, rows: list[dict], settings: dict) -> list[dict]:
    """Detections with the ids of the ground truth's categories; without one, with the names that the model gives."""
    if truth is None:
        return rows
    known, unknown = classes.with_ids(rows, metrics.load(settings["kind"]).categories(truth, settings))
    for name, count in unknown.items():
        cli.log.warning("%d detections of %r are left out: the dataset has no such category", count, name)
    return known


def figures(truth: dict | None, scored: list, found: columns.Columns, settings: dict, cross_check: bool) -> dict:
    """What accuracy.json says of the ground truth; without one there is no figure."""
    if truth is None:
        return {"accuracy": {}, "images_counted": 0, "unscored": {}, "cross_checked": False}
    listed = {image["id"] for image in truth["images"]}
    if strange := [image for image in scored if image not in listed]:
        raise UsageError(f"{truth['source']}: does not list image {strange[0]}, which the index has; index again")
    metric = metrics.load(settings["kind"])
    if cross_check and metric.SECOND_EVALUATOR is None:
        cli.log.warning("metric %s has no second evaluator; its figures are not cross-checked", settings["kind"])
    found, unscored = columns.with_ids(found, metric.categories(truth, settings))
    for name, count in unscored.items():
        cli.log.warning("%d detections of %r are not scored: the dataset has no such category", count, name)
    counted = metric.counted(truth, scored, settings)
    given = found if getattr(metric, "BY_COLUMNS", False) else columns.rows(found)
    return {
        "accuracy": metric.evaluate(truth, counted, given, settings, cross_check),
        "images_counted": len(counted),
        "unscored": unscored,
        "cross_checked": cross_check and metric.SECOND_EVALUATOR is not None,
    }


def analysed(settings: dict, dataset: dict, images: list[dict], parts: list[dict]) -> dict:
    """analysis.json of the detections of all shards, over the images that count; empty without ground truth, and of a
    metric that has no curves."""
    metric, truth = metrics.load(settings["kind"]), datasets.load(dataset["kind"]).truth(dataset, images)
    if truth is None or not hasattr(metric, "curves"):
        return {"schema": 1, "analysis": None}
    from detport import analysis  # here: it takes as long to import as to read the detections, for figures of its own

    scored = scored_images([row["image_id"] for row in images], parts)
    rows, _ = classes.with_ids(all_rows(parts), metric.categories(truth, settings))
    return {
        "schema": 1,
        "analysis": analysis.of(truth, metric.counted(truth, scored, settings), rows, settings),
    }


def sample(path: Path, images: int, kind: ModuleType, dataset: dict) -> dict | None:
    """How many images an index has and the dataset has, if the record of the index says that it is of a sample."""
    record = made.read(path)
    if record is None or record["recipes"]["index_dataset"]["settings"]["sample"] is None:
        return None
    count = kind.count(dataset)
    return {"images": images, "of": count} if images < count else None


if __name__ == "__main__":
    cli.run(main)
