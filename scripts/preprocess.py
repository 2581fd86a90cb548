"""Turn one shard of a dataset into .bin files.

Writes a folder with one raw tensor per image (STEM.bin), shard.info for the tools of the guides, and shard.json,
which says for every image what it is, where its pixels are on the canvas and how long its .bin is. Every image
of the shard is in shard.json, under "images" or, with --on-bad-image skip, under "skipped".

Example: python scripts/preprocess.py --model config/models/MODEL.yaml --shard 0/250 \\
             --index results/datasets/coco_val2017/index.tsv \\
             --images data/coco/val2017 --output shards/MODEL/0000
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, images, lineage, made, processes, progress, shards, tensors
from detport.errors import Failure
from detport.files import atomic, sha256, write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--index", type=Path, required=True, help="index.tsv of the dataset")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--shard", required=True, help="K/N: part K (from 0) of N")
    parser.add_argument("--on-bad-image", choices=["fail", "skip"], default="fail")
    parser.add_argument("--output", type=Path, required=True, help="folder of the shard")
    parser.add_argument("--scratch", action="store_true", help=cli.SCRATCH)
    args = parser.parse_args(argv)

    model = config.load_model(args.model, "preprocess")
    shard, count = shards.parse_shard(args.shard)
    rows = shards.part(shards.read_index(args.index), shard, count)
    recipe = lineage.stage_recipe("preprocess", model, shard=args.shard, on_bad_image=args.on_bad_image)
    record = made.begin(recipe, {"index": args.index}, expect=args.expect)
    processes.keep_memory()
    with atomic(args.output, directory=True, durable=not args.scratch) as folder:
        done, bad = [], []
        for row in progress.each(rows):
            try:
                image = prepare(args.images / row["file"], row, model, folder)
            except images.BadImage as error:
                bad.append({"image_id": row["image_id"], "file": row["file"], "reason": str(error)})
                cli.log.warning("bad image %r: %s", row["file"], error)
            else:
                done.append(image)
        if bad and args.on_bad_image == "fail":
            reasons = "; ".join(f"{image['file']!r}: {image['reason']}" for image in bad)
            raise Failure(f"{len(bad)} of {len(rows)} images of shard {args.shard} cannot be used: {reasons}")
        shards.write_info(folder / "shard.info", done, args.output)
        write_json(
            folder / "shard.json",
            {"schema": 1, "shard": shard, "shards": count, "images": done, "skipped": bad},
        )
        digests = {image["bin"]: None for image in done}  # a change of size is seen, and they do not live long
        made.put_folder(record, folder, digests | {"shard.json": sha256(folder / "shard.json")})
    turned = [image["file"] for image in done if image.get("turned")]
    if turned:
        cli.log.warning(
            "%d images are turned as their EXIF says (decoder: opencv), the first is %r; boxes are right only if the"
            " annotations are about the turned images. COCO's and VOC's are about the stored pixels",
            len(turned),
            turned[0],
        )
    cli.log.info("shard %s: %d images, %d skipped", args.shard, len(done), len(bad))
    for canvas, count in Counter(image["canvas"] for image in done).items():
        cli.log.info("%d images on canvas %s", count, canvas)


def prepare(path: Path, row: dict, model: dict, folder: Path) -> dict:
    """Write the .bin of an image of the index into a folder; its entry in shard.json."""
    name = f"{shards.bin_stem(row['file'])}.bin"
    size, placement = tensors.preprocess_to(
        folder / name, path, model, (row["width"], row["height"]), row.get("sha256")
    )
    if "too_large" in placement:
        cli.log.warning("%r: too large for the network input, %s", row["file"], placement["too_large"])
    return {"image_id": row["image_id"], "file": row["file"]} | placement | {"bin": name, "bytes": size}


if __name__ == "__main__":
    cli.run(main)
