"""Coverage-guided fuzzing of the same targets with atheris: python tests/fuzz/fuzz.py "VOC xml" -runs=100000.

Needs atheris (pip install atheris), which is not in the lock because it is not there for every Python. Whatever
crashes is written to crash-* in the current folder; put it among the seeds or words of targets.py.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "scripts"), str(Path(__file__).parent)]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["detport"]):
    import targets


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"usage: fuzz.py TARGET [options of libFuzzer]; targets: {', '.join(targets.TARGETS)}")
    name = sys.argv.pop(1)
    seeds = targets.folder() / "seeds"
    seeds.mkdir()
    for i, seed in enumerate([*targets.TARGETS[name].seeds, *targets.WORDS]):
        (seeds / str(i)).write_bytes(seed)
    atheris.Setup([*sys.argv, str(seeds)], lambda content: targets.check(name, content))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
