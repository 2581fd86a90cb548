"""Check that a model can be scored on a dataset, before anything expensive: the ground truth for itself, and for what
the model asks of it, its categories and what its metric scores. All that the evaluation would refuse is refused here.

Writes checked.json: how many images the ground truth has, and in words what of it or of the model is not scored.

Example: python scripts/check.py --model config/models/MODEL.yaml --dataset-config config/config.yaml \\
             --dataset coco_val2017 --output results/MODEL/checked.json
"""

from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, datasets, decoders, lineage, made, metrics, sampling
from detport.errors import UsageError
from detport.files import write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument(
        "--dataset-config",
        type=Path,
        nargs="+",
        required=True,
        help="workflow configuration with the dataset; further files change it",
    )
    parser.add_argument("--dataset", required=True, help="name of the dataset in it")
    parser.add_argument("--sample", type=cli.positive, help="only so many images; sampling.py says which")
    parser.add_argument("--output", type=Path, required=True, help="checked.json")
    args = parser.parse_args(argv)

    dataset = config.load_dataset(args.dataset_config, args.dataset)
    model = config.load_model(args.model, "check")
    kind = datasets.load(dataset["kind"])
    sources = {"annotations": made.source(*kind.scored(dataset))}
    sample = config.sample_size(dataset, args.sample)
    record = made.begin(lineage.check_recipe(model, dataset, args.sample), {}, sources, args.expect)
    rows = kind.index_rows(dataset)
    truth = kind.truth(dataset, rows)
    if sample:
        rows = sampling.choose(rows, truth, sample)
    said = [] if truth is None else complaints(args.model, model, truth, [row["image_id"] for row in rows])
    for line in said:
        cli.log.warning("%s", line)
    write_json(args.output, {"schema": 1, "images": len(rows), "not_scored": said})
    made.put(record, args.output)


def complaints(path: Path, model: dict, truth: dict, image_ids: list) -> list[str]:
    """What is not scored, in words. Refuse ground truth that a model cannot be scored on at all."""
    metric, categories = metrics.load(model["metric"]["kind"]), decoders.categories(model["decode"]["categories"])
    try:
        return metric.check(truth, image_ids, categories, model["metric"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


if __name__ == "__main__":
    cli.run(main)
