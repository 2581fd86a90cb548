"""What a run from nothing takes: jobs, bytes and time, before anything runs."""

import csv
from pathlib import Path

from detport import canvases, disk, outputs
from detport.disk import GB

# Bytes that one detection takes in a detections file, with and without a mask, where no earlier run tells.
ROW_WITH_MASK, ROW = 250, 60
MOST_ROWS = 100  # detections of an image, where the model's yaml does not say


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
    masks = "segm" in model["metric"].get("iou_types", [])
    return images * model["decode"].get("max_detections", MOST_ROWS) * (ROW_WITH_MASK if masks else ROW)


def graph_bytes(model: dict, work: dict[str, int]) -> int:
    """Bytes of converted weights and graphs, each about as large as the file that the model starts from."""
    path = Path(model["onnx"] if "onnx" in model else model["checkpoint"]["file"])
    copies = sum(work[stage] for stage in ("convert_checkpoint", "export", "simplify", "patch", "compile"))
    return path.stat().st_size * copies if path.is_file() else 0


def seconds(stage: str, name: str, benchmarks: Path) -> float | None:
    """Mean duration of a stage's jobs in earlier runs of a model or dataset."""
    files = [*(benchmarks / stage / name).rglob("*.tsv"), *(benchmarks / stage).glob(f"{name}.tsv")]
    times = []
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            times += [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
    return sum(times) / len(times) if times else None


def lines(
    models: dict[str, dict],
    datasets: dict[str, dict],
    images: dict[str, int],
    backends: dict[str, dict],
    budget: disk.Budget,
    limit_gb: float,
    results: Path,
    benchmarks: Path,
) -> list[str]:
    """The plan as text."""
    work = {
        name: jobs(model, datasets[model["dataset"]]["shards"], backends, budget.windows[name])
        for name, model in models.items()
    }
    text = [f"A run from nothing: {', '.join(models)} on {', '.join(backends)}. GB are 1e9 bytes.", ""]
    text += [
        f"{'model':<18}{'images':>8}{'shards':>8}{'at once':>9}{'all shards':>13}{'all outputs':>13}{'':>11}"
        f"{'peak':>10}{'results':>10}"
    ]
    for name, model in models.items():
        count, shards = images[model["dataset"]], datasets[model["dataset"]]["shards"]
        window = min(budget.windows[name], shards)
        kept = budget.kept.get(name, 0)
        made = count * len(backends) * outputs.size(model["outputs"])
        peak = window * budget.shards[name] + kept
        left = sum(detection_bytes(name, model, backend, count, results) for backend in backends)
        left += graph_bytes(model, work[name])
        text.append(
            f"{name:<18}{count:>8}{shards:>8}{window:>9}{gb(count * disk.tensor_bytes(model)):>13}{gb(made):>13}"
            f" {'kept' if kept else 'temporary':>10}{gb(peak):>10}{gb(left):>10}"
        )
    peak = sum(
        min(budget.windows[name], datasets[model["dataset"]]["shards"]) * budget.shards[name]
        for name, model in models.items()
    )
    text += [
        "",
        "Shards and outputs on disk at any moment: at most"
        f" {gb(peak + sum(budget.kept.values()))} (disk_limit_gb {limit_gb:g}).",
        "results: detections and graphs, about; graphs count only where the file that a model starts from is there.",
        "",
        f"{'stage':<20}{'jobs':>7}{'s per job':>11}{'s in all':>10}",
    ]
    total, known = 0.0, True
    by_stage = {"index_dataset": dict.fromkeys(datasets, 1)}
    for stage in next(iter(work.values())):
        by_stage[stage] = {name: work[name][stage] for name in models}
    for stage, counts in by_stage.items():
        times = {name: seconds(stage, name, benchmarks) for name in counts}
        number = sum(counts.values())
        timed = all(times[name] is not None for name, count in counts.items() if count) and stage != "make_room"
        taken = sum(count * (times[name] or 0) for name, count in counts.items())
        shown = (f"{taken / max(number, 1):.2f}", f"{taken:.0f}") if timed else ("-", "-")
        known, total = known and (timed or stage == "make_room"), total + taken
        text.append(f"{stage:<20}{number:>7}{shown[0]:>11}{shown[1]:>10}")
    number = sum(sum(counts.values()) for counts in by_stage.values())
    text.append(f"{'all':<20}{number:>7}{'':>11}{f'{total:.0f}' if known else '-':>10}")
    text.append(
        "Seconds are those of jobs in earlier runs; jobs run side by side, so a run takes less by about --cores."
    )
    return text


def gb(size: float) -> str:
    return f"{size / GB:.3f} GB"
