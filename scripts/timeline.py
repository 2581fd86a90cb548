"""Show the last run in a working directory as a timeline: which stages were at work when, and what devices waited for.

Writes a page that holds all it needs, and prints a line for every device: how long it was idle between its first and
its last use. What is shown comes from the records beside the files that the run made; what it found made is not there.

Example: python scripts/timeline.py --directory demo --output timeline.html
"""

from collections.abc import Sequence
from pathlib import Path

from detport import cli, timeline
from detport.errors import UsageError
from detport.files import atomic
from detport.page import lanes


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("--directory", type=Path, default=Path(), help="the working directory (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="the page")
    args = parser.parse_args(argv)

    stages, devices = timeline.last_run(args.directory)
    if not stages:
        raise UsageError(f"--directory {args.directory}: no run has left records there; run the workflow first")
    lines = [timeline.waiting(device, uses) for device, uses in devices.items()]
    print("\n".join([f"{len(stages)} stages in {max(s.end for s in stages) - stages[0].begin:.1f} s", *lines]))
    with atomic(args.output) as partial:
        partial.write_text(lanes.page(stages, devices, lines), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
