"""Turn the outputs of one shard into detections in the original images' pixels.

The outputs may come from the infer stage or from one of Ascend's tools, as .bin or as text (STEM_0 or STEM_output_0).

Example: python scripts/decode.py --model config/models/MODEL.yaml --shard shards/MODEL/0000 \\
             --outputs results/MODEL/onnxruntime/outputs/0000 \\
             --output results/MODEL/onnxruntime/detections/0000.json.gz
"""

import math
from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, decoders, detections, lineage, made, outputs, progress, shards
from detport.errors import Failure
from detport.readings import others

LOOKED_AT = 2  # images of a shard, by which other readings of the outputs are told


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument(
        "--shard", type=Path, required=True, help="folder of the shard, or another that holds its shard.json"
    )
    parser.add_argument("--outputs", type=Path, required=True, help="folder of its outputs")
    parser.add_argument("--output", type=Path, required=True, help="detections, .json.gz")
    args = parser.parse_args(argv)

    model = config.load_model(args.model, "decode")
    settings = model["decode"]
    decoder = decoders.load(settings["kind"])
    categories = decoders.categories(settings["categories"])
    shard = shards.read_shard(args.shard, needed=decoder.NEEDS)
    # Outputs of another tool have no record, and their shard has.
    inputs = {"outputs": args.outputs} if made.read(args.outputs) else {"outputs": args.outputs, "shard": args.shard}
    record = made.begin(lineage.stage_recipe("decode", model), inputs, expect=args.expect)
    stems = [Path(image["bin"]).stem for image in shard["images"]]
    naming = outputs.naming(args.outputs, stems, model["outputs"])
    rows, first, count = [], [], progress.counter(len(stems))
    for image, stem in zip(shard["images"], stems, strict=True):
        arrays = outputs.read(args.outputs, stem, naming, model["outputs"], image["file"])
        arrays = {name: outputs.widened(array) for name, array in arrays.items()}
        found = decoder.decode(arrays, image, settings, categories)
        require_finite(found, image["file"])
        first += [(image, arrays)] if len(first) < LOOKED_AT else []
        rows += [row for row in found if row["category_id"] is not None]
        count()
    other_readings = others.of_yaml(first, settings, categories)
    detections.write(
        args.output, shard["images"], shard["skipped"], rows, outputs.simulated(args.outputs), other_readings
    )
    made.put(record, args.output)
    cli.log.info("%d detections in %d images", len(rows), len(shard["images"]))


def require_finite(rows: list[dict], file: str) -> None:
    """Refuse detections that are no numbers, whatever the decoder: nobody could score them."""
    for i, row in enumerate(rows):
        if not all(map(math.isfinite, (*row["bbox"], row["score"]))):
            raise Failure(
                f"{file!r}: detection {i}, of category {row['category_id']}, has box {row['bbox']} and score"
                f" {row['score']}; compare the earlier stages on this image"
            )


if __name__ == "__main__":
    cli.run(main)
