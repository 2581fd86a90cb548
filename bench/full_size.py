"""The published models at full size with generated weights, one image, one thread: what every stage makes, and the
seconds and the memory that it takes.

    make full-size MODEL=efficientdet_d7       # a minute and a half on 2 cores

The weights are those of the golden cases, so the network computes something, but detects nothing meaningful. A program
prepares each model once, for all that it measures.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from detport import compilers, config

ROOT = config.ROOT
BENCH = Path(__file__).resolve().parent


class Prepared(NamedTuple):
    """A model's yaml, beside which are its simplified graph and a shard of one image, and the peaks of stages in MB."""

    yaml: Path
    peaks: dict[str, float]

    @property
    def folder(self) -> Path:
        return self.yaml.parent


def main() -> None:
    model = prepare(sys.argv[1], "")
    path, shard, outputs = compiled(model, "onnxruntime"), model.folder / "shard", model.folder / "outputs"
    opened = ("--backend", backend_yaml("onnxruntime"), "--compiled", path)
    run(model.peaks, "infer", "--model", model.yaml, *opened, "--shard", shard, "--output", outputs)
    found = ("--shard", shard, "--outputs", outputs, "--output", model.folder / "detections.json.gz")
    run(model.peaks, "decode", "--model", model.yaml, *found)
    print(f"outputs of the image: {sum(path.stat().st_size for path in outputs.glob('*.bin'))} bytes")
    if config.load_model(model.yaml, "export")["network"]["architecture"] == "rfcn":
        subprocess.run([sys.executable, BENCH / "psroi_share.py", path, "1"], check=True, env=environment())


def environment() -> dict[str, str]:
    """Of programs here that read the library and the golden cases."""
    return os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests' / 'golden'}"}


def backend_yaml(key: str) -> Path:
    return ROOT / "config" / "backends" / f"{key}.yaml"


@functools.cache
def place() -> tempfile.TemporaryDirectory:
    """A folder for all models, until the program ends."""
    return tempfile.TemporaryDirectory(prefix="full-size-")


@functools.cache
def prepare(name: str, contract: str) -> Prepared:
    """A published model through the stages that are the same for every backend, in its own contract ("") or another."""
    folder, peaks = Path(place().name) / f"{name}{contract}", {}
    folder.mkdir()
    yaml, weights = folder / f"{name}.yaml", folder / "w.safetensors"
    yaml.write_bytes((ROOT / "config" / "models" / yaml.name).read_bytes())
    if contract:
        yaml = folder / f"{contract}.yaml"
        yaml.write_text(f"base: {name}\nnetwork: {{contract: {contract}}}\n", encoding="utf-8")
    # In a process of its own: a stage's peak would else begin with what this one has imported.
    subprocess.run([sys.executable, BENCH / "generate.py", name], cwd=folder, check=True, env=environment())
    run(peaks, "convert_checkpoint", "--model", yaml, "--weights", folder / "w.pth", "--output", weights)
    run(peaks, "export", "--model", yaml, "--weights", weights, "--output", folder / "exported.onnx")
    graphs = ("--onnx", folder / "exported.onnx", "--output", folder / "simplified.onnx")
    run(peaks, "simplify", "--model", yaml, *graphs)
    images = ("--index", folder / "index.tsv", "--images", folder, "--shard", "0/1", "--output", folder / "shard")
    run(peaks, "preprocess", "--model", yaml, *images)
    return Prepared(yaml, peaks)


def settings(model: Prepared) -> dict:
    """What the yaml says, with the checkpoint that was made for it."""
    found = config.load(model.yaml, "model")
    return found | {"checkpoint": found["checkpoint"] | {"file": str(model.folder / "w.pth")}}


def compiled(model: Prepared, key: str) -> Path:
    """What a backend opens: a graph in the model's folder, or the weights."""
    backend = config.load_backend(backend_yaml(key))
    if backend["runs"] == "checkpoint":
        return model.folder / "w.safetensors"
    both, graph = ("--model", model.yaml, "--backend", backend_yaml(key)), model.folder / f"patched-{key}.onnx"
    told = ("--output-json", f"{graph}.json")
    run(model.peaks, "patch", *both, "--onnx", model.folder / "simplified.onnx", "--output", graph, *told)
    path = model.folder / f"{key}.{compilers.suffix(backend['family'])}"
    run(model.peaks, "compile", *both, "--onnx", graph, "--output", path)
    return path


def run(peaks: dict[str, float], stage: str, *arguments: object) -> None:
    """Run a stage, note its peak memory and print it with its seconds; stop if it fails."""
    command = [sys.executable, BENCH / "launch.py", sys.executable, ROOT / "scripts" / f"{stage}.py", *arguments]
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{done.stderr}{stage} failed: {' '.join(map(str, command))}")
    peaks[stage] = float(done.stdout)
    print(f"{stage:<24}{time.perf_counter() - start:8.1f} s{peaks[stage] / 1000:8.2f} GB", flush=True)


if __name__ == "__main__":
    main()
