"""Compare two runs: what got better or worse beyond noise, in which images, and what they were made with.

A and B are each a report (reports/MODEL.json), a bundle (reports/MODEL.zip), or a folder in which a workflow has run.
Reports tell figures, gates and origins. Bundles and folders also hold detections, so that the images that changed are
named and a difference of accuracy gets its interval, by the same images drawn again and again.

A difference of accuracy is beyond noise if 0 is outside its interval; without detections, if there is any. A speed is
beyond noise if the fps differ by more than the 90th percentile of the latency is above its median, in either run.

--fail-on worse makes the exit status 1 if anything got worse beyond noise, --fail-on any if anything differs.

Example: python scripts/compare.py reports/history/MODEL/2026-05-01T101500Z.json reports/MODEL.json --fail-on worse \\
             --output-json compared.json --output-html compared.html
"""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detport import cli
from detport.comparing import runs, text, worth
from detport.errors import Failure
from detport.files import atomic, write_json
from detport.page import render


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("before", type=Path, metavar="A", help="the run before")
    parser.add_argument("after", type=Path, metavar="B", help="the run after")
    parser.add_argument("--fail-on", choices=["worse", "any"], help="exit status 1 then")
    parser.add_argument("--output-json", type=Path, help="the comparison as data")
    parser.add_argument("--output-html", type=Path, help="the comparison as a page, which holds all it needs")
    args = parser.parse_args(argv)

    with contextlib.ExitStack() as stack:
        both = [
            runs.read(path, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            for path in (args.before, args.after)
        ]
        found = {"runs": [str(args.before), str(args.after)]} | worth.compared(*both)
    print(text.render(found))
    if args.output_json:
        write_json(args.output_json, found)
    if args.output_html:
        with atomic(args.output_html) as partial:
            partial.write_text(render.comparison(found), encoding="utf-8")
    if args.fail_on == "any" and found["different"]:
        raise Failure(f"{args.after} differs from {args.before}")
    if args.fail_on and found["worse"]:
        raise Failure(f"{args.after} is worse than {args.before} in {found['worse']} points")


if __name__ == "__main__":
    cli.run(main)
