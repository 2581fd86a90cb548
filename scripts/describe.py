"""Print what an ONNX file says of itself: inputs, outputs, opset, operators, metadata, limits of its NMS; and the lines
of a model's yaml that follow.

The graph is run once on random numbers to see shapes and what the outputs are; --no-run leaves that out.

Example: python scripts/describe.py weights/my.onnx
"""

from collections.abc import Sequence
from pathlib import Path

from detport import cli, proposal
from detport.commented import render
from detport.errors import Complaint
from detport.graph import contract, describe


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("onnx", type=Path, help="the .onnx file")
    parser.add_argument("--preset", help="of which family the lines are to be")
    parser.add_argument("--no-run", action="store_true", help="do not run the graph")
    args = parser.parse_args(argv)

    graph = contract.read(args.onnx)
    found = describe.facts(graph)
    print("\n".join([str(args.onnx), *describe.text(found)]))
    for line in describe.warnings(found):
        print(f"WARNING: {line}")
    if args.no_run:
        return
    dataset = proposal.Dataset("NAME", "", [], [])
    try:
        lines = proposal.propose(args.onnx.as_posix(), graph, dataset, args.preset).lines
    except Complaint as error:
        print(f"no yaml follows: {error}")
        return
    print("\nlines of a model's yaml that follow:")
    print(render([], (line for line in lines if line.key[0] in ("input", "outputs", "decode"))), end="")


if __name__ == "__main__":
    cli.run(main)
