"""Measure how fast a compiled model runs: one input at a time, nothing but the model's run is timed.

The clock starts when the input array is in memory and stops when the outputs are; decoding images, preparing and
writing files are not in it. Warm-up runs are not counted. Run it alone on the machine. Of a model with several canvases
each is measured; the figures of the first stand for the model.

On Ascend the tool's own pure inference is run, on one device and then on all devices of the backend at once, and its
printed figures are taken. With --from-log nothing is run: the figures come from what a tool printed on another machine
(ais_bench, msame, benchmark, or a GPU's validate.py), and the date is the log's.

Example: python scripts/benchmark.py --model config/models/MODEL.yaml \\
             --backend config/backends/onnxruntime.yaml --compiled results/MODEL/onnxruntime/model.onnx \\
             --threads 8 --output results/MODEL/onnxruntime/performance.json
"""

import datetime
import time
from collections.abc import Sequence
from pathlib import Path

from detport import backends, canvases, cli, config, lineage, made
from detport.backends import local
from detport.errors import Failure, UsageError
from detport.files import sha256, write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--compiled", type=Path, nargs="+", help="compiled model of every canvas")
    source.add_argument("--from-log", type=Path, help="what a tool printed on another machine")
    parser.add_argument("--threads", type=cli.positive, default=1, help="threads that one run may use")
    parser.add_argument("--output", type=Path, required=True, help="performance.json")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    model = config.load_model(args.model, "benchmark", backend)
    recipe = lineage.stage_recipe("benchmark", model, backend)
    if args.from_log:
        sources = {"log": made.source(args.from_log.parent, [args.from_log.name])}
        record = made.begin(recipe, {}, sources, args.expect, threads=None)
        found = read_log(args.from_log, backend)
    else:
        record = made.begin(
            recipe,
            {"compiled": args.compiled},
            expect=args.expect,
            threads=args.threads,
            device=local.device(backend),
        )
        family = backends.load(backend["family"])
        first, *others = (
            family.measure(file, canvases.select(model, name), backend, args.threads) | {"canvas": name}
            for name, file in canvases.files(args.compiled, model, backend).items()
        )
        found = first | {
            "other_canvases": others,
            "versions": family.versions(args.compiled[0]),
            "date": stamp(time.time()),
        }
    write_json(args.output, {"schema": 1} | found)
    made.put(record, args.output)
    for one in (found, *found["other_canvases"]):
        cli.log.info("%s: %.2f fps", one["canvas"], one["fps"])


def read_log(path: Path, backend: dict) -> dict:
    """Figures of a log that was brought from elsewhere."""
    family = backends.load(backend["family"])
    if not hasattr(family, "read_log"):
        raise UsageError(
            f"--from-log: backend {backend['name']} is of the family {backend['family']}, which has no logs"
        )
    found = family.read_log(path.read_text(encoding="utf-8", errors="replace"), backend)
    if found is None:
        raise Failure(
            f"{path}: has no line with the speed of ais_bench, msame, benchmark or validate.py; bring all that the"
            " tool printed (command > FILE 2>&1)"
        )
    return found | {
        "canvas": "as in the log",
        "other_canvases": [],
        "machine": {"processor": "not this machine: from a log", "cores": "unknown"} | found.get("machine", {}),
        "log": {"file": path.name, "sha256": sha256(path)},
        "versions": found.get("versions", {}),
        "date": stamp(path.stat().st_mtime),
    }


def stamp(seconds: float) -> str:
    """A time as text, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    cli.run(main)
