"""A copy of the repository whose stages are stand-ins: they make files of the right sizes and nothing else, so that a
run of hundreds of jobs takes seconds. Rules, configuration and Snakemake are the real ones."""

import shutil
from pathlib import Path

from runs import ROOT

PARTS = ("Snakefile", "rules", "scripts", "config", "profiles", "envs")
STAND_IN = """
import os, re, sys, time
from pathlib import Path
stage, flags = Path(sys.argv[0]).stem, sys.argv[1:]
sizes = {name: [int(size) for size in text.split("+")] for name, text in
         (entry.split("=") for entry in os.environ["STAND_IN_BYTES"].split(","))}
options = re.findall(r'add_argument[(]\\s*"(--[a-z0-9-]+)"', Path(__file__).read_text())
taken_for_options = [word for word in flags if word.startswith("-") and word.split("=")[0] not in options]
if taken_for_options:
    sys.exit(f"unknown options {taken_for_options}")
time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")) * (stage == "infer"))
for output in (Path(flags[i + 1]) for i, flag in enumerate(flags) if (flag + "-").startswith("--output-")):
    if stage in sizes:
        partial = output.with_name(f".{output.name}.partial")
        partial.mkdir(parents=True)
        for i, size in enumerate(sizes[stage]):
            (partial / f"{i}.bin").write_bytes(bytes(size))
        partial.rename(output)
    else:
        output.write_text("{}" if output.suffix == ".json" else stage)
sys.exit()
# The stage itself, for the modules that it imports:
"""


def copy_repository(target: Path) -> Path:
    """The files that a run reads, to be edited by a test."""
    target.mkdir(parents=True)
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return target


def with_stand_ins(target: Path) -> Path:
    """A copy of the repository in which every stage is a stand-in."""
    copy_repository(target)
    for path in (target / "scripts").glob("*.py"):
        path.write_text(STAND_IN + path.read_text())
    return target
