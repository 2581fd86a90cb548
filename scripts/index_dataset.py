"""List every image of a dataset's ground truth, after decoding each one once.

Writes index.tsv (image_id, file, width, height, bytes, sha256; sorted by image id). Images that are missing, cannot be
decoded or have another size than the ground truth says are all listed before the stage stops; with
--on-bad-image skip they stay in the index, later stages leave them out and the report lists them.

Example: python scripts/index_dataset.py --dataset-config config/config.yaml --dataset coco_val2017 \\
             --output results/datasets/coco_val2017/index.tsv
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detport import cli, config, datasets, images, lineage, made, progress, sampling, seen, shards
from detport.errors import Failure, UsageError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--dataset-config",
        type=Path,
        nargs="+",
        required=True,
        help="workflow configuration with the dataset; further files change it",
    )
    parser.add_argument("--dataset", required=True, help="name of the dataset in it")
    parser.add_argument("--on-bad-image", choices=["fail", "skip"], default="fail")
    parser.add_argument(
        "--sample", type=cli.positive, help="only so many images; sampling.py says which (default: all)"
    )
    parser.add_argument("--threads", type=cli.positive, default=1, help="images decoded at once")
    parser.add_argument("--output", type=Path, required=True, help="index.tsv")
    args = parser.parse_args(argv)

    dataset = config.load_dataset(args.dataset_config, args.dataset)
    folder = Path(dataset["images"])
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; put the images of {args.dataset} there or correct the path")
    kind = datasets.load(dataset["kind"])
    truth = made.source(Path(), kind.files(dataset))
    rows = kind.index_rows(dataset)
    if dataset["count"] not in (None, len(rows)):
        raise UsageError(
            f"{args.dataset_config[-1]}: datasets.{args.dataset}.count: {dataset['count']} is not the {len(rows)}"
            f" images that {dataset.get('annotations', folder)} lists; correct it, or fetch them again"
        )
    refuse_shared_stems(rows)
    if sample := config.sample_size(dataset, args.sample):
        rows = sampling.choose(rows, kind.truth(dataset, rows), sample)
    truth["signature"] = made.digest_of(rows)
    recipe = lineage.index_recipe(dataset, args.on_bad_image, args.sample)
    looked, files = args.output.with_name(f".{args.output.name}.seen"), {}
    with seen.journal(looked, made.digest_of(recipe)) as (known, note), ThreadPoolExecutor(args.threads) as pool:
        count = progress.counter(len(rows))
        reasons = []
        for row, found in zip(
            rows, pool.map(lambda row: look(folder, row, kind.TURNED, known, note), rows), strict=True
        ):
            row |= found["size"]
            files[row["file"]] = found["entry"]
            reasons.append(found["reason"])
            count()
        refuse_bad(rows, reasons, folder, args.on_bad_image)
    for row, reason in zip(rows, reasons, strict=True):
        size, _, digest = files[row["file"]]
        # A digest says that both decoders have read the file whole: preprocess asks one of them alone then.
        row |= {"bytes": size or 0, "sha256": "" if reason else digest}
    sources = {"truth": truth, "images": made.of_entries(files)}
    record = made.begin(recipe, {}, sources, args.expect, args.threads)
    shards.write_index(args.output, rows)
    made.put(record, args.output)
    cli.log.info("%d images, %d of them bad", len(rows), sum(map(bool, reasons)))


def refuse_bad(rows: list[dict], reasons: list[str | None], folder: Path, on_bad_image: str) -> None:
    """Name every bad image, and stop for them unless they are to be skipped."""
    bad = [f"{row['file']!r}: {reason}" for row, reason in zip(rows, reasons, strict=True) if reason]
    for line in bad:
        cli.log.warning("bad image %s", line)
    if bad and on_bad_image == "fail":
        raise Failure(
            f"{len(bad)} of {len(rows)} images in {folder} cannot be used: {'; '.join(bad)}."
            " Replace them, or set on_bad_image: skip to go on without them"
        )


def look(folder: Path, row: dict, turned: bool, known: dict[str, dict], note: Callable[[str, dict], None]) -> dict:
    """Size, stamp and digest of an image, and what is wrong with it: as an index that was cut short has noted it, if
    the file is as it was."""
    path, stated = folder / row["file"], [row.get("width"), row.get("height")]
    found = known.get(row["file"])
    if found and found["stated"] == stated and path.is_file() and found["entry"][:2] == made.stamp(path):
        return found
    reason = complaint(folder, row, turned)
    found = {"stated": stated, "size": {key: row[key] for key in ("width", "height")}, "reason": reason}
    found["entry"] = made.entry(path)
    note(row["file"], found)
    return found


def complaint(folder: Path, row: dict, turned: bool) -> str | None:
    """Why an image cannot be used, or None. A row without a size is given that of the image, `turned` as its EXIF says
    or as stored."""
    path = folder / row["file"]
    try:
        if "width" in row:
            images.check(path, row["width"], row["height"])
        else:
            row |= {"width": 0, "height": 0}  # of an image that cannot be decoded
            row["width"], row["height"] = images.size(path, turned)
    except images.BadImage as error:
        return str(error)
    return None


def refuse_shared_stems(rows: list[dict]) -> None:
    """Every tensor file is named after its image, so two images must not share a stem."""
    owners: dict[str, str] = {}
    for row in rows:
        stem = shards.bin_stem(row["file"])
        if stem in owners:
            raise UsageError(f"{row['file']!r} and {owners[stem]!r} would both become {stem}.bin; rename one of them")
        owners[stem] = row["file"]


if __name__ == "__main__":
    cli.run(main)
