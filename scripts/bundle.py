"""Pack a report with all that its figures rest on into one zip, which verify.py can check without the workflow.

In it are the report, what was measured, the detections, the ground truth, the configuration, the logs of all stages
and tools, the records of what made each file, and the sha256 of everything. Weights, graphs and images are not.

Example: python scripts/bundle.py --model config/models/MODEL.yaml --report reports/MODEL.json \\
             --files reports/MODEL.json reports/MODEL.txt results/MODEL/onnxruntime/accuracy.json … \\
             --backend config/backends/onnxruntime.yaml --dataset-config config/config.yaml --dataset NAME \\
             --logs logs --output reports/MODEL.zip
"""

from collections.abc import Sequence
from pathlib import Path

from detport import bundled, cli, config, datasets, lineage, made, results, yamlfile
from detport.errors import Failure
from detport.files import atomic

TEXT = """{model}: {title}
VERDICT: {verdict}

reports/{model}.txt is for reading. This zip holds what its figures rest on. To check that, in a checkout of detport:

    python scripts/verify.py {model}.zip
    python scripts/verify.py {model}.zip --annotations YOUR_OWN_COPY_OF_THE_GROUND_TRUTH

It compares every digest, scores the detections again and computes all figures of the report anew.

本压缩包包含该报告以及得出其全部数字所需的文件：测量结果、检测结果、标注、配置、日志和每个文件的生成记录。
用上面的命令可以核对：比较全部摘要，重新评估检测结果，重新计算报告中的每个数字。
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--report", type=Path, required=True, help="reports/MODEL.json")
    parser.add_argument("--files", type=Path, nargs="+", required=True, help="it, its text and all that it rests on")
    parser.add_argument("--backend", type=Path, nargs="+", required=True, help="yaml of every backend")
    parser.add_argument("--dataset-config", type=Path, nargs="+", required=True, help="workflow configuration")
    parser.add_argument("--dataset", required=True, help="name of the dataset in it")
    parser.add_argument("--logs", type=Path, help="folder of logs, of which the model's are taken")
    parser.add_argument("--output", type=Path, required=True, help="the zip")
    args = parser.parse_args(argv)

    model = config.load_model(args.model, "report")
    dataset = config.load_dataset(args.dataset_config, args.dataset)
    record = made.begin(lineage.bundle_recipe(dataset), {"files": args.files}, truth_source(dataset), args.expect)
    report = results.read(args.report, "report")
    files = by_name(
        [
            *bundled.with_records(args.files),
            *yamlfile.with_bases(args.model),
            *config.reference_files(args.model),
            *args.dataset_config,
            *logs(args, model["name"]),
        ]
    )
    files |= {f"config/backends/{path.name}": path for path in args.backend} | bundled.truth_files(dataset)
    about = {
        "schema": 1,
        "model": model["name"],
        "dataset": bundled.moved(dataset),
        "elsewhere": {name: digest for name, digest in report["provenance"]["sha256"].items() if name not in files},
    }
    readme = TEXT.format(model=model["name"], title=report["title"], verdict=report["verdict"])
    with atomic(args.output) as partial:
        bundled.write(partial, files, {bundled.README: readme}, about)
    made.put(record, args.output)
    cli.log.info("%d files, %.1f MB", len(files), args.output.stat().st_size / 1e6)


def by_name(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their names in the bundle."""
    found: dict[str, Path] = {}
    for path in paths:
        name = bundled.name_of(path)
        if name in found and found[name].resolve() != path.resolve():
            raise Failure(f"{path} and {found[name]} would both be {name} in the bundle; move one of them")
        found[name] = path
    return found


def logs(args, model: str) -> list[Path]:
    """What the stages and tools printed about the model."""
    stages = sorted(args.logs.rglob("*.log")) if args.logs else []
    tools = sorted({path for file in args.files for path in file.parent.glob("*.log")})
    return [path for path in stages if model in (path.stem, *path.parts)] + tools


def truth_source(dataset: dict) -> dict:
    """What the record says of the ground truth."""
    return {"annotations": made.source(*datasets.load(dataset["kind"]).scored(dataset))}


if __name__ == "__main__":
    cli.run(main)
