"""Write one line per model and backend, from the reports of all models.

Example: python scripts/summary.py --reports reports/MODEL.json reports/OTHER.json \\
             --output-text reports/summary.txt --output-json reports/summary.json \\
             --output-csv reports/summary.csv --output-html reports/summary.html
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detport import cli, lineage, made, results
from detport.files import atomic, write_json
from detport.page import render as pages
from detport.report import gates

WIDTH = 110


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--reports", type=Path, nargs="+", required=True, help="reports/MODEL.json of every model")
    parser.add_argument("--output-text", type=Path, required=True)
    parser.add_argument("--output-json", type=Path, required=True)
    parser.add_argument("--output-csv", type=Path, required=True)
    parser.add_argument("--output-html", type=Path, required=True)
    args = parser.parse_args(argv)

    record = made.begin(lineage.summary_recipe(), {"reports": args.reports}, expect=args.expect)
    reports = [results.read(path, "report") for path in args.reports]
    rows = [row for report in reports for row in rows_of(report)]
    summary = {"schema": 1, "verdict": overall({report["verdict"] for report in reports}), "rows": rows}
    write_json(args.output_json, summary)
    texts = {args.output_text: render(summary), args.output_csv: sheet(rows), args.output_html: pages.summary(summary)}
    for path, text in texts.items():
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
    for path in (args.output_json, *texts):
        made.put(record, path)
    cli.log.info("%d models: %s", len(reports), summary["verdict"])


def overall(verdicts: set[str]) -> str:
    """One word for the verdicts of several models; one without gates has no part in it unless no model has any."""
    verdicts = verdicts - {gates.NO_GATES} or {gates.NO_GATES}
    if gates.FAIL in verdicts:
        return gates.FAIL
    return verdicts.pop() if len(verdicts) == 1 else gates.UNDECIDED


def rows_of(report: dict) -> list[dict]:
    """What the summary says of a model on each of its backends."""
    rows = []
    for name, backend in report["backends"].items():
        accuracy, performance = gates.headline(backend["accuracy"]), backend["performance"]
        published = compared(report, name, next(iter(accuracy), None))
        judged = [gate for gate in report["gates"] if gate["backend"] == name]
        lost = [row["rung"] for row in report["parity"] if (row["backend"], row["verdict"]) == (name, gates.FAIL)]
        rows.append(
            {
                "model": report["model"],
                "backend": name,
                "precision": backend["parity"]["precisions"]["compiled"] if backend.get("parity") else None,
                "simulator": any(backend["simulator"].values()),
                "verdict": gates.FAIL if lost else gates.verdict(judged, scored=bool(accuracy)),
                "parity": lost,
                "gates": dict(Counter(gate["verdict"] for gate in judged)),
                "accuracy": accuracy,
                "reference": published.get("reference"),
                "difference": published.get("difference"),
                "interval": of_difference(published, backend.get("intervals", {})),
                "reference_is": published.get("of"),
                "fps": performance["fps"],
                "latency_ms": {key: performance.get("latency_ms", {}).get(key) for key in ("mean", "p50", "p99")},
                "bytes": backend.get("bytes"),
                "peak_bytes": backend.get("peak_bytes"),
                "images": {key: backend["images"][key] for key in ("indexed", "scored")},
            }
        )
    return rows


def compared(report: dict, backend: str, figure: str | None) -> dict:
    """The first comparison of a figure with a reference."""
    rows = report.get("comparison", [])
    return next((row for row in rows if row["backend"] == backend and row["figure"] == figure), {})


def of_difference(published: dict, intervals: dict) -> dict[str, float | None]:
    """The interval of the difference, where the figure was resampled; the reference is taken to be exact."""
    around, reference = intervals.get(published.get("figure")), published.get("reference")
    known = around is not None and reference is not None
    return {key: round(around[key] - reference, 6) if known else None for key in ("low", "high")}


def sheet(rows: list[dict]) -> str:
    """The rows for a spreadsheet: one column for every figure, empty where there is none."""
    flat = [flattened(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def flattened(row: dict, before: str = "") -> dict:
    """Keys of keys with a point between them. Text that a spreadsheet would take for a formula gets a quote."""
    found = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= flattened(value, f"{before}{key}.")
        else:
            found[before + key] = f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value
    return found


def render(summary: dict) -> str:
    """The whole text of reports/summary.txt."""
    lines = table([cells(row) for row in summary["rows"]])
    width = max(WIDTH, *map(len, lines))
    models = len({row["model"] for row in summary["rows"]})
    head = [
        "=" * width,
        f"summary of {models} model{'s' * (models != 1)}",
        f"VERDICT: {summary['verdict']}",
        "=" * width,
    ]
    return "\n".join([*head, "", *lines, "", "reports/MODEL.txt has the rest."]) + "\n"


def cells(row: dict) -> dict[str, str]:
    """A row as text."""
    figures = (f"{name} {'-' if value is None else f'{value:.4f}'}" for name, value in row["accuracy"].items())
    verdicts = (f"{count} {verdict}" for verdict, count in row["gates"].items())
    return {
        "model": row["model"],
        "backend": row["backend"] + (" (SIMULATOR)" if row["simulator"] else ""),
        "precision": row["precision"] or "—",
        "verdict": row["verdict"],
        "gates": ", ".join([*verdicts, *(f"FAIL parity: {rung}" for rung in row["parity"])]) or "none",
        "accuracy": ", ".join(figures),
        "fps": f"{row['fps']:.2f}",
        "model MB": megabytes(row["bytes"]),
        "memory MB": megabytes(row["peak_bytes"]),
        "images": f"{row['images']['scored']}/{row['images']['indexed']}",
    }


def megabytes(count: int | None) -> str:
    return "—" if count is None else f"{count / 1e6:.1f}"


def table(rows: list[dict[str, str]]) -> list[str]:
    """Lines of equal columns, the first line their names."""
    names = dict(zip(rows[0], rows[0], strict=True))
    widths = {name: max(len(row[name]) for row in (names, *rows)) for name in names}
    return ["  ".join(f"{row[name]:<{widths[name]}}" for name in names).rstrip() for row in (names, *rows)]


if __name__ == "__main__":
    cli.run(main)
