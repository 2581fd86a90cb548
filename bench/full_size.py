"""One image through every stage at the published size, with generated weights: seconds and peak memory of each stage,
on one thread. Of R-FCN also the share of its pooling.

    make full-size MODEL=efficientdet_d7       # about 5 minutes on 2 cores

The weights are those of the golden cases, so the network computes something, but detects nothing meaningful.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

import psroi_share
from detport import canvases, config, networks

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import weights  # noqa: E402

# Where a model's checkpoint is generated from, when its case is not called like the model.
CASES = {"efficientdet_d0": ("efficientdet_d7", "keys_d0.tsv", "init_d0.json")}


def main() -> None:
    name = sys.argv[1]
    model_file = ROOT / "config" / "models" / f"{name}.yaml"
    backend = ROOT / "config" / "backends" / "onnxruntime.yaml"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_inputs(name, model_file)
        model = ("--model", model_file)
        run("convert_checkpoint.py", *model, "--weights", "w.pth", "--output", "w.safetensors")
        run("export.py", *model, "--weights", "w.safetensors", "--output", "exported.onnx")
        run("simplify.py", *model, "--onnx", "exported.onnx", "--output", "simplified.onnx")
        run(
            "patch.py",
            *(*model, "--backend", backend, "--onnx", "simplified.onnx"),
            *("--output", "patched.onnx", "--output-json", "patches.json"),
        )
        run("compile.py", *model, "--backend", backend, "--onnx", "patched.onnx", "--output", "model.onnx")
        run("preprocess.py", *model, "--index", "index.tsv", "--images", ".", "--shard", "0/1", "--output", "shard")
        run(
            "infer.py",
            *(*model, "--backend", backend, "--compiled", "model.onnx"),
            *("--shard", "shard", "--output", "outputs"),
        )
        run("decode.py", *model, "--shard", "shard", "--outputs", "outputs", "--output", "detections.json.gz")
        size = sum(path.stat().st_size for path in Path("outputs").glob("*.bin"))
        print(f"outputs of the image: {size} bytes")
        if config.load_model(model_file, "export")["network"]["architecture"] == "rfcn":
            print(*psroi_share.lines(Path("model.onnx"), runs=1), sep="\n")


def write_inputs(name: str, model_file: Path) -> None:
    """A generated checkpoint, one synthetic image and its index."""
    settings = config.load(model_file, "model")
    case, keys, rules = CASES.get(name, (name, "keys.tsv", "init.json"))
    data = ROOT / "tests" / "golden" / "data" / case
    table = json.loads((data / rules).read_text())
    state = networks.build(canvases.select(settings, None)).state_dict()
    for key, value in weights.generate(weights.read_keys(data / keys), table).items():
        if not any(re.search(pattern, key) for pattern in table.get("keep", ())):
            state[key] = torch.from_numpy(value)
    checkpoint = settings["checkpoint"]
    content = {checkpoint["prefix"] + key: value for key, value in state.items()}
    torch.save({checkpoint["wrapper"]: content} if checkpoint["wrapper"] else content, "w.pth")
    Image.effect_noise((640, 480), 60).convert("RGB").save("1.jpg")
    Path("index.tsv").write_text("image_id\tfile\twidth\theight\tbytes\n1\t1.jpg\t640\t480\t1\n")


def run(script: str, *arguments: object) -> None:
    """Run a stage and print its seconds and peak memory; stop if it fails."""
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    print(f"{script:<24}{seconds:8.1f} s{usage.ru_maxrss / 1e6:8.2f} GB", flush=True)
    if status:
        sys.exit(f"{script} failed; run it by hand: {' '.join(command)}")


if __name__ == "__main__":
    main()
