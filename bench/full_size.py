"""One image through every stage at the published size, with generated weights: seconds and peak memory of each stage,
on one thread. Of R-FCN also the share of its pooling.

    make full-size MODEL=efficientdet_d7       # a minute and a half on 2 cores

The weights are those of the golden cases, so the network computes something, but detects nothing meaningful.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from detport import compilers, config

ROOT = config.ROOT
BENCH = Path(__file__).resolve().parent


def main() -> None:
    name = sys.argv[1]
    backend = ROOT / "config" / "backends" / "onnxruntime.yaml"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        model = prepare(name)
        path = compiled(model, backend)
        run(
            "infer.py",
            *(*model, "--backend", backend, "--compiled", path),
            *("--shard", "shard", "--output", "outputs"),
        )
        run("decode.py", *model, "--shard", "shard", "--outputs", "outputs", "--output", "detections.json.gz")
        size = sum(path.stat().st_size for path in Path("outputs").glob("*.bin"))
        print(f"outputs of the image: {size} bytes")
        if config.load_model(model[1], "export")["network"]["architecture"] == "rfcn":
            subprocess.run([sys.executable, BENCH / "psroi_share.py", path, "1"], check=True, env=environment())


def environment() -> dict[str, str]:
    """Of programs here that read the library and the golden cases."""
    return os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests' / 'golden'}"}


def prepare(name: str) -> tuple[str, Path]:
    """The simplified graph and the shard of a model, in the current folder; the flag that names its yaml."""
    model = ("--model", ROOT / "config" / "models" / f"{name}.yaml")
    # In a process of its own: a stage's peak would else begin with what this one has imported.
    subprocess.run([sys.executable, BENCH / "generate.py", name], check=True, env=environment())
    run("convert_checkpoint.py", *model, "--weights", "w.pth", "--output", "w.safetensors")
    run("export.py", *model, "--weights", "w.safetensors", "--output", "exported.onnx")
    run("simplify.py", *model, "--onnx", "exported.onnx", "--output", "simplified.onnx")
    run("preprocess.py", *model, "--index", "index.tsv", "--images", ".", "--shard", "0/1", "--output", "shard")
    return model


def compiled(model: tuple[str, Path], backend: Path) -> str:
    """What a backend opens: a graph in the current folder, or the weights."""
    settings = config.load_backend(backend)
    if settings["runs"] == "checkpoint":
        return "w.safetensors"
    both, graph = (*model, "--backend", backend), f"patched-{settings['name']}.onnx"
    run("patch.py", *both, "--onnx", "simplified.onnx", "--output", graph, "--output-json", f"{graph}.json")
    path = f"{settings['name']}.{compilers.suffix(settings['family'])}"
    run("compile.py", *both, "--onnx", graph, "--output", path)
    return path


def run(script: str, *arguments: object) -> None:
    """Run a stage and print its seconds and peak memory; stop if it fails."""
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    start = time.perf_counter()
    with Path("said").open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    print(f"{script:<24}{seconds:8.1f} s{usage.ru_maxrss / 1e6:8.2f} GB", flush=True)
    if status:
        sys.exit(f"{Path('said').read_text(encoding='utf-8')}{script} failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
