"""Print what a run from nothing would take: jobs, bytes of shards, outputs and results, peak of temporary disk, time.

Needs no data: a dataset whose annotations are missing is taken to have as many images as its `count` says. Times are
known for stages that ran here before. `snakemake -n` tells which of the jobs are still to do.

Example: python scripts/plan.py --model config/models/MODEL.yaml --dataset-config config/config.yaml \\
             --backend config/backends/onnxruntime.yaml --disk-limit-gb 4 --keep-outputs-gb 2 \\
             --results results --benchmarks benchmarks
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, datasets, disk, forecast
from detport.errors import UsageError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="yaml of every model")
    parser.add_argument(
        "--dataset-config",
        type=Path,
        nargs="+",
        required=True,
        help="workflow configuration with the datasets; further files change it",
    )
    parser.add_argument("--backend", type=Path, nargs="+", required=True, help="yaml of every backend")
    parser.add_argument("--disk-limit-gb", type=gigabytes, required=True, help="most that shards and outputs may take")
    parser.add_argument("--keep-outputs-gb", type=gigabytes, required=True, help="outputs up to this size are kept")
    parser.add_argument("--results", type=Path, default=Path("results"), help="of earlier runs, for sizes")
    parser.add_argument("--benchmarks", type=Path, default=Path("benchmarks"), help="of earlier runs, for times")
    args = parser.parse_args(argv)

    models = {path.stem: config.load(path, "model") for path in args.model}
    known = {model["dataset"]: config.load_dataset(args.dataset_config, model["dataset"]) for model in models.values()}
    images = {name: count(name, dataset) for name, dataset in known.items()}
    backends = {path.stem: config.load_backend(path) for path in args.backend}
    settings = {"disk_limit_gb": args.disk_limit_gb, "keep_outputs_gb": args.keep_outputs_gb}
    budget = disk.budget(models, known, images, backends, settings)
    run = forecast.Run(models, known, images, backends, budget)
    print(f"A run from nothing: {', '.join(models)} on {', '.join(backends)}. GB are 1e9 bytes.\n")
    text = forecast.lines(
        forecast.models_of(run, args.results), forecast.stages_of(run, args.benchmarks), args.disk_limit_gb
    )
    print("\n".join(text))


def gigabytes(text: str) -> float:
    """A finite number that is not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of gigabytes")
    return value


def count(name: str, dataset: dict) -> int:
    """Images of a dataset, as the configuration or the annotations say."""
    if dataset["count"]:
        return dataset["count"]
    try:
        return datasets.load(dataset["kind"]).count(dataset)
    except OSError as error:
        raise UsageError(
            f"datasets.{name}: {error.filename}: {error.strerror}, so the number of images is unknown;"
            f" correct the path, or set datasets.{name}.count"
        ) from error


if __name__ == "__main__":
    cli.run(main)
