"""Write one line per model and backend, from the reports of all models.

Example: python scripts/summary.py --reports reports/MODEL.json reports/OTHER.json \\
             --output-text reports/summary.txt --output-json reports/summary.json
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detport import cli, made, results
from detport.files import atomic, write_json
from detport.report import gates

WIDTH = 110


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--reports", type=Path, nargs="+", required=True, help="reports/MODEL.json of every model")
    parser.add_argument("--output-text", type=Path, required=True)
    parser.add_argument("--output-json", type=Path, required=True)
    args = parser.parse_args(argv)

    record = made.begin(made.recipe("summary", {}), {"reports": args.reports}, expect=args.expect)
    reports = [results.read(path, "report") for path in args.reports]
    rows = [row for report in reports for row in rows_of(report)]
    summary = {"schema": 1, "verdict": overall({report["verdict"] for report in reports}), "rows": rows}
    write_json(args.output_json, summary)
    with atomic(args.output_text) as partial:
        partial.write_text(render(summary), encoding="utf-8")
    for path in (args.output_json, args.output_text):
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
        judged = [gate for gate in report["gates"] if gate["backend"] == name]
        lost = [row["rung"] for row in report["parity"] if (row["backend"], row["verdict"]) == (name, gates.FAIL)]
        rows.append(
            {
                "model": report["model"],
                "backend": name,
                "simulator": any(backend["simulator"].values()),
                "verdict": gates.FAIL if lost else gates.verdict(judged),
                "parity": lost,
                "gates": dict(Counter(gate["verdict"] for gate in judged)),
                "accuracy": gates.headline(backend["accuracy"]),
                "fps": backend["performance"]["fps"],
                "images": {key: backend["images"][key] for key in ("indexed", "scored")},
            }
        )
    return rows


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
        "verdict": row["verdict"],
        "gates": ", ".join([*verdicts, *(f"FAIL parity: {rung}" for rung in row["parity"])]) or "none",
        "accuracy": ", ".join(figures),
        "fps": f"{row['fps']:.2f}",
        "images": f"{row['images']['scored']}/{row['images']['indexed']}",
    }


def table(rows: list[dict[str, str]]) -> list[str]:
    """Lines of equal columns, the first line their names."""
    names = dict(zip(rows[0], rows[0], strict=True))
    widths = {name: max(len(row[name]) for row in (names, *rows)) for name in names}
    return ["  ".join(f"{row[name]:<{widths[name]}}" for name in names).rstrip() for row in (names, *rows)]


if __name__ == "__main__":
    cli.run(main)
