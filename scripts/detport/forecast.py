"""What a run from nothing takes: jobs, bytes and time, before anything runs."""

import re
from pathlib import Path
from typing import NamedTuple

from detport import canvases, config, disk, outputs
from detport.disk import GB

# Bytes that one detection takes in a detections file, with and without a mask, where no earlier run tells.
ROW_WITH_MASK, ROW = 250, 60
MOST_ROWS = 100  # detections of an image, where the model's yaml does not say
INSTANT = ("make_room",)  # marks of Snakemake's own, without a command


class Run(NamedTuple):
    """What is to be run, by name, and the disk that it is given."""

    models: dict[str, dict]
    datasets: dict[str, dict]
    images: dict[str, int]  # size of every dataset
    backends: dict[str, dict]
    budget: disk.Budget


def jobs(model: dict, shards: int, backends: dict[str, dict], window: int) -> dict[str, int]:
    """Jobs per stage for one model; the index of its dataset is counted apart."""
    compiled = [backend for backend in backends.values() if backend["runs"] == "compiled"]
    sizes = len(canvases.by_name(model["input"]))
    graphs = sizes * len({backend["flavour"] for backend in compiled})
    return {
        "convert_checkpoint": int("checkpoint" in model),
        "export": graphs,
        "simplify": graphs,
        "patch": sizes * len(compiled),
        "compile": sizes * len(compiled),
        "make_room": max(shards - window, 0),
        "preprocess": shards,
        "infer": shards * len(backends),
        "decode": shards * len(backends),
        "evaluate": len(backends),
        "benchmark": len(backends),
        "report": 1,
    }


def detection_bytes(name: str, model: dict, backend: str, images: int, results: Path) -> int:
    """Bytes of a backend's detections: those that are there, else an estimate from the most that an image may have."""
    there = list((results / name / backend / "detections").glob("*.json.gz"))
    if there:
        return sum(path.stat().st_size for path in there)
    masks = config.scored_masks(model["metric"])
    return images * model["decode"].get("max_detections", MOST_ROWS) * (ROW_WITH_MASK if masks else ROW)


def graph_bytes(model: dict, work: dict[str, int]) -> int:
    """Bytes of converted weights and graphs, each about as large as the file that the model starts from."""
    path = Path(model["onnx"] if "onnx" in model else model["checkpoint"]["file"])
    copies = sum(work[stage] for stage in ("convert_checkpoint", "export", "simplify", "patch", "compile"))
    return path.stat().st_size * copies if path.is_file() else 0


def seconds(stage: str, name: str, benchmarks: Path) -> float | None:
    """Mean duration of a stage's jobs in earlier runs of a model or dataset."""
    files = [*(benchmarks / stage / name).rglob("*.tsv"), *(benchmarks / stage).glob(f"{name}.tsv")]
    times = [time for path in files for time in durations(path)]
    return sum(times) / len(times) if times else None


def durations(path: Path) -> list[float]:
    """Seconds in a benchmark file of Snakemake; what a killed run left of one tells none."""
    found = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in file:
            first = line.split("\t")[0]  # the column s
            if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", first):
                found.append(float(first))
    return found


def models_of(run: Run, results: Path) -> list[dict]:
    """Bytes of every model, and how many of its shards are there at once."""
    rows = []
    for name, model in run.models.items():
        images, shards = run.images[model["dataset"]], run.datasets[model["dataset"]]["shards"]
        at_once, kept = min(run.budget.windows[name], shards), name in run.budget.kept
        detections = sum(detection_bytes(name, model, backend, images, results) for backend in run.backends)
        rows.append(
            {
                "name": name,
                "images": images,
                "shards": shards,
                "at_once": at_once,
                "shard_bytes": images * disk.tensor_bytes(model),
                "output_bytes": images * len(run.backends) * outputs.size(model["outputs"]),
                "outputs": "kept" if kept else "temporary",
                "peak": at_once * run.budget.shards[name] + run.budget.kept.get(name, 0),
                "results": detections + graph_bytes(model, work(run)[name]),
            }
        )
    return rows


def work(run: Run) -> dict[str, dict[str, int]]:
    """Jobs per stage of every model."""
    return {
        name: jobs(model, run.datasets[model["dataset"]]["shards"], run.backends, run.budget.windows[name])
        for name, model in run.models.items()
    }


def stages_of(run: Run, benchmarks: Path) -> list[dict]:
    """Jobs of every stage, and the seconds that all of them take: None where earlier runs do not tell."""
    counts = work(run)
    by_stage = {"index_dataset": dict.fromkeys(run.datasets, 1)}
    for stage in next(iter(counts.values())):
        by_stage[stage] = {name: counts[name][stage] for name in counts}
    rows = []
    for stage, jobs_of in by_stage.items():
        times = {name: 0.0 if stage in INSTANT else seconds(stage, name, benchmarks) for name in jobs_of}
        known = all(times[name] is not None for name, count in jobs_of.items() if count)
        taken = sum(count * times[name] for name, count in jobs_of.items() if count) if known else None
        rows.append({"stage": stage, "jobs": sum(jobs_of.values()), "seconds": taken})
    return rows


def lines(models: list[dict], stages: list[dict], limit_gb: float) -> list[str]:
    """The plan as text."""
    text = [
        f"{'model':<18}{'images':>8}{'shards':>8}{'at once':>9}{'all shards':>13}{'all outputs':>13}{'':>11}"
        f"{'peak':>10}{'results':>10}"
    ]
    text += [
        f"{row['name']:<18}{row['images']:>8}{row['shards']:>8}{row['at_once']:>9}{gb(row['shard_bytes']):>13}"
        f"{gb(row['output_bytes']):>13} {row['outputs']:>10}{gb(row['peak']):>10}{gb(row['results']):>10}"
        for row in models
    ]
    peak = sum(row["peak"] for row in models)
    text += [
        "",
        f"Shards and outputs on disk at any moment: at most {gb(peak)} (disk_limit_gb {limit_gb:g}).",
        "results: detections and graphs, about; graphs count only where the file that a model starts from is there.",
        "",
        f"{'stage':<20}{'jobs':>7}{'s per job':>11}{'s in all':>10}",
    ]
    for row in stages:
        timed = row["seconds"] is not None and row["stage"] not in INSTANT
        shown = (f"{row['seconds'] / max(row['jobs'], 1):.2f}", f"{row['seconds']:.0f}") if timed else ("-", "-")
        text.append(f"{row['stage']:<20}{row['jobs']:>7}{shown[0]:>11}{shown[1]:>10}")
    known = all(row["seconds"] is not None for row in stages)
    total = f"{sum(row['seconds'] for row in stages):.0f}" if known else "-"
    text.append(f"{'all':<20}{sum(row['jobs'] for row in stages):>7}{'':>11}{total:>10}")
    text.append(
        "Seconds are those of jobs in earlier runs; jobs run side by side, so a run takes less by about --cores."
    )
    return text


def gb(size: float) -> str:
    return f"{size / GB:.3f} GB"
