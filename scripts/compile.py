"""Compile a graph for a backend.

For ONNX Runtime that is a proof that it loads, with the inputs and outputs that the model's yaml declares. For Ascend
the graph is checked and atc builds an .om; what atc says is kept beside it, as model.atc.log. A backend with a lower
precision gets the graph in it.

Example: python scripts/compile.py --model config/models/MODEL.yaml --backend config/backends/onnxruntime.yaml \\
             --onnx results/MODEL/onnxruntime/patched.onnx --output results/MODEL/onnxruntime/model.onnx
"""

from collections.abc import Sequence
from pathlib import Path

from detport import canvases, cli, compilers, config, lineage, made
from detport.errors import UsageError


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--backend", type=Path, required=True, help="the backend's yaml")
    parser.add_argument("--onnx", type=Path, required=True, help="the patched graph")
    parser.add_argument("--calibration", type=Path, help="calibration.json, which a backend of precision int8 needs")
    parser.add_argument("--canvas", help="HEIGHTxWIDTH of the graph's input (default: the model's first canvas)")
    parser.add_argument("--output", type=Path, required=True, help="the compiled model")
    args = parser.parse_args(argv)

    backend = config.load_backend(args.backend)
    model = canvases.select(config.load_model(args.model, "compile", backend), args.canvas)
    if backend["runs"] != "compiled":
        raise UsageError(f"{args.backend}: runs the {backend['runs']} itself; there is nothing to compile")
    inputs = {"onnx": args.onnx}
    if compilers.calibrates(backend):
        if args.calibration is None:
            raise UsageError(f"{args.backend}: precision int8 needs --calibration, which calibrate.py makes")
        inputs["calibration"] = args.calibration
    record = made.begin(lineage.stage_recipe("compile", model, backend), inputs, expect=args.expect)
    compilers.compile_graph(args.onnx, model, backend, args.output, args.calibration)
    made.put(record, args.output)
    cli.log.info("%s for %s", args.output, backend["title"])


if __name__ == "__main__":
    cli.run(main)
