"""How workflow tests run Snakemake, and the reduced demo that they run it on."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from detport.config import load

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 8
SHARDS = 2
TOO_WIDE = "000000024241"  # by R-FCN's short side it would exceed the network input


def snakemake(folder: Path, *arguments: str, repository: Path = ROOT, **options) -> subprocess.CompletedProcess:
    """Run Snakemake as a user does, with the repository's default profile; every job is told."""
    command = [sys.executable, "-m", "snakemake", "-s", repository / "Snakefile", "--directory", folder]
    command += ["--printshellcmds", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)


def planned(folder: Path, *targets: str, repository: Path = ROOT, flags: tuple = (), **options) -> dict[str, int]:
    """Jobs per rule that a dry run plans."""
    quiet = ("-n", *flags, "--quiet", "rules", "reason", "host")
    result = snakemake(folder, *quiet, "--", *targets, repository=repository, **options)
    assert result.returncode == 0, result.stderr
    table = re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in table if rule not in ("total", "all")}


def reduced_demo(folder: Path, *models: str, shards: int = SHARDS, parity: int = 0) -> Path:
    """The demo's configuration for some models, with the first images of its dataset; without the ladder of parity,
    whose jobs take longer than all others, where it is not asked for."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "demo" / "config", folder / "config")
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    config |= {"models": list(models), "parity": {"images": parity}}
    for dataset in config["datasets"].values():
        dataset["shards"] = shards
    config["datasets"]["shapes_voc"]["images"] = "data/voc/JPEGImages"  # its own, see write_voc
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "weights").mkdir()
    for model in models:
        settings = load(folder / "config" / "models" / f"{model}.yaml", "model")
        file = settings["onnx"] if "onnx" in settings else settings["checkpoint"]["file"]
        shutil.copy(ROOT / "demo" / file, folder / "weights")
    truth = json.loads((ROOT / "demo" / "data" / "annotations" / "instances.json").read_text())
    truth["images"] = truth["images"][:IMAGES]
    kept = {image["id"] for image in truth["images"]}
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] in kept]
    (folder / "data" / "annotations").mkdir(parents=True)
    (folder / "data" / "annotations" / "instances.json").write_text(json.dumps(truth))
    (folder / "data" / "images").mkdir()
    for image in truth["images"]:
        shutil.copy(ROOT / "demo" / "data" / "images" / image["file_name"], folder / "data" / "images")
    write_voc(folder / "data", [Path(image["file_name"]).stem for image in truth["images"]])
    return folder


def write_voc(data: Path, names: list[str]) -> None:
    """The same images in VOC's form, in another order than that of their names, and the one that is TOO_WIDE."""
    voc, source = data / "voc", ROOT / "demo" / "data"
    names = [*reversed(names[1:]), TOO_WIDE]
    (voc / "Annotations").mkdir(parents=True)
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    (voc / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{name}\n" for name in names))
    (voc / "JPEGImages").mkdir()
    for name in names:
        shutil.copy(source / "voc" / "Annotations" / f"{name}.xml", voc / "Annotations")
        shutil.copy(source / "images" / f"{name}.jpg", voc / "JPEGImages")
