"""RetinaMask's two contracts at the published size in ONNX Runtime: seconds, peak memory and bytes of an image.

    PYTHONPATH=scripts:tests/golden .venv/bin/python bench/contracts.py

Both on generated weights and one image of noise, on one thread, in turns, each time in a process of its own; medians.
Seconds are of the processor, which other work on the machine changes least. About four minutes on 2 cores.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from detport import config
from detport.backends import onnxruntime

CONTRACTS = ("guide", "compact")
TURNS, RUNS = 3, 2


def main() -> None:
    published = config.ROOT / "config" / "models" / "retinamask.yaml"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, config.ROOT / "bench" / "generate.py", "retinamask"], check=True)
        Path("retinamask.yaml").write_bytes(published.read_bytes())
        stage("convert_checkpoint", "retinamask", "--weights", "w.pth", "--output", "w.safetensors")
        for name in CONTRACTS:
            Path(f"{name}.yaml").write_text(f"base: retinamask\nnetwork: {{contract: {name}}}\n", encoding="utf-8")
            stage("export", name, "--weights", "w.safetensors", "--output", f"{name}.exported.onnx")
            stage("simplify", name, "--onnx", f"{name}.exported.onnx", "--output", f"{name}.onnx")
        found: dict[str, list[dict]] = {name: [] for name in CONTRACTS}
        for _ in range(TURNS):
            for name in CONTRACTS:
                command = [sys.executable, __file__, name]
                found[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    for key in ("seconds", "gigabytes", "bytes"):
        guide, compact = (statistics.median(each[key] for each in found[name]) for name in CONTRACTS)
        print(f"{key:<10} guide {guide:<10.4g} compact {compact:<10.4g} {guide / compact:.2f} times")


def stage(script: str, model: str, *arguments: str) -> None:
    command = [sys.executable, config.ROOT / "scripts" / f"{script}.py", "--model", f"{model}.yaml", *arguments]
    subprocess.run(command, check=True)


def one(name: str) -> None:
    """What a few runs of a contract take, on the standard output."""
    canvas = config.load(Path(f"{name}.yaml"), "model")["input"]
    image = np.random.default_rng(0).normal(0, 60, (1, 3, canvas["height"], canvas["width"])).astype(np.float32)
    backend = config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")
    session = onnxruntime.open_session(Path(f"{name}.onnx"), backend, 1)
    seconds = []
    for _ in range(RUNS):
        before = time.process_time()
        outputs = session.run(None, {canvas["name"]: image})
        seconds.append(time.process_time() - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = sum(each.nbytes for each in outputs)
    print(json.dumps({"seconds": statistics.median(seconds), "gigabytes": peak, "bytes": size}))


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
