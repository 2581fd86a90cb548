"""The whole demo on both simulated chips with every runner, and whether all gates pass: `make simulated`.

Prints a table of models and backends; exit status 1 if a gate does not pass. It takes about a quarter of an hour on
2 cores, so `make test` has a smaller form of it (test_models.py, test_workflow.py).
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from tiny import simulated

from detport.config import ROOT

CHIPS = {"ascend310": [0, 1, 2, 3], "ascend310p": [4]}  # and the devices that are of that kind
MACHINE = "310x4,310P3x1"
RUNNERS = [("ais_bench", "BIN"), ("msame", "BIN"), ("msame", "TXT"), ("benchmark", "BIN")]


def demo(folder: Path) -> list[str]:
    """A copy of the demo with one backend for each chip and runner; returns their names."""
    for part in ("config", "data", "weights"):
        shutil.copytree(ROOT / "demo" / part, folder / part)
    (folder / "config" / "backends").mkdir(exist_ok=True)
    names = []
    for chip, devices in CHIPS.items():
        for tool, outfmt in RUNNERS:
            backend = yaml.safe_load((ROOT / "config" / "backends" / f"{chip}.yaml").read_text())
            backend |= {"runner": {"tool": tool, "outfmt": outfmt}, "devices": devices}
            names.append(f"{chip}_{tool}_{outfmt.lower()}")
            (folder / "config" / "backends" / f"{names[-1]}.yaml").write_text(yaml.safe_dump(backend))
    return names


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        names = demo(Path(folder))
        command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder, "accept"]
        command += ["--cores", "all", "--config", f"backends=[{','.join(names)}]"]
        environment = simulated(chips=MACHINE) | {"DETPORT_DEVICES": f"{folder}/devices"}
        status = subprocess.run(command, env=environment, check=False).returncode
        for path in sorted(Path(folder, "reports").glob("*.json")):
            report = json.loads(path.read_text())
            for gate in report["gates"]:
                print(
                    f"{gate['verdict']:12}  {report['model']:18} {gate['backend']:25} {gate['measure']:10}"
                    f" {gate['measured']:.4f} >= {gate['required']:.4f}"
                )
    return status


if __name__ == "__main__":
    sys.exit(main())
