"""Write the lock: exact versions for run, export, test and slurm, and conda definitions that name the same ones.

    python envs/lock.py        # or: make lock

Each part is resolved in a fresh virtual environment on top of the part before it, so a version is pinned once:
run.txt, then what export adds, then what test adds, then what slurm adds. No file names a registry.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).parent
PARTS = ("run", "export", "test", "slurm")
PYTHON = ">=3.11,<3.14"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/bin/python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        known: list[str] = []
        for part in PARTS:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", ENVS / f"{part}.in"], check=True)
            frozen = subprocess.run(
                [python, "-m", "pip", "freeze", "--exclude", "pip", "--exclude", "setuptools"],
                check=True,
                capture_output=True,
                encoding="utf-8",
            )
            # A local version such as 2.13.0+cpu names a build; the pin is for every build of the release.
            pins = [line.split("+")[0] for line in frozen.stdout.splitlines() if "==" in line]
            added = [pin for pin in pins if pin not in known]
            head = f"# Made by envs/lock.py from {part}.in; do not edit.\n"
            (ENVS / f"{part}.txt").write_text(head + "".join(f"{pin}\n" for pin in added), encoding="utf-8")
            known += added
    for part in PARTS[:2]:
        write_conda(part)


def write_conda(part: str) -> None:
    """envs/PART.yaml for --sdm conda: Python from conda, the locked versions through pip."""
    parts = PARTS[: PARTS.index(part) + 1]
    pins = [
        line
        for name in parts
        for line in (ENVS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    ]
    lines = [
        f"# Made by envs/lock.py from the lock ({' and '.join(f'{name}.txt' for name in parts)}); do not edit.",
        "channels: [conda-forge]",
        "dependencies:",
        f"  - python {PYTHON}",
        "  - pip",
        "  - pip:",
        *(f"      - {pin}" for pin in pins),
    ]
    (ENVS / f"{part}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
