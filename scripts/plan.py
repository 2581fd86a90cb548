"""Print what a run takes: jobs in all and still to do, bytes of tensors and results, peak of temporary disk, time.

The jobs are the workflow's own: --summary is the table that `snakemake --summary` prints. Needs no data: a dataset
whose annotations are missing is taken to have as many images as its `count` says. Times are those of earlier runs.

Example: python scripts/plan.py --summary jobs.tsv --outputs patch=2 report=2 summary=2 \\
             --model config/models/MODEL.yaml --dataset-config config/config.yaml \\
             --backend config/backends/onnxruntime.yaml --cores 8 --disk-limit-gb 4 --keep-outputs-gb 2
"""

import argparse
import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detport import cli, config, cutting, datasets, disk, memory, outputs, parity, shards
from detport.console import estimate
from detport.disk import GB, MB
from detport.errors import UsageError

# Bytes that one detection takes in a detections file, with and without a mask, where no earlier run tells.
ROW_WITH_MASK, ROW = 530, 65
MOST_ROWS = 100  # detections of an image, where the model's yaml does not say
RESULTS = "results: detections and graphs, about; graphs count only where the file that a model starts from is there."
GRAPHS = ("convert_checkpoint", "export", "simplify", "patch", "compile")  # each makes a copy of the weights


class Jobs(NamedTuple):
    """Jobs of a rule for a model or dataset."""

    all: int
    pending: int


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("--summary", type=Path, required=True, help="what snakemake --summary prints")
    parser.add_argument("--outputs", nargs="*", default=[], metavar="RULE=N", help="rules with several outputs")
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="yaml of every model")
    parser.add_argument(
        "--dataset-config",
        type=Path,
        nargs="+",
        required=True,
        help="workflow configuration with the datasets; further files change it",
    )
    parser.add_argument("--backend", type=Path, nargs="+", required=True, help="yaml of every backend")
    parser.add_argument(
        "--sample", type=cli.positive, help="images of each dataset, where not all of them are asked for"
    )
    parser.add_argument("--parity-images", type=int, default=0, help="images of the parity ladder (%(default)s: none)")
    parser.add_argument("--cores", type=cli.positive, default=1, help="jobs at once")
    parser.add_argument("--disk-limit-gb", type=gigabytes, required=True, help="most that shards and outputs may take")
    parser.add_argument("--keep-outputs-gb", type=gigabytes, required=True, help="outputs up to this size are kept")
    parser.add_argument("--per-node", action="store_true", help="the limit is of each node's own disk: on a cluster")
    parser.add_argument("--memory-mb", type=cli.positive, help="most memory that jobs may take together")
    parser.add_argument("--results", type=Path, default=Path("results"), help="of earlier runs, for sizes")
    parser.add_argument("--benchmarks", type=Path, default=Path("benchmarks"), help="of earlier runs, for times")
    args = parser.parse_args(argv)

    models = {path.stem: config.load(path, "model") for path in args.model}
    known = {model["dataset"]: config.load_dataset(args.dataset_config, model["dataset"]) for model in models.values()}
    images = {name: count(name, dataset) for name, dataset in known.items()}
    for name, dataset in known.items():
        images[name], dataset["shards"] = shards.sizes(dataset, images[name], config.sample_size(dataset, args.sample))
    backends = {path.stem: config.load_backend(path) for path in args.backend}
    settings = {"disk_limit_gb": args.disk_limit_gb, "keep_outputs_gb": args.keep_outputs_gb}
    cuts = cutting.of_all(models, images, known, backends, args.disk_limit_gb)
    budget = disk.budget(models, images, {of: cut.largest for of, cut in cuts.items()}, backends, settings)
    jobs = jobs_of(args.summary, dict(entry.split("=") for entry in args.outputs))
    rows = [row(name, model, images, backends, budget, jobs, args.results) for name, model in models.items()]
    print(f"{', '.join(models)} on {', '.join(backends)}. GB are 1e9 bytes.\n")
    blocks = [model_lines(rows), shard_lines(cuts), disk_lines(rows, budget, args)]
    blocks.append(memory_lines(models, backends, args.cores, args.memory_mb))
    blocks.append(parity_lines(args.parity_images, models, backends))
    print("\n\n".join("\n".join(block) for block in [*blocks, job_lines(jobs, args.benchmarks)] if block))


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


def jobs_of(summary: Path, several: dict[str, str]) -> dict[tuple[str, str], Jobs]:
    """Jobs by rule and by the model or dataset that they are about, of which a path tells the name."""
    with summary.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows:
        raise UsageError(f"{summary}: lists no files; it must be what snakemake --summary prints")
    files = {}
    for path in ({row["output_file"]: row for row in rows}).values():
        files.setdefault((path["rule"], about(path["output_file"])), []).append(path["plan"] == "no update")
    return {
        key: Jobs(len(done) // int(several.get(key[0], 1)), done.count(False) // int(several.get(key[0], 1)))
        for key, done in files.items()
    }


def about(path: str) -> str:
    """The model or dataset of a file."""
    top, *rest = Path(path).parts
    return Path(rest[0]).stem if top == "reports" else rest[1] if rest[0] == "datasets" else rest[0]


def row(
    name: str,
    model: dict,
    images: dict[str, int],
    backends: dict[str, dict],
    budget: disk.Budget,
    jobs: dict[tuple[str, str], Jobs],
    results: Path,
) -> dict:
    """Bytes of a model: of all its tensors, of one job at work, of what is kept, of detections and graphs."""
    total = images[model["dataset"]]
    detections = sum(detection_bytes(name, model, backend, total, results) for backend in backends)
    copies = sum(found.all for (rule, of), found in jobs.items() if of == name and rule in GRAPHS)
    start = Path(model["onnx"] if "onnx" in model else model["checkpoint"]["file"])
    return {
        "name": name,
        "images": total,
        "tensors": total * disk.tensor_bytes(model),
        "outputs": total * len(backends) * outputs.size(model["outputs"]),
        "kept": budget.kept.get(name),
        "job": max(budget.job_mb[name, backend] for backend in backends) * disk.MB,
        "results": detections + (start.stat().st_size * copies if start.is_file() else 0),
    }


def detection_bytes(name: str, model: dict, backend: str, images: int, results: Path) -> int:
    """Bytes of a backend's detections: those that are there, else an estimate from the most that an image may have."""
    there = list((results / name / backend / "detections").glob("*.json.gz"))
    if there:
        return sum(path.stat().st_size for path in there)
    masks = config.scored_masks(model["metric"])
    return images * (model["decode"].get("max_detections") or MOST_ROWS) * (ROW_WITH_MASK if masks else ROW)


def model_lines(rows: list[dict]) -> list[str]:
    """Sizes of each model."""
    head = f"{'model':<18}{'images':>8}{'all tensors':>13}{'all outputs':>13}{'':>11}"
    return [f"{head}{'a job':>10}{'results':>10}"] + [
        f"{row['name']:<18}{row['images']:>8}{gb(row['tensors']):>13}{gb(row['outputs']):>13}"
        f" {'temporary' if row['kept'] is None else 'kept':>10}{gb(row['job']):>10}{gb(row['results']):>10}"
        for row in rows
    ]


def shard_lines(cuts: dict[tuple[str, str | None], cutting.Cut]) -> list[str]:
    """How many shards there are, and why."""
    return [f"{'model':<18}{'backend':<22}{'shards':>7}{'images each':>13}  reason"] + [
        f"{name:<18}{backend:<22}{cut.shards:>7}{cut.largest:>13}  {cut.reason}"
        for (name, backend), cut in cuts.items()
        if backend is not None
    ]


def disk_lines(rows: list[dict], budget: disk.Budget, args: argparse.Namespace) -> list[str]:
    """The most that tensors and outputs take at any moment."""
    at_work = min(args.cores * max(row["job"] for row in rows), budget.scratch_mb * disk.MB)
    kept = sum(budget.kept.values())
    if args.per_node:
        return [
            f"Tensors and outputs on the disk of one node ($TMPDIR) at any moment: at most"
            f" {gb(budget.scratch_mb * disk.MB)} (disk_limit_gb {args.disk_limit_gb:g}), a job's at most"
            f" {gb(max(row['job'] for row in rows))}; jobs that find no room there wait. None are kept, and none are on"
            " the shared file system.",
            RESULTS,
        ]
    limit = f"(disk_limit_gb {args.disk_limit_gb:g})"
    return [
        f"Tensors and outputs on disk at any moment: at most {gb(at_work + kept)} {limit},"
        f" {gb(at_work)} of jobs at work on {args.cores} cores and {gb(kept)} of outputs that are kept.",
        RESULTS,
    ]


def memory_lines(models: dict[str, dict], backends: dict[str, dict], cores: int, limit: int | None) -> list[str]:
    """What a job of each stage takes that holds a model, and how many run side by side."""
    lines = [f"{'model':<18}{'backend':<22}{'a shard':>10}{'at once':>9}  other stages"]
    for name, model in models.items():
        graphs = [f"{stage} {gb(memory.job_mb(stage, model) * MB)}" for stage in ("export", "simplify")]
        for key, backend in backends.items():
            needed = memory.job_mb("infer", model, backend)
            fit = cores if limit is None else max(1, min(cores, limit // needed))
            lines.append(f"{name:<18}{key:<22}{gb(needed * MB):>10}{fit:>9}  {', '.join(graphs)}")
    total = "as the scheduler grants" if limit is None else f"{gb(limit * MB)} for all jobs at once"
    return [f"Memory, estimated: {total}; at once is jobs on {cores} cores.", *lines]


def parity_lines(images: int, models: dict[str, dict], backends: dict[str, dict]) -> list[str]:
    """What the ladder costs: runs of the model, beside those over the dataset."""
    if not images:
        return []
    told = []
    for name, model in models.items():
        runs = {key: images * len(parity.steps(model, backend)) for key, backend in backends.items()}
        told.append(f"{name} {', '.join(f'{count} on {key}' for key, count in runs.items())}")
    return [f"Parity, {images} images through every form of a model, runs it so often besides: {'; '.join(told)}."]


def job_lines(jobs: dict[tuple[str, str], Jobs], benchmarks: Path) -> list[str]:
    """Jobs of every rule, and the seconds that those still to do take where earlier runs tell."""
    lines = [f"{'rule':<20}{'jobs':>7}{'to do':>7}{'s per job':>11}{'s to do':>10}"]
    total, known = Counter(), True
    for rule in dict.fromkeys(rule for rule, _ in jobs):
        found = {of: each for (name, of), each in jobs.items() if name == rule}
        times = {of: seconds(rule, of, benchmarks) for of in found}
        counts = [sum(each[i] for each in found.values()) for i in range(2)]
        total.update(jobs=counts[0], pending=counts[1])
        told = all(times[of] is not None for of, each in found.items() if each.pending)
        needed = sum(each.pending * times[of] for of, each in found.items() if each.pending) if told else None
        known = known and told
        total.update(seconds=needed or 0)
        mean = [time for time in times.values() if time is not None]
        shown = f"{sum(mean) / len(mean):.2f}" if mean else "-"
        lines.append(
            f"{rule:<20}{counts[0]:>7}{counts[1]:>7}{shown:>11}{'-' if needed is None else f'{needed:.0f}':>10}"
        )
    needed = f"{total['seconds']:.0f}" if known else "-"
    lines.append(f"{'all':<20}{total['jobs']:>7}{total['pending']:>7}{'':>11}{needed:>10}")
    lines.append(
        "Seconds are those of jobs in earlier runs; jobs run side by side, so a run takes less by about --cores."
    )
    return lines


def seconds(rule: str, name: str, benchmarks: Path) -> float | None:
    """Mean duration of a rule's jobs in earlier runs for a model or dataset."""
    files = [*(benchmarks / rule / name).rglob("*.tsv"), benchmarks / rule / f"{name}.tsv", benchmarks / f"{rule}.tsv"]
    times = [time for path in files if path.is_file() for time in estimate.durations(path)]
    return sum(times) / len(times) if times else None


def gb(size: float) -> str:
    return f"{size / GB:.3f} GB"


if __name__ == "__main__":
    cli.run(main)
