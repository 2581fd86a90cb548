"""Seconds and memory of an image on several backends, side by side: one thread, the published size, generated weights.

    make backends MODEL=gfocalv2 BACKENDS="onnxruntime openvino openvino_bf16"     # 2 to 10 minutes on 2 cores

Every backend runs in a process of its own, and they take turns. The clock is the processor time of a run, which what
else runs on the machine changes little; the first run of a process is not counted. The ratio is of the medians.
"""

import functools
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import full_size
from detport import backends, canvases, config
from side_by_side import own_peak_mb

ROUNDS, RUNS = 2, 1  # rounds, and counted runs of a process in each, beside the first


class Taken(NamedTuple):
    """What a model's runs on a backend took: milliseconds of the counted ones, the largest peak of a process in
    megabytes, and the bytes of an image's outputs."""

    milliseconds: list[float]
    peak_mb: float
    bytes: int


def main() -> None:
    name, *keys = sys.argv[1:]
    found = in_turns(((name, ""),), tuple(keys))
    print(f"{name}\n{'backend':<20}{'s/image':>8}{'least':>8}{'most':>8}{'times':>8}{'GB':>8}")
    first = statistics.median(found[name, "", keys[0]].milliseconds)
    for key in keys:
        taken = found[name, "", key]
        seconds = [each / 1000 for each in taken.milliseconds]
        middle = statistics.median(seconds)
        figures = (middle, min(seconds), max(seconds), first / 1000 / middle, taken.peak_mb / 1000)
        print(f"{key:<20}{''.join(f'{each:8.2f}' for each in figures)}")


@functools.cache
def in_turns(models: tuple[tuple[str, str], ...], keys: tuple[str, ...]) -> dict[tuple[str, str, str], Taken]:
    """Every model, by name and contract, on every backend; measured once. Every other round is backwards."""
    files = {
        (*model, key): (full_size.prepare(*model), full_size.compiled(full_size.prepare(*model), key))
        for model in models
        for key in keys
    }
    said: dict[tuple[str, str, str], list[dict]] = {which: [] for which in files}
    for i in range(ROUNDS):
        for which in reversed(files) if i % 2 else files:
            prepared, path = files[which]
            command = [sys.executable, __file__, "--one", prepared.yaml, which[-1], path]
            done = subprocess.run(
                list(map(str, command)), check=True, stdout=subprocess.PIPE, env=full_size.environment()
            )
            said[which].append(json.loads(done.stdout))
    return {which: taken(each) for which, each in said.items()}


def taken(said: list[dict]) -> Taken:
    """What several processes say of the same."""
    times = [each for one in said for each in one["milliseconds"]]
    return Taken(times, max(one["peak_mb"] for one in said), said[0]["bytes"])


def one(yaml: Path, key: str, compiled: Path) -> None:
    """Run the shard's image several times in this process, and print what each run but the first took."""
    backend = config.load_backend(full_size.backend_yaml(key))
    model = canvases.select(config.load_model(yaml, "infer", backend), None)
    shard = yaml.parent / "shard"
    (entry,) = json.loads((shard / "shard.json").read_text(encoding="utf-8"))["images"]
    ends, sizes = [], []

    def write(image: dict, arrays: list) -> None:
        ends.append(time.process_time())
        sizes.append(sum(array.nbytes for array in arrays))

    images = [(entry, shard / entry["bin"])] * (RUNS + 1)
    backends.load(backend["family"]).infer(compiled, model, backend, images, write, Path(), 1)
    times = [(after - before) * 1000 for before, after in itertools.pairwise(ends)]
    print(json.dumps({"milliseconds": times, "peak_mb": own_peak_mb(), "bytes": sizes[0]}))


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        one(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        main()
