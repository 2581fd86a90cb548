"""Exit status 0 only if the verdict of every report is PASS, or NO GATES: a model that asks for nothing.

Example: python scripts/accept.py --reports reports/MODEL.json
"""

from collections.abc import Sequence
from pathlib import Path

from detport import cli, made, results
from detport.errors import Failure
from detport.report.gates import NO_GATES, PASS


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--reports", type=Path, nargs="+", required=True, help="reports/MODEL.json")
    args = parser.parse_args(argv)

    for path in args.reports:
        if made.read(path) is not None:
            made.whole(path)  # refuses one that was edited
    verdicts = {path.stem: results.read(path, "report")["verdict"] for path in args.reports}
    for model, verdict in verdicts.items():
        print(f"{verdict:<13}{model}")
    unasked = [model for model, verdict in verdicts.items() if verdict == NO_GATES]
    if unasked:
        cli.log.warning("no gates are declared for %s, so nothing of it was judged", ", ".join(unasked))
    refused = [model for model, verdict in verdicts.items() if verdict not in (PASS, NO_GATES)]
    if refused:
        files = ", ".join(f"reports/{model}.txt" for model in refused)
        raise Failure(f"not accepted: {', '.join(refused)}; the gates are in {files}")


if __name__ == "__main__":
    cli.run(main)
