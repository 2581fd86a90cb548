"""What a stage is replaced by in a copy of the repository (see stages.py): files of the right sizes, with true records.

It takes the flags of the stage, refuses others, and writes for every output a file, or for STAND_IN_BYTES a folder of
them: preprocess=10,infer=10+20 are shards of one file and outputs of two. STAND_IN_SECONDS is how long inference lasts,
STAND_IN_WAITS_FOR a file that it waits for, STAND_IN_FAILS names a stage that fails.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

from detport import made
from detport.files import atomic, sha256

# What each stage is made from: flags whose files have records.
INPUTS = {
    "preprocess": ["index"],
    "export": ["weights"],
    "simplify": ["onnx"],
    "patch": ["onnx"],
    "calibrate": ["index", "onnx"],
    "compile": ["onnx", "calibration"],
    "infer": ["shard", "compiled"],
    "decode": ["outputs"],
    "evaluate": ["index", "checked", "detections"],
    "benchmark": ["compiled"],
    "parity": ["index", "weights", "exported", "simplified", "patched", "compiled"],
    "layers": ["index", "onnx", "compiled"],
    "layers_page": ["layers"],
    "mixed": ["index", "reference", "onnx", "layers", "calibration"],
    "resample": ["index", "checked", "detections"],
    "report": ["accuracy", "analysis", "performance", "resampled", "patches", "calibration", "parity"],
    "page": ["report", "index", "detections"],
    "preview": ["index", "compiled"],
    "summary": ["reports"],
    "bundle": ["files"],
}

# The JSON of a stage whose output the workflow itself reads.
WRITES = {"report": {"schema": 1, "model": "m", "verdict": "NO GATES", "backends": {}}}
WRITES["report"] |= {"gates": [], "parity": [], "warnings": []}


def run() -> None:
    """Do what the stage of this program's name would do, and end."""
    stage = Path(sys.argv[0]).stem
    flags = parsed(sys.argv[1:], Path(sys.argv[0]).read_text(encoding="utf-8"))
    if os.environ.get("STAND_IN_FAILS") == stage:
        sys.exit(f"{stage}: error: it was told to fail")
    time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")) * (stage == "infer"))
    while stage == "infer" and not Path(os.environ.get("STAND_IN_WAITS_FOR", ".")).exists():
        time.sleep(0.05)
    sizes = dict(entry.split("=") for entry in os.environ.get("STAND_IN_BYTES", "preprocess=10,infer=10").split(","))
    inputs = {role: list(map(Path, flags[role])) for role in INPUTS.get(stage, ()) if role in flags}
    if stage == "parity":  # forms that the model does not have
        inputs = {role: found for role, found in inputs.items() if found}
    recipe = {"stage": stage, "settings": {}, "code": "stand-in", "versions": {}}
    record = made.begin(recipe, inputs, brought(stage, flags), threads=int(*flags.get("threads", ["1"])))
    record["identity"], *_ = flags.get("expect", [record["identity"]])
    for path in (Path(value) for flag in flags if (flag + "-").startswith("output-") for value in flags[flag]):
        if stage in sizes:
            write_folder(path, [int(size) for size in sizes[stage].split("+")], record)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(WRITES.get(stage, {})) if path.suffix == ".json" else f"{stage} {path.name}")
            made.put(record, path)
    sys.exit()


def brought(stage: str, flags: dict[str, list[str]]) -> dict[str, dict]:
    """What a record says of files that a person brought."""
    if stage == "convert_checkpoint":
        path = Path(flags["weights"][0])
        return {"checkpoint": made.source(path.parent, [path.name])}
    if stage in ("check", "evaluate", "resample", "bundle", "page", "preview"):
        from detport import config, datasets  # most stages are faster without

        dataset = config.load_dataset(list(map(Path, flags["dataset-config"])), flags["dataset"][0])
        found = {"annotations": made.source(*datasets.load(dataset["kind"]).scored(dataset))}
        if "recorded" in flags:
            path = Path(flags["recorded"][0])
            found["recorded"] = made.source(path.parent, [path.name])
        return found
    return {}


def parsed(words: list[str], script: str) -> dict[str, list[str]]:
    """Values by flag, as the stage itself would take them."""
    known = {"--expect", *re.findall(r'add_argument[(]\s*"(--[a-z0-9-]+)"', script)}
    flags: dict[str, list[str]] = {}
    for word in words:
        if not word.startswith("-"):
            flags[next(reversed(flags))].append(word)
        elif word.split("=")[0] in known:
            name, _, value = word[2:].partition("=")
            flags[name] = [value] if value else []
        else:
            sys.exit(f"unknown options [{word!r}]")
    return flags


def write_folder(path: Path, sizes: list[int], record: dict) -> None:
    """A folder of files, each of so many bytes."""
    with atomic(path, directory=True) as folder:
        for i, size in enumerate(sizes):
            (folder / f"{i}.bin").write_bytes(bytes(size))
        made.put_folder(record, folder, {each.name: sha256(each) for each in folder.iterdir()})
