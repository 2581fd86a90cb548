"""Seconds and memory of an image on several backends, side by side: one thread, the published size, generated weights.

    make backends MODEL=gfocalv2 BACKENDS="onnxruntime openvino openvino_bf16"     # 2 to 10 minutes on 2 cores

Every backend runs in a process of its own, and they take turns. The clock is the processor time of a run, which what
else runs on the machine changes little; the first run of a process is not counted. The ratio is of the medians.
"""

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import full_size
from detport import backends, canvases, config

ROUNDS, RUNS = 3, 2  # counted runs of a process, beside the first


def main() -> None:
    name, *keys = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        model = full_size.prepare(name)
        compare(name, {key: full_size.compiled(model, full_size.ROOT / f"config/backends/{key}.yaml") for key in keys})


def compare(name: str, compiled: dict[str, str]) -> None:
    """Run a model on its backends in turns, and print a line for each."""
    found: dict[str, list[dict]] = {key: [] for key in compiled}
    for _ in range(ROUNDS):
        for key, path in compiled.items():
            command = [sys.executable, __file__, "--one", name, key, path]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=full_size.environment())
            found[key].append(json.loads(said.stdout))
    print(f"{name}\n{'backend':<18}{'s / image':>10}{'least':>8}{'most':>8}{'times':>8}{'GB':>7}")
    first = None
    for key, runs in found.items():
        seconds = [each for run in runs for each in run["seconds"]]
        middle = statistics.median(seconds)
        first = first or middle
        memory = max(run["peak_bytes"] for run in runs) / 1e9
        print(f"{key:<18}{middle:10.2f}{min(seconds):8.2f}{max(seconds):8.2f}{first / middle:8.2f}{memory:7.2f}")


def one(name: str, key: str, compiled: str) -> None:
    """Run the shard's image several times in this process, and print the seconds of each run but the first."""
    backend = config.load_backend(full_size.ROOT / f"config/backends/{key}.yaml")
    model = config.load_model(full_size.ROOT / f"config/models/{name}.yaml", "infer", backend)
    (entry,) = json.loads(Path("shard/shard.json").read_text(encoding="utf-8"))["images"]
    ends: list[float] = []
    images = [(entry, Path("shard") / entry["bin"])] * (RUNS + 1)
    runner, own = backends.load(backend["family"]), canvases.select(model, None)
    runner.infer(Path(compiled), own, backend, images, lambda *_: ends.append(time.process_time()), Path(), 1)
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1] == "--one" else main()
