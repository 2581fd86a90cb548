"""What is compared: the reports of a run and, where they are at hand, its detections and the ground truth."""

import contextlib
from pathlib import Path
from typing import NamedTuple

from detport import bundled, config, datasets, detections, results, shards
from detport.errors import Failure, UsageError

SUMMARY = "summary"  # of all models, which is no report of one


class Run(NamedTuple):
    """A model's report, and by backend what it rests on."""

    report: dict
    parts: dict[str, list[dict]]  # detections of all shards
    metric: dict | None
    truth: dict | None
    annotations: str | None  # sha256 of the ground truth that was scored against
    without: str | None  # why there are no detections or no ground truth


def read(path: Path, scratch: Path) -> dict[str, Run]:
    """The runs of a report, a bundle or a folder, by model. A bundle is unpacked in `scratch`."""
    if path.is_dir():
        return of_folder(path)
    if path.suffix == ".zip":
        manifest = bundled.unpack(path, scratch)
        found = of_folder(scratch, {manifest["model"]: manifest["dataset"]})
        if not found:
            raise Failure(f"{path}: has no report of {manifest['model']}; have it sent again")
        return found
    if path.suffix != ".json":
        raise UsageError(f"{path}: expected reports/MODEL.json, reports/MODEL.zip or a folder with reports/ in it")
    own = results.read(path, "report")
    return {own["model"]: Run(own, {}, None, None, None, f"{path} is a report alone; give a bundle or a folder")}


def of_folder(folder: Path, known: dict[str, dict] | None = None) -> dict[str, Run]:
    """The runs in a working directory; `known` are the datasets of models that no configuration tells."""
    reports = [path for path in sorted((folder / "reports").glob("*.json")) if path.stem != SUMMARY]
    if not reports and known is None:
        raise UsageError(f"{folder}: has no reports/MODEL.json; give a folder in which a workflow has run")
    return {path.stem: of_model(folder, results.read(path, "report"), known) for path in reports}


def of_model(folder: Path, report: dict, known: dict[str, dict] | None) -> Run:
    """A model's run in a working directory, with as much of it as is there."""
    own = folder / "results" / report["model"]
    parts = {
        backend: detections.read_all(sorted((own / backend / "detections").glob("*.json.gz")))
        for backend in report["backends"]
    }
    if not all(parts.values()):
        return Run(report, {}, None, None, None, f"{folder} has no detections of {report['model']}")
    accuracy = results.read(own / next(iter(parts)) / "accuracy.json", "accuracy")
    scored = accuracy["annotations"] and accuracy["annotations"]["sha256"]
    try:
        truth, digest = ground_truth(folder, report["dataset"], (known or {}).get(report["model"]))
    except (UsageError, FileNotFoundError) as error:
        return Run(report, parts, accuracy["metric"], None, scored, f"no ground truth: {error}")
    if digest != scored:
        return Run(
            report, parts, accuracy["metric"], None, scored, f"{folder}: other annotations than were scored against"
        )
    return Run(report, parts, accuracy["metric"], truth, scored, None if truth else "the dataset has no ground truth")


def ground_truth(folder: Path, name: str, dataset: dict | None) -> tuple[dict | None, str | None]:
    """The ground truth of a dataset, whose paths are relative to the folder, and its sha256."""
    with contextlib.chdir(folder):
        if dataset is None:
            dataset = config.load_dataset([Path("config/config.yaml")], name)
        kind, rows = datasets.load(dataset["kind"]), shards.read_index(Path(f"results/datasets/{name}/index.tsv"))
        found = kind.source(dataset, rows)
        return kind.truth(dataset, rows), found and found["sha256"]
