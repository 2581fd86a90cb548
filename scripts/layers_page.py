"""Show the nodes where error enters in a browser: the table of layers.py as one file, to be sorted and searched.

Example: python scripts/layers_page.py --name "MODEL on onnxruntime_int8" \\
             --layers results/MODEL/onnxruntime_int8/layers.tsv --output results/MODEL/onnxruntime_int8/layers.html
"""

from collections.abc import Sequence
from pathlib import Path

from detport import cli, layers, lineage, made
from detport.files import atomic
from detport.page import render


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--name", required=True, help="model and backend, for the head of the page")
    parser.add_argument("--layers", type=Path, required=True, help="the table, layers.tsv")
    parser.add_argument("--output", type=Path, required=True, help="the page")
    args = parser.parse_args(argv)

    record = made.begin(lineage.layers_page_recipe(args.name), {"layers": args.layers}, expect=args.expect)
    page = render.layers(args.name, layers.read_head(args.layers), layers.read(args.layers))
    with atomic(args.output) as partial:
        partial.write_text(page, encoding="utf-8")
    made.put(record, args.output)
    cli.log.info("%s: %d kB", args.output, len(page.encode()) // 1000)


if __name__ == "__main__":
    cli.run(main)
