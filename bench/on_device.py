"""The demo with normalisation on the host and on the device, on the CPU and on a simulated 310P: what that changes.

    PYTHONPATH=scripts:tests/ascend .venv/bin/python bench/on_device.py

Prints a row for each model and backend: AP both ways, the largest shift of a score, and the detections that have no
partner of their class with the IoU asked for, each with the best IoU that it has. About five minutes on 2 cores.
"""

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from tiny import simulated

from detport.config import ROOT

MODELS = ["retinamask", "gfocalv2", "efficientdet"]
BACKENDS = ["onnxruntime", "ascend310p"]
COUNTED, IOU = 0.3, 0.9  # score from which a detection counts, and the overlap that makes two of them partners


def demo(folder: Path, on_device: bool) -> Path:
    """A copy of the demo that has been run one way."""
    for part in ("config", "data", "weights"):
        shutil.copytree(ROOT / "demo" / part, folder / part)
    for name in MODELS:
        path = folder / "config" / "models" / f"{name}.yaml"
        model = yaml.safe_load(path.read_text(encoding="utf-8"))
        model["input"]["on_device"] = on_device
        path.write_text(yaml.safe_dump(model), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder, "--cores", "all"]
    command += ["--config", f"backends=[{','.join(BACKENDS)}]", f"models=[{','.join(MODELS)}]"]
    subprocess.run(command, env=simulated() | {"DETPORT_DEVICES": str(folder / "devices")}, check=True)
    return folder


def detections(folder: Path, model: str, backend: str) -> list[dict]:
    """Detections of all shards."""
    files = sorted((folder / "results" / model / backend / "detections").glob("*.json.gz"))
    return [row for file in files for row in json.loads(gzip.decompress(file.read_bytes()))["detections"]]


def partner(row: dict, others: list[dict]) -> tuple[float, dict | None]:
    """The detection of the same image and class that overlaps most, and its IoU."""
    alike = [each for each in others if all(each[key] == row[key] for key in ("image_id", "category_id"))]
    return max(
        ((overlap(row["bbox"], each["bbox"]), each) for each in alike), key=lambda pair: pair[0], default=(0, None)
    )


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def accuracies(folder: Path, model: str, backend: str) -> str:
    """AP of every kind of overlap."""
    accuracy = json.loads((folder / "results" / model / backend / "accuracy.json").read_text(encoding="utf-8"))[
        "accuracy"
    ]
    return ", ".join(f"{kind} {figures['AP']:.5f}" for kind, figures in accuracy.items())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        host, device = (demo(Path(folder) / str(way), bool(way)) for way in (0, 1))
        for model in MODELS:
            for backend in BACKENDS:
                before, after = (detections(way, model, backend) for way in (host, device))
                counted = [row for row in before if row["score"] >= COUNTED]
                pairs = [(row, *partner(row, after)) for row in counted]
                shifts = [abs(row["score"] - found["score"]) for row, iou, found in pairs if iou >= IOU]
                alone = [(row, iou, found) for row, iou, found in pairs if iou < IOU]
                print(f"{model} {backend}: {accuracies(host, model, backend)} | {accuracies(device, model, backend)}")
                print(f"  largest score shift {max(shifts):.4f}; {len(alone)} of {len(counted)} without a partner")
                for row, iou, found in alone:
                    print(f"  {row} | best IoU {iou:.4f}: {found}")


if __name__ == "__main__":
    main()
