"""A copy of the repository whose stages are stand-ins: they make files of the right sizes with true records and nothing
else, so that a run of hundreds of jobs takes seconds. Rules, configuration, records and Snakemake are the real ones."""

import ast
import shutil
from pathlib import Path

from runs import ROOT

PARTS = ("Snakefile", "rules", "scripts", "config", "profiles", "envs")
REAL = ("index_dataset.py", "plan.py")
STAND_IN = "from detport import stand_in\nstand_in.run()\n# The stage itself, for the modules that it imports:\n"


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
    """A copy of the repository in which every stage but the first is a stand-in."""
    copy_repository(target)
    shutil.copy(Path(__file__).with_name("stand_in.py"), target / "scripts" / "detport")
    for path in (target / "scripts").glob("*.py"):
        if path.name not in REAL:
            text = path.read_text(encoding="utf-8")
            lines = text.splitlines(keepends=True)
            lines.insert(ast.parse(text).body[0].end_lineno, STAND_IN)  # behind the docstring
            path.write_text("".join(lines), encoding="utf-8")
    return target
