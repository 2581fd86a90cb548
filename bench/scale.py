"""What planning costs: time and memory of a dry run on a cluster, and how many jobs and submissions it plans.

    PYTHONPATH=scripts python bench/scale.py              # the rows of docs/scale.md
    PYTHONPATH=scripts python bench/scale.py 10x5000 100x5000x4

A case is MODELSxIMAGES, or MODELSxIMAGESxSHARDS where the number of shards is given. Models are copies of RetinaMask.
No image is there: a plan needs none. The head of a run holds the same plan, so its memory is about the same.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml

from detport.config import ROOT

CASES = ["1x5000", "4x5000", "10x5000", "1x1000000", "100x5000", "1000x5000"]
DISK_GB = 200  # of a node, which RetinaMask's shards of a thousand images fit on


class Cost(NamedTuple):
    """Of a dry run."""

    seconds: float
    cpu_seconds: float
    megabytes: float
    jobs: int
    shards: int
    submissions: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", default=CASES)
    print("| models x images (x shards) | jobs | shards of a model | submissions | s | s of CPU | MB | ms per job |")
    print("|---|---|---|---|---|---|---|---|")
    for case in parser.parse_args().case:
        models, images, *shards = map(int, case.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), models, images, shards[0] if shards else "auto")
            cost = plan(Path(folder))
        print(
            f"| {case.replace('x', ' x ')} | {cost.jobs} | {cost.shards // models} | {cost.submissions} |"
            f" {cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.megabytes:.0f} |"
            f" {1000 * cost.cpu_seconds / cost.jobs:.1f} |",
            flush=True,
        )


def prepare(folder: Path, models: int, images: int, shards: int | str, **more: object) -> None:
    """A working directory with so many models of one dataset, and more settings."""
    (folder / "config" / "models").mkdir(parents=True)
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "data" / "truth.json").write_text('{"images": [], "annotations": [], "categories": []}', encoding="utf-8")
    text = (ROOT / "config" / "models" / "retinamask.yaml").read_text(encoding="utf-8")
    dataset = yaml.safe_load(text)["dataset"]
    weights = folder / yaml.safe_load(text)["checkpoint"]["file"]
    weights.parent.mkdir()
    weights.touch()
    names = [f"m{k:04d}" for k in range(models)]
    for name in names:
        (folder / "config" / "models" / f"{name}.yaml").write_text(text, encoding="utf-8")
    found = {"kind": "coco", "images": "data/images", "annotations": "data/truth.json", "count": images}
    settings = {"models": names, "backends": ["onnxruntime"], "disk_limit_gb": DISK_GB} | more
    settings["datasets"] = {dataset: found | {"shards": shards}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def plan(folder: Path, profile: str = "slurm") -> Cost:
    """A dry run of everything, with one of the profiles: that for a cluster, or default."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder, "-n"]
    command += ["--workflow-profile", ROOT / "profiles" / profile, "--", "reports/summary.txt"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (folder / "said").open("w+", encoding="utf-8") as file:
        subprocess.run(command, check=True, stdout=file, stderr=file)
        file.seek(0)
        said = file.read()
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    table = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    alone = len(re.findall(r"^rule \w+:$", said, re.MULTILINE))
    return Cost(
        seconds,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        after.ru_maxrss / 1000,  # the largest so far: cases grow
        int(table["total"]),
        int(table.get("detect") or table["infer"]),  # the rule of shards whose outputs are kept
        alone + said.count(" Group job "),
    )


if __name__ == "__main__":
    main()
