"""Write a model's report, as text and as JSON, from what the other stages measured.

--accuracy, --analysis and --performance are given once per backend, in the order of --backend. --files are hashed into
the provenance; converted weights also tell the name and sha256 of the checkpoint that they came from. The records of
these files and of --detections say how long the stages took.

Example: python scripts/report.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime.yaml \\
             --accuracy results/MODEL/onnxruntime/accuracy.json \\
             --analysis results/MODEL/onnxruntime/analysis.json \\
             --performance results/MODEL/onnxruntime/performance.json \\
             --files results/MODEL/weights.safetensors results/MODEL/onnxruntime/model.onnx \\
             --command "snakemake reports/MODEL.txt" \\
             --output-text reports/MODEL.txt --output-json reports/MODEL.json
"""

import argparse
import datetime
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from detport import cli, compared, config, detections, lineage, made, metrics, provenance, results, schemas
from detport.errors import UsageError
from detport.files import atomic, write_json
from detport.report import gates, ladder, statistics, text, warnings

# Roles of what other stages measured, which are flags too.
MEASURED = ("accuracy", "analysis", "performance", "patches", "calibration", "parity", "resampled")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line says, and its words as a report keeps them."""
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, nargs="+", required=True, help="yaml of every backend")
    parser.add_argument("--accuracy", type=Path, nargs="+", required=True, help="accuracy.json of every backend")
    parser.add_argument("--analysis", type=Path, nargs="+", required=True, help="analysis.json of every backend")
    parser.add_argument("--performance", type=Path, nargs="+", required=True, help="performance.json of every backend")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="files for the provenance")
    parser.add_argument("--resampled", type=Path, nargs="*", default=[], help="what resample.py wrote")
    parser.add_argument("--patches", type=Path, nargs="*", default=[], help="patches.json of every compiled graph")
    parser.add_argument("--parity", type=Path, nargs="*", default=[], help="parity.json of every backend")
    parser.add_argument("--calibration", type=Path, nargs="*", default=[], help="calibration.json of every int8 graph")
    parser.add_argument(
        "--detections",
        type=Path,
        nargs="*",
        default=[],
        help="those of every backend, in its order, for the time and memory they took",
    )
    parser.add_argument("--command", default="", help="command line of the run, for the provenance")
    parser.add_argument("--history", type=Path, help="folder that keeps a dated copy of every report")
    parser.add_argument("--output-text", type=Path, required=True)
    parser.add_argument("--output-json", type=Path, required=True)
    args = parser.parse_args(argv)
    args.words = list(argv)
    if args.expect is not None:
        at = args.words.index("--expect")
        del args.words[at : at + 2]
    if not len(args.backend) == len(args.accuracy) == len(args.analysis) == len(args.performance):
        raise UsageError(
            "--backend, --accuracy, --analysis and --performance need equally many files, in the same order"
        )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(sys.argv[1:] if argv is None else argv)
    model = config.load_model(args.model, "report")
    problem = gates.check_references(model, str(args.model))
    if problem:
        raise UsageError(problem)
    backends = {path.stem: config.load_backend(path)["title"] for path in args.backend}
    inputs = {role: getattr(args, role) for role in MEASURED}
    record = made.begin(lineage.stage_recipe("report", model, backends=backends), inputs, expect=args.expect)
    report = assemble(model, backends, record, args)
    write_json(args.output_json, report)
    with atomic(args.output_text) as partial:
        partial.write_text(text.render(report), encoding="utf-8")
    for path in (args.output_json, args.output_text):
        made.put(record, path)
        if args.history:
            keep(path, args.history / model["name"], report["provenance"]["date"])
    cli.log.info("%s: %s", model["name"], report["verdict"])


def keep(report: Path, folder: Path, date: str) -> None:
    """A copy of a report that no later run replaces; it is named by the report's date."""
    folder.mkdir(parents=True, exist_ok=True)
    name = date.replace(":", "").replace("+0000", "Z")  # Windows and tar dislike colons
    with atomic(folder / f"{name}{report.suffix}") as partial:
        shutil.copyfile(report, partial)


def assemble(model: dict, titles: dict[str, str], record: dict, args: argparse.Namespace) -> dict:
    """The report as plain data."""
    backends, trusted, annotations = {}, {}, {}
    patches = [results.read(path, "patches") for path in args.patches]
    parities = [results.read(path, "parity") for path in args.parity]
    calibrations = [calibrated(results.read(path, "calibration")) for path in args.calibration]
    resampled = {found["of"]: found for found in (results.read(path, "resampled") for path in args.resampled)}
    files_of = detections.by_backend(list(titles), args.detections)
    confidence = model["statistics"]["confidence"]
    for name, *files in zip(titles, args.accuracy, args.analysis, args.performance, strict=True):
        accuracy, analysis, performance = map(results.read, files, ("accuracy", "analysis", "performance"))
        backends[name] = {
            "title": titles[name],
            "accuracy": accuracy["accuracy"],
            "images": accuracy["images"],
            "images_counted": accuracy["images_counted"],
            "detections": accuracy["detections"],
            "unscored": accuracy["unscored"],
            "sample": accuracy["sample"],
            "doubts": accuracy["doubts"],
            "too_large": accuracy["too_large"],
            "cross_checked": accuracy["cross_checked"],
            "notes": scoring(model["metric"], accuracy),
            "simulator": {"accuracy": accuracy["simulator"], "performance": performance.get("simulator", False)},
            "performance": performance,
            "analysis": analysis["analysis"],
            "bytes": model_bytes(args.files, name),
            "peak_bytes": provenance.memory(files_of[name]),
            "patches": [each for each in patches if each["backend"] == name],
            "calibration": [each for each in calibrations if each["backend"] == name],
            "parity": next((each for each in parities if each["backend"] == name), None),
            "figures": gates.figures(accuracy, performance),
            "intervals": statistics.intervals(resampled[name], confidence) if name in resampled else {},
        }
        if name in resampled:
            statistics.require_agreement(name, resampled[name], backends[name]["figures"])
        if accuracy["annotations"]:
            annotations[accuracy["annotations"]["file"]] = accuracy["annotations"]["sha256"]
        trusted[name] = len(accuracy["images"]["skipped"]) <= model["allowed_skips"]
        of = accuracy["sample"]["of"] if accuracy["sample"] else None
    figures = {name: backend["figures"] for name, backend in backends.items()}
    origin = provenance.measured_with(args.files, annotations.values())
    if problem := provenance.mismatch(model["references"], origin):
        raise UsageError(f"{args.model}: {problem}")
    scored = any(backend["accuracy"] for backend in backends.values())
    judgement = judged(model, figures, trusted, resampled, of, scored)
    rungs = [row for parity in parities for row in ladder.judged(parity, model["parity"])]
    return {
        "schema": 1,
        "model": model["name"],
        "title": model["title"],
        "dataset": model["dataset"],
        "warnings": [line for name in backends for line in warnings.lines(model, name, backends[name])],
        "headline": schemas.plugin("metrics", model["metric"]["kind"]).get("headline"),
        "backends": backends,
        **judgement,
        "verdict": gates.FAIL if any(row["verdict"] == gates.FAIL for row in rungs) else judgement["verdict"],
        "parity": rungs,
        "provenance": {
            "sha256": provenance.digests(args.files) | annotations,
            "measured_with": origin,
            "brought": provenance.brought([*args.accuracy, *args.performance]),
            "stages": record["trail"],
            "took": provenance.took(
                [path for role in ("files", "detections", *MEASURED) for path in getattr(args, role)]
            ),
            "command": args.command,
            "arguments": args.words,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    }


def scoring(metric: dict, accuracy: dict) -> list[str]:
    """What one has to know of the figures, in sentences: over which images, by whom, and by which rules."""
    if not accuracy["accuracy"]:
        return []
    module = metrics.load(metric["kind"])
    over = f"{accuracy['images_counted']} images count, {module.which_images(metric)}"
    return [f"{over}; {module.evaluators(accuracy['cross_checked'])}", *module.notes(accuracy["accuracy"], metric)]


def calibrated(calibration: dict) -> dict:
    """What a report keeps of a calibration: all but the ranges."""
    return {key: value for key, value in calibration.items() if key not in ("ranges", "schema")}


def model_bytes(files: Sequence[Path], backend: str) -> int | None:
    """Bytes of what a backend opens, all canvases together; None of one that runs the checkpoint."""
    own = [path for path in files if path.parent.name == backend and path.stem.startswith("model")]
    return sum(path.stat().st_size for path in own) if own else None


def judged(
    model: dict,
    measured: dict[str, dict],
    trusted: dict[str, bool],
    resampled: dict[str, dict] | None = None,
    sample_of: int | None = None,
    scored: bool = True,
) -> dict:
    """Verdict, gates and published figures, from the figures of every backend of the run, and from resamples of them by
    backend or file. `sample_of` is how many images the dataset has, if the run is about a sample of it; `scored` says
    whether there is any ground truth."""
    references, resampled = model["references"], resampled or {}
    known = measured | statistics.recorded_values(model["gates"], resampled)
    rows = [
        statistics.judge(gates.judge(gate, name, known, references, trusted[name]), gate, resampled, model, sample_of)
        for name in measured
        for gate in model["gates"]
        if compared.asked(gate, name, list(measured))
    ]
    asked = {row["name"] for row in rows}
    not_asked = [gate for gate in model["gates"] if gate["name"] not in asked]
    return {
        "verdict": gates.verdict(rows, not_asked, scored),
        "gates": rows,
        "gates_not_asked": not_asked,
        "comparison": gates.compared(model["references"], measured),
        "references": [described(reference) for reference in model["references"]],
        "published": gates.published(model["gates"], model["references"]),
    }


def described(reference: dict) -> dict:
    """A reference with the figures that follow from it."""
    arithmetic = gates.published_fps(reference["speed"])[1] if reference["speed"] else None
    return reference | {"figures": gates.published_figures(reference), "arithmetic": arithmetic}


if __name__ == "__main__":
    cli.run(main)
