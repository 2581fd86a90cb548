"""Write a model's yaml from an ONNX file: what the file tells, each line with the reason.

The graph is run once or twice, on images of the dataset if they are there, to see what comes out. What no file tells,
such as the order of colours, is a line marked GUESS, or has a QUESTION above it. --preset takes a family's published
preprocessing and NMS from config/presets. A yaml that is there is left alone unless --force is given.

Run it in the working directory, the folder that has config/config.yaml.

Example: python scripts/new_model.py weights/my.onnx --dataset coco_val2017 --preset yolov8
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from detport import cli, config, datasets, presets, proposal, sampling
from detport.backends import onnxruntime
from detport.commented import GUESS, QUESTION, render
from detport.errors import UsageError
from detport.files import atomic
from detport.graph import contract, foreign

IMAGES = 4  # that the graph is run on


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("onnx", type=Path, help="the .onnx file, best relative to the working directory")
    parser.add_argument("--dataset", required=True, help="name of the dataset that it is to be scored on")
    parser.add_argument("--dataset-config", type=Path, default=Path("config/config.yaml"), help="(%(default)s)")
    parser.add_argument("--preset", help=f"family: {', '.join(presets.known())}")
    parser.add_argument("--name", help="name of the model (default: that of the file)")
    parser.add_argument("--output", type=Path, help="the yaml (default: config/models/NAME.yaml)")
    parser.add_argument("--force", action="store_true", help="replace a yaml that is there")
    args = parser.parse_args(argv)

    name = args.name or re.sub(r"[^A-Za-z0-9_.-]+", "_", args.onnx.stem).lstrip("_.-") or "model"
    output = args.output or Path("config/models") / f"{name}.yaml"
    if output.exists() and not args.force:
        raise UsageError(f"{output}: is there already; --force replaces it, --name NAME writes another")
    if args.preset:
        presets.load(args.preset)
    dataset = dataset_of(args.dataset_config, args.dataset)
    graph = contract.read(args.onnx)
    if problem := foreign.without_kernel(graph, onnxruntime.kernels()):
        raise UsageError(f"{args.onnx}: {problem}")
    try:
        found = proposal.propose(args.onnx.as_posix(), graph, dataset, args.preset)
    except UsageError as error:
        raise UsageError(f"{args.onnx}: {error}") from error
    text = render(found.head, found.lines)
    with atomic(output) as partial:
        partial.write_text(text, encoding="utf-8")
    questions = [line for line in found.lines if line.question]
    guesses = [line for line in found.lines if line.guess and not line.question]
    print(f"{output}: {len(found.lines)} lines")
    for title, lines in ((QUESTION, questions), (GUESS, guesses)):
        for line in lines:
            print(f"  {title} {'.'.join(line.key)}: {line.value}", file=sys.stdout)
    print("next: answer the questions, then ask which answers fit your images, and score the model:")
    for target in (f"results/{output.stem}/doctor.txt", f"reports/{output.stem}.txt"):
        print(f"  snakemake --cores 2 {target} --config models='[{output.stem}]'")


def dataset_of(path: Path, name: str) -> proposal.Dataset:
    """What is known of a dataset: nothing if it is not configured yet, or its files are not there."""
    if not path.exists():
        cli.log.warning("%s: no such file; nothing is known of dataset %s", path, name)
        return proposal.Dataset(name, "", [], [])
    dataset = config.load_dataset([path], name)
    kind, folder = datasets.load(dataset["kind"]), Path(dataset["images"])
    lacking = [str(place) for place in (folder, *map(Path, kind.files(dataset))) if not place.exists()]
    if lacking:
        cli.log.warning("%s: not there; classes and outputs are told without it", lacking[0])
        return proposal.Dataset(name, dataset["kind"], [], [])
    rows = kind.index_rows(dataset)
    chosen = sampling.choose(rows, kind.truth(dataset, rows), IMAGES)
    images = [(folder / row["file"], (row["width"], row["height"]) if "width" in row else None) for row in chosen]
    return proposal.Dataset(name, dataset["kind"], kind.categories(dataset) or [], images)


if __name__ == "__main__":
    cli.run(main)
