"""Show what a model sees in a few images: a page to be looked at before anything is measured.

The images are drawn by a seed, as those of parity are, and go through the compiled model in the backend's own runner.
The page has them with the detections and, where the dataset has one, with the ground truth. What was seen is printed.

Example: python scripts/preview.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime.yaml \\
             --index results/datasets/coco_val2017/index.tsv --dataset-config config/config.yaml \\
             --dataset coco_val2017 --compiled results/MODEL/onnxruntime/model.onnx --count 8 \\
             --output results/MODEL/onnxruntime/preview.html
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, config, datasets, made, outputs, several, shards
from detport.errors import Failure
from detport.files import atomic
from detport.page import gallery, render, shown
from detport.page import ground as grounds
from detport.page.ground import Ground
from detport.parity import chosen, rungs
from detport.parity.rungs import Image, Rung


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--dataset-config", type=Path, nargs="+", required=True, help="configuration with the dataset")
    parser.add_argument("--dataset", required=True, help="its name there")
    parser.add_argument("--compiled", type=Path, nargs="+", required=True, help="compiled model of every canvas")
    parser.add_argument("--count", type=cli.positive, required=True, help="how many images")
    parser.add_argument("--seed", type=int, default=0, help="which ones (%(default)s)")
    parser.add_argument("--images", choices=["all", "licensed", "none"], default="all", help="which are shown")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the page")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    model = several.load_model(args.model, several.PREVIEW, backend)
    dataset = config.load_dataset(args.dataset_config, args.dataset)
    drawn = {"images": args.count, "seed": args.seed, "shown": args.images}
    record = made.begin(
        several.preview_recipe(config.load(args.model, "model"), backend, dataset, drawn),
        {"index": args.index, "compiled": args.compiled},
        {"annotations": made.source(*datasets.load(dataset["kind"]).scored(dataset))},
        args.expect,
        args.threads,
    )
    index = shards.read_index(args.index)
    images, _, skipped = chosen.prepare(index, Path(dataset["images"]), model, args.count, args.seed)
    rows, simulator = detected(images, model, backend, args)
    report = {
        "model": model["name"],
        "title": backend["title"],
        "backend": backend["name"],
        "dataset": args.dataset,
        "images": len(images),
        "detections": sum(row["score"] >= gallery.SURE for row in rows),
        "best": max((row["score"] for row in rows), default=0.0),
        "score": gallery.SURE,
        "simulator": simulator,
        "skipped": skipped,
    }
    page = render.preview(report, gallery_of(images, rows, index, model, dataset, args))
    with atomic(args.output) as partial:
        partial.write_text(page, encoding="utf-8")
    made.put(record, args.output)
    print("\n".join(said(report, args.output)))


def detected(images: Sequence[Image], model: dict, backend: dict, args: argparse.Namespace) -> tuple[list[dict], bool]:
    """The detections in all images, and whether a simulated device made them."""
    ran = rungs.compiled(
        canvases.files(args.compiled, model, backend), model, backend, images, args.output, args.threads
    )
    for image, arrays in zip(images, ran.outputs, strict=True):
        outputs.require(list(arrays.values()), model["outputs"], image.entry["file"])
    found, problem = rungs.decoded(Rung("preview", backend["title"], ran), images, model["decode"])
    if found is None:
        raise Failure(f"{args.model}: {problem}")
    return [row for rows in found for row in rows], ran.simulator


def gallery_of(
    images: Sequence[Image], rows: list[dict], index: list[dict], model: dict, dataset: dict, args: argparse.Namespace
) -> dict:
    """The images with what was found, and what is there if the dataset says it."""
    ids = [image.entry["image_id"] for image in images]
    listed = [row for row in index if row["image_id"] in set(ids)]
    ground = ground_of(listed, model, dataset)
    tasks = shown.tasks(ground, model["metric"], rows)
    seen = {args.backend.stem: shown.looked_at(ground, ids, rows, gallery.SURE, tasks[0])}
    files = {row["image_id"]: row["file"] for row in listed}
    return shown.images(ground, seen, {i: [] for i in range(len(ids))}, tasks, dataset, files, args.images, "preview")


def ground_of(listed: list[dict], model: dict, dataset: dict) -> Ground:
    """The ground truth of these images, if there is any, beside which every class of the model has its name: whether
    they fit the dataset's is what one looks for."""
    truth, declared = datasets.load(dataset["kind"]).truth(dataset, listed), model["decode"]["categories"]
    if truth is None:
        return grounds.alone(listed, model["metric"], declared)
    return grounds.with_others(grounds.of_truth(truth, model["metric"]), declared)


def said(report: dict, path: Path) -> list[str]:
    """What was seen, in words."""
    source = " (FROM A SIMULATOR)" * report["simulator"]
    count, score = report["detections"], report["score"]
    lines = [f"{path}: {report['images']} images, {count} detections with a score of {score:g} or more{source}"]
    lines += [f"{image['file']!r} was left out: {image['reason']}" for image in report["skipped"]]
    if not count:
        best = f"the best has {report['best']:.3g}" if report["best"] else "there is no detection at all"
        lines.append(f"nothing above score {score:g} on any image ({best}): see docs/adding-a-model.md")
    return lines


if __name__ == "__main__":
    cli.run(main)
