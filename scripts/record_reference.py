"""Write the figures of a backend, as its report has them, as a reference that later reports compare with.

The file holds the keys of one entry of `references` in a model's yaml: paste it there, or name it, `- {file: FILE}`. It
tells by sha256 what the figures were measured with, and a run with another checkpoint or ground truth is refused.

Example: python scripts/record_reference.py --report reports/MODEL.json --backend pytorch --name "eager PyTorch" \\
             --output references/MODEL_pytorch.yaml
"""

import json
from collections.abc import Sequence
from pathlib import Path

from detport import cli, made, results, yamlfile
from detport.errors import Failure, UsageError
from detport.files import atomic
from detport.report import gates


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("--report", type=Path, required=True, help="reports/MODEL.json")
    parser.add_argument("--backend", required=True, help="whose figures; the baseline is usually pytorch")
    parser.add_argument("--name", required=True, help="name of the reference, which gates use")
    parser.add_argument("--output", type=Path, required=True, help="yaml file to write")
    args = parser.parse_args(argv)
    if made.read(args.report) is not None:
        made.whole(args.report)  # refuses one that was edited
    report = results.read(args.report, "report")
    if args.backend not in report["backends"]:
        expected = yamlfile.expectation(args.backend, list(report["backends"]))
        raise UsageError(f"{args.report}: has no backend {args.backend!r}; {expected}")
    if "measured_with" not in report.get("provenance", {}):
        raise Failure(f"{args.report}: does not tell what it was measured with; run the workflow again")
    found = reference(report, args.backend, args.name, str(args.report))
    lines = as_yaml(found)
    with atomic(args.output) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"references:\n  - {{file: {args.output}}}\nor, written out:\nreferences:")
    print("\n".join(f"  {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(lines)))


def reference(report: dict, backend: str, name: str, source: str) -> dict:
    """The keys of a reference. A sample's figures are none: a later run of all images would be held to them."""
    measured = report["backends"][backend]
    if measured["sample"]:
        raise UsageError(
            f"{source}: is of a sample of {measured['sample']['images']} images; record a run of all"
            f" {measured['sample']['of']}"
        )
    if any(measured["simulator"].values()):
        raise UsageError(f"{source}: the figures of {backend} come from a simulator; record those of a device")
    values = {key: value for key, value in measured["figures"].items() if not key.startswith("latency_ms")}
    if not any(map(gates.is_accuracy, values)):
        raise Failure(f"{source}: has no accuracy of {backend}, so that there is nothing to record")
    images = measured["images"]
    return {
        "name": name,
        "source": f"own run of {report['dataset']} on {backend}, {images['scored']} of {images['indexed']} images, "
        f"{report['provenance']['date'][:10]}",
        "backend": backend,
        "digests": report["provenance"]["measured_with"],
        "values": values,
    }


def as_yaml(found: dict) -> list[str]:
    """Lines of YAML; a text or a number in JSON is one in YAML too."""
    lines = []
    for key, value in found.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {json.dumps(each)}" for name, each in value.items())]
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines


if __name__ == "__main__":
    cli.run(main)
