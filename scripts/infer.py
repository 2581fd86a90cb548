"""Run a compiled model over one shard.

Reads the .bin of every image of shard.json and writes its outputs as STEM_0.bin, STEM_1.bin, … in the order of the
contract, and shard.json beside them. An output of another shape or type, or with NaN or infinity, stops the stage
and names the image. A model with several canvases has one compiled model for each, in the order of the yaml; every
image runs on its own.

Where a simulated tool made the outputs, a file SIMULATOR beside them says so to the stages behind.

With --from-outputs nothing is run: the outputs of the shard's images are taken from a folder that ais_bench, msame or
benchmark has filled on another machine (the folder may hold the images of all shards).

Example: python scripts/infer.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime.yaml \\
             --compiled results/MODEL/onnxruntime/model.onnx --shard shards/MODEL/0000 \\
             --output results/MODEL/onnxruntime/outputs/0000
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from detport import backends, canvases, cli, config, inputs, lineage, made, outputs, progress, shards
from detport.backends import local
from detport.errors import Failure, UsageError
from detport.files import atomic, sha256, write_json

NUMBERED = re.compile(r"(sample_id_|input)\d+_output_\d+\.(bin|txt)")  # of ais_infer.py in June and July 2022

Write = Callable[[dict, list[np.ndarray]], None]


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--compiled", type=Path, nargs="+", help="compiled model of every canvas")
    source.add_argument("--from-outputs", type=Path, help="folder of outputs brought from another machine")
    parser.add_argument("--shard", type=Path, required=True, help="folder of the shard")
    parser.add_argument("--threads", type=cli.positive, default=1)
    parser.add_argument("--output", type=Path, required=True, help="folder of the outputs")
    parser.add_argument("--scratch", action="store_true", help=cli.SCRATCH)
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    model = config.load_model(args.model, "infer", backend)
    needed = ("canvas", "bytes", *inputs.needed(model["input"]))
    shard = shards.read_shard(args.shard, needed=needed)
    recipe, digests = lineage.stage_recipe("infer", model, backend), {}
    if not args.from_outputs:  # what is wrong is told before the run, not behind it
        record = made.begin(
            recipe,
            {"shard": args.shard, "compiled": args.compiled},
            expect=args.expect,
            threads=args.threads,
            device=local.device(backend),
        )
    count = progress.counter(len(shard["images"]))
    with atomic(args.output, directory=True, durable=not args.scratch) as folder:

        def write(image: dict, arrays: list[np.ndarray]) -> None:
            stem = Path(image["bin"]).stem
            digests.update(outputs.write(folder, stem, arrays, model["outputs"], image["file"]))
            count()

        if args.from_outputs:
            taken = bring(args.from_outputs, shard["images"], model["outputs"], write)
            source = made.source(args.from_outputs, taken) | {"listing": made.listing(args.from_outputs)}
            record = made.begin(recipe, {"shard": args.shard}, {"outputs": source}, args.expect, args.threads)
            simulated = outputs.simulated(args.from_outputs)
        else:
            simulated = False
            files = canvases.files(args.compiled, model, backend)
            family = backends.load(backend["family"])
            for name in dict.fromkeys(image["canvas"] for image in shard["images"]):
                images = [(image, args.shard / image["bin"]) for image in shard["images"] if image["canvas"] == name]
                own = canvases.select(model, name)
                simulated |= family.infer(files[name], own, backend, images, write, folder, args.threads)
        if simulated:
            (folder / outputs.SIMULATOR).touch()
            digests[outputs.SIMULATOR] = sha256(folder / outputs.SIMULATOR)
            cli.log.warning("a simulator made these outputs; what follows from them is marked so")
        # Outputs carry their images' identity, so that they can be decoded when the shard is gone.
        write_json(folder / "shard.json", shard)
        made.put_folder(record, folder, digests | {"shard.json": sha256(folder / "shard.json")})
    cli.log.info("%d images", len(shard["images"]))


def bring(folder: Path, images: list[dict], contract: list[dict], write: Write) -> list[str]:
    """Take the outputs of a tool that ran elsewhere over the shards' .bin files; the names of the files taken."""
    if not folder.is_dir():
        raise UsageError(f"--from-outputs {folder}: no such folder; give the one that the tool has filled")
    stems = [Path(image["bin"]).stem for image in images]
    cut = [stem.split(".")[0] for stem in stems]  # ais_bench's idea of a stem
    if len(set(cut)) == len(cut) and any(
        not outputs.found(folder, a, contract) and outputs.found(folder, b, contract)
        for a, b in zip(stems, cut, strict=True)
    ):
        stems = cut
    if images and not any(outputs.found(folder, stem, contract) for stem in stems):
        refuse_other_forms(folder)
    pattern = outputs.naming(folder, stems, contract)
    for stem, image in zip(stems, images, strict=True):
        write(image, list(outputs.read(folder, stem, pattern, contract, image["file"]).values()))
    return [path.name for stem in stems for path in outputs.files(folder, stem, pattern, contract)]


def refuse_other_forms(folder: Path) -> None:
    """Say what is wrong where a folder has outputs of a form that cannot be taken."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ".npy":
            raise Failure(f"{path}: NPY outputs are not read; bring those of --outfmt BIN")
        if NUMBERED.fullmatch(path.name):
            raise Failure(
                f"{path}: ais_infer.py before September 2022 names outputs by the place of the input in its own"
                " listing, which does not tell the image; rename them to STEM_0.bin, STEM_1.bin, … (STEM: the input's"
                " name), or run a later version"
            )


if __name__ == "__main__":
    cli.run(main)
