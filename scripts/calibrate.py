"""Measure the range of every tensor of a graph on images, by which compile.py quantises it to int8.

The images are drawn from the index by the seed of the backend's yaml; calibration.json lists them. Where they are all
that there are, accuracy is measured on what was calibrated on, and the report says so.

Example: python scripts/calibrate.py --model config/models/MODEL.yaml \\
             --backend config/backends/onnxruntime_int8.yaml --onnx results/MODEL/onnxruntime_int8/patched.onnx \\
             --index results/datasets/coco_val2017/index.tsv --images data/coco/val2017 \\
             --output results/MODEL/onnxruntime_int8/calibration.json
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from detport import (
    canvases,
    cli,
    compilers,
    config,
    images,
    inputs,
    lineage,
    made,
    precisions,
    sampling,
    shards,
    tensors,
)
from detport.compilers import local
from detport.errors import UsageError
from detport.files import write_json
from detport.precisions import int8


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml, of precision int8")
    parser.add_argument("--onnx", type=Path, required=True, help="the patched graph")
    parser.add_argument("--canvas", help="HEIGHTxWIDTH of the graph's input (default: the model's first canvas)")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="calibration.json")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    if not compilers.calibrates(backend):
        raise UsageError(f"{args.backend}: is not of precision int8; there is nothing to calibrate")
    model = canvases.select(config.load_model(args.model, "calibrate", backend), args.canvas)
    record = made.begin(
        *(lineage.stage_recipe("calibrate", model, backend), {"index": args.index, "onnx": args.onnx}),
        expect=args.expect,
        threads=args.threads,
    )
    settings, rows = backend["calibration"], shards.read_index(args.index)
    graph = precisions.plain(int8.prepared(local.as_fed(args.onnx, model), args.onnx))
    excluded = int8.excluded(graph, settings)
    for line in int8.told(excluded):
        cli.log.info("%s", line)
    used: list[dict] = []
    ranges = int8.measure(graph, feeds(rows, args.images, model, settings, used), settings, args.threads)
    if len(used) == len(rows):
        cli.log.warning("calibrated on all %d images, which are those that will be scored", len(rows))
    found = {"settings": settings, "images": used, "of": len(rows), "excluded": excluded, "ranges": ranges}
    named = {"model": model["name"], "backend": backend["name"], "canvas": args.canvas}
    write_json(args.output, {"schema": 1} | named | found)
    made.put(record, args.output)
    cli.log.info("%d tensors on %d of %d images", len(ranges), len(used), len(rows))


def feeds(rows: list[dict], folder: Path, model: dict, settings: dict, used: list[dict]) -> Iterator[int8.Feeds]:
    """The inputs of as many images as are asked for, or there are; what is yielded is added to `used`."""
    for row in sorted(rows, key=lambda row: sampling.lot(row["image_id"], settings["seed"])):
        if len(used) == settings["images"]:
            return
        path = folder / row["file"]
        try:
            tensor, placement = tensors.preprocess(path, model, (row["width"], row["height"]), row.get("sha256"))
        except images.BadImage as error:
            cli.log.warning("bad image %r: %s", row["file"], error)
            continue
        used.append({"image_id": row["image_id"], "file": row["file"]})
        image = {"width": row["width"], "height": row["height"]} | placement
        yield inputs.feeds(model["input"], inputs.batched(tensor, model["input"], image), image)


if __name__ == "__main__":
    cli.run(main)
