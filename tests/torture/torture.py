"""Change one thing of a finished run, end the re-run in some way at some moment, run the same command again.

The rule: the second run gives the result of a run from nothing, or stops and says why. Between the two no report says
anything but that it is stale. Stages, graph and images are real: the demo's small GFocalV2 as a ready .onnx.

    PYTHONPATH=scripts python tests/torture/torture.py                    every case, half a minute each
    PYTHONPATH=scripts python tests/torture/torture.py --cases 50 --seed 3
"""

import argparse
import collections
import contextlib
import gzip
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx.numpy_helper
import onnxsim
import PIL.Image
import yaml

from detport.graph.patches import int64_to_int32

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "rules", "scripts", "config", "profiles", "envs")
IMAGES, SHARDS, CORES = 12, 3, 2
TARGET = "reports/mine.txt"
ACCURACY = Path("results/mine/onnxruntime/accuracy.json")
MOMENTS = 2  # of each stage, drawn anew for every case
PATIENCE = 300  # seconds
BALLAST = "ballast"
DISK = "300m"
SAID = 1500  # characters of what a run said, where it went wrong
Change = Callable[["Place"], None]


class Place(NamedTuple):
    """A working directory with a space and a quote in its name, and the repository that runs in it."""

    folder: Path
    repository: Path

    def command(self, cores: int = CORES) -> list[str]:
        snakefile = self.repository / "Snakefile"
        start = [sys.executable, "-m", "snakemake", "-s", str(snakefile), "--directory", str(self.folder)]
        return [*start, "--cores", str(cores), TARGET]


def yaml_edit(name: str, *path: str | int, value: object) -> Change:
    """Set one value of a yaml file."""

    def change(place: Place) -> None:
        file = place.folder / name
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        section = content
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = value
        file.write_text(yaml.safe_dump(content), encoding="utf-8")

    return change


def other_weights(place: Place) -> None:
    """Another checkpoint under the old name: one tensor of the graph is a little different."""
    file = place.folder / "weights" / "mine.onnx"
    graph = onnx.load(file)
    tensor = max(graph.graph.initializer, key=lambda each: len(each.raw_data))
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(0.9), tensor.name))
    onnx.save(graph, file)


def images(place: Place) -> list[Path]:
    return sorted((place.folder / "data" / "images").iterdir())


def other_image(place: Place) -> None:
    """An image of the same size with other content."""
    PIL.Image.open(images(place)[5]).transpose(PIL.Image.Transpose.ROTATE_180).save(images(place)[5], quality=95)


def image_gone(place: Place) -> None:
    images(place)[4].unlink()


def image_broken(place: Place) -> None:
    images(place)[4].write_bytes(images(place)[4].read_bytes()[:1000])


def other_annotations(place: Place) -> None:
    """Every box of the ground truth is moved."""
    file = place.folder / "data" / "instances.json"
    truth = json.loads(file.read_text(encoding="utf-8"))
    for entry in truth["annotations"]:
        entry["bbox"][0] += 9
    file.write_text(json.dumps(truth), encoding="utf-8")


def fewer_images(place: Place) -> None:
    """An image less in the ground truth."""
    file = place.folder / "data" / "instances.json"
    truth = json.loads(file.read_text(encoding="utf-8"))
    gone = truth["images"].pop()["id"]
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] != gone]
    file.write_text(json.dumps(truth), encoding="utf-8")


def a_patch(place: Place) -> None:
    """A patch of the graph, with the contract that it keeps there."""
    graph = onnxsim.simplify(onnx.load(place.folder / "weights" / "mine.onnx"))[0]
    done = int64_to_int32.edit(graph, keep_required=True)
    declared = {"name": "int64_to_int32", "matches": done.matches, "before": {}, "after": {}, "changed": done.changed}
    yaml_edit(MODEL, "patches", value={"onnxruntime": [declared]})(place)


def code(name: str, old: str, new: str) -> Change:
    """Another line in a module of the repository."""

    def change(place: Place) -> None:
        file = place.repository / "scripts" / name
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def other_package(place: Place) -> None:
    """Another version of NumPy, as far as its metadata tell."""
    folder = place.folder / "packages" / "numpy-99.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 99.0\n", encoding="utf-8")


def edited(file: str) -> Change:
    """A result that somebody has edited by hand."""

    def change(place: Place) -> None:
        path = place.folder / file
        data = path.read_bytes()
        if path.suffix == ".gz":
            content = json.loads(gzip.decompress(data))
            content["detections"] = content["detections"][::2]
            path.write_bytes(gzip.compress(json.dumps(content).encode()))
        elif path.suffix == ".onnx":
            shutil.copy(place.folder / "weights" / "mine.onnx", place.folder / "weights" / "kept.onnx")
            other_weights(place)
            shutil.move(place.folder / "weights" / "mine.onnx", path)
            shutil.move(place.folder / "weights" / "kept.onnx", place.folder / "weights" / "mine.onnx")
        else:
            path.write_bytes(data.replace(b"0.", b"0.9"))

    return change


def swapped(first: str, second: str) -> Change:
    """Two results that have changed places."""

    def change(place: Place) -> None:
        a, b, aside = place.folder / first, place.folder / second, place.folder / "aside"
        a.rename(aside)
        b.rename(a)
        aside.rename(b)

    return change


# Inference with another result: every box is smaller.
HALVED = """def write(image: dict, arrays: list[np.ndarray]) -> None:
            arrays = [a * np.float32(0.9) if a.dtype == np.float32 else a for a in arrays]
"""
MODEL, CONFIG = "config/models/mine.yaml", "config/config.yaml"
OWN = "results/mine/onnxruntime"
MEAN = yaml_edit(MODEL, "preprocess", "mean", value=[0.0, 0.0, 0.0])
CHANGES: dict[str, Change] = {
    "mean": MEAN,
    "colours": yaml_edit(MODEL, "preprocess", "channels", value="BGR"),
    "categories": yaml_edit(MODEL, "decode", "categories", value=[2, 1, 4, 5, 7, 8, 11]),
    "weights": other_weights,
    "one image": other_image,
    "an image gone": image_gone,
    "an image broken": image_broken,
    "annotations": other_annotations,
    "an image less": fewer_images,
    "metric": yaml_edit(MODEL, "metric", "max_detections", value=[1, 2, 3]),
    "gate": yaml_edit(MODEL, "references", 0, "values", "bbox.AP", value=0.999),
    "patch": a_patch,
    "backend option": yaml_edit("config/backends/onnxruntime.yaml", "session", value={"graph_optimization": "basic"}),
    "code of inference": code("infer.py", "def write(image: dict, arrays: list[np.ndarray]) -> None:\n", HALVED),
    "code of evaluation": code("evaluate.py", '"detections": len(rows),', '"detections": len(rows) + 1000,'),
    "package version": other_package,
    "shards": yaml_edit(CONFIG, "datasets", "shapes", "shards", value=2),
    "mean, disk limit": lambda place: [MEAN(place), yaml_edit(CONFIG, "disk_limit_gb", value=0.5)(place)],
    "mean, outputs kept or not": lambda place: MEAN(place),  # see `after_change`
    "cores": lambda place: None,  # see `after_change`
    "model.onnx edited": edited(f"{OWN}/model.onnx"),
    "accuracy edited": edited(str(ACCURACY)),
    "detections edited": edited(f"{OWN}/detections/0001.json.gz"),
    "report edited": edited(TARGET),
    "detections swapped": swapped(f"{OWN}/detections/0000.json.gz", f"{OWN}/detections/0002.json.gz"),
    "mean and annotations": lambda place: [CHANGES[name](place) for name in ("mean", "annotations")],
}
RESULTS = [CHANGES[name] for name in CHANGES if name.endswith(("edited", "swapped"))]  # changed by hand
STAGES = (
    "check",
    "index_dataset",
    "export",
    "simplify",
    "patch",
    "compile",
    "preprocess",
    "infer",
    "decode",
    "evaluate",
    "benchmark",
    "parity",
    "report",
)
SHARD = ("preprocess", "infer", "decode", "evaluate", "report")
TRUTH = ("check", "evaluate", "report")
COMPILED = ("compile", "benchmark", "parity", *SHARD)
# The stages that run again after a change. A case that ends in another one would be over before.
REACHED = {
    **dict.fromkeys(("one image", "an image gone", "an image broken"), ("index_dataset", *SHARD)),
    **dict.fromkeys(("an image less",), ("check", "index_dataset", *SHARD)),
    **dict.fromkeys(("annotations", "metric"), TRUTH),
    **dict.fromkeys(("gate", "report edited"), ("report",)),
    **dict.fromkeys(("code of evaluation", "accuracy edited"), ("evaluate", "report")),
    **dict.fromkeys(("detections edited", "detections swapped"), ("decode", "evaluate", "report")),
    **dict.fromkeys(("backend option", "model.onnx edited"), COMPILED),
    "categories": ("decode", *TRUTH),
    "mean and annotations": ("check", *SHARD),
    "patch": ("patch", *COMPILED),
    "weights": ("export", "simplify", "patch", *COMPILED),
    "cores": ("benchmark", "report"),
    "package version": STAGES,
}
ENDS = (
    "kill -9 of the group",
    "kill -9 of Snakemake",
    "kill -9 of a job",
    "SIGTERM",
    "Ctrl-C",
    "a job fails",
    "a full disk",
    "out of memory",
)


class Case(NamedTuple):
    """A change, and how and where the re-run ends."""

    change: str
    end: str
    stage: str
    moment: int
    kept: bool  # outputs, between runs


def cases() -> Iterator[Case]:
    for change in CHANGES:
        stages = REACHED.get(change, SHARD)
        yield from itertools.starmap(Case, itertools.product([change], ENDS, stages, range(MOMENTS), (True, False)))


def prepare(folder: Path) -> Place:
    """A finished run of an own model in `folder`, with outputs kept: the ground that every case starts on."""
    place = Place(folder / "it's mine", folder / "repository")
    place.repository.mkdir(parents=True)
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place.repository / name)
    demo = ROOT / "demo"
    for name in ("config/models", "config/backends", "weights", "data/images"):
        (place.folder / name).mkdir(parents=True)
    truth = json.loads((demo / "data" / "annotations" / "instances.json").read_text(encoding="utf-8"))
    truth["images"] = truth["images"][:IMAGES]
    shown = {image["id"] for image in truth["images"]}
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] in shown]
    (place.folder / "data" / "instances.json").write_text(json.dumps(truth), encoding="utf-8")
    for image in truth["images"]:
        shutil.copy(demo / "data" / "images" / image["file_name"], place.folder / "data" / "images")
    shutil.copy(place.repository / "config/backends/onnxruntime.yaml", place.folder / "config/backends")
    model = yaml.safe_load((demo / MODEL.replace("mine", "gfocalv2")).read_text(encoding="utf-8"))
    export(place, model)
    for key in ("checkpoint", "network", "export", "references"):
        model.pop(key, None)
    model |= {
        "onnx": "weights/mine.onnx",
        "benchmark": {"min_runs": 2, "min_seconds": 0},
        "references": [{"name": "own", "source": "a guess", "values": {"bbox.AP": 0.3}}],
        "gates": [{"name": "box AP", "measure": "bbox.AP", "reference": "own"}],
    }
    (place.folder / MODEL).write_text(yaml.safe_dump(model), encoding="utf-8")
    dataset = {"kind": "coco", "images": "data/images", "annotations": "data/instances.json", "shards": SHARDS}
    config = {"models": ["mine"], "datasets": {"shapes": dataset}, "parity": {"images": 2}}
    (place.folder / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    return place


def export(place: Place, model: dict) -> None:
    """The demo's network as an .onnx file of an unknown origin."""
    yaml_file, weights = place.folder / "weights" / "g.yaml", place.folder / "weights" / "g.safetensors"
    yaml_file.write_text(yaml.safe_dump(model | {"gates": [], "references": []}), encoding="utf-8")
    scripts = ROOT / "scripts"
    start = [sys.executable, scripts / "convert_checkpoint.py", "--model", yaml_file]
    subprocess.run([*start, "--weights", ROOT / "demo/weights/gfocalv2.pth", "--output", weights], check=True)
    start = [sys.executable, scripts / "export.py", "--model", yaml_file, "--weights", weights]
    subprocess.run([*start, "--output", place.folder / "weights" / "mine.onnx"], check=True)
    for path in (place.folder / "weights").iterdir():
        if path.name != "mine.onnx":
            path.unlink()


def keep(place: Place, kept: bool) -> None:
    yaml_edit(CONFIG, "keep_outputs_gb", value=2 if kept else 0)(place)


def environment(place: Place) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(place.folder / "packages")}


class Outcome(NamedTuple):
    """What a run gives: accuracy.json, None where it must fail; and the verdict of its report."""

    accuracy: bytes | None
    verdict: str | None


def run(place: Place, cores: int = CORES) -> tuple[int, str]:
    """The command of a user, to its end: its status and what it said."""
    done = subprocess.run(
        place.command(cores),
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout


def outcome(place: Place) -> Outcome:
    """What lies in a working directory now. A report that says it is stale says nothing."""
    report, text = place.folder / "reports" / "mine.json", place.folder / TARGET
    there = report.exists() and text.exists() and not text.read_text(encoding="utf-8").startswith("STALE")
    accuracy = place.folder / ACCURACY
    verdict = json.loads(report.read_text(encoding="utf-8"))["verdict"] if there else None
    return Outcome(accuracy.read_bytes() if accuracy.exists() and there else None, verdict)


class Ground:
    """Finished runs to start from, with outputs kept and not, and what a run from nothing gives after each change."""

    def __init__(self, folder: Path):
        self.folder, self.expected = folder, {}
        self.fresh = prepare(folder / "fresh")
        self.finished = {}
        for kept in (True, False):
            place = self.copy(self.fresh, f"kept {kept}")
            keep(place, kept)
            status, said = run(place)
            assert status == 0, said
            self.finished[kept] = place

    def copy(self, place: Place, name: str) -> Place:
        """A copy, file times included."""
        shutil.copytree(place.folder.parent, self.folder / name, symlinks=True)
        return Place(self.folder / name / place.folder.name, self.folder / name / place.repository.name)

    def truth(self, change: str) -> Outcome:
        """What a run from nothing gives after a change; of a change of results, what it gave before."""
        key = change if CHANGES[change] not in RESULTS else ""
        if key not in self.expected:
            place = self.copy(self.fresh, "from nothing")
            if key:
                CHANGES[change](place)
            status, said = run(place)
            found = outcome(place)
            assert (status == 0) == (found.accuracy is not None), said
            self.expected[key] = found
            shutil.rmtree(place.folder.parent)
        return self.expected[key]


def after_change(place: Place, case: Case) -> int:
    """Make the change; how many cores the re-run has."""
    CHANGES[case.change](place)
    if case.change == "mean, outputs kept or not":
        keep(place, not case.kept)
    return 1 if case.change == "cores" else CORES


def stage_process(place: Place, stage: str) -> int | None:
    """The process of a stage in a working directory."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if (
                len(words) > 1
                and words[1].endswith(f"/{stage}.py".encode())
                and (path / "cwd").readlink() == place.folder
            ):
                return int(path.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def end(process: subprocess.Popen, stage: int, place: Place, case: Case) -> None:
    """End a run, or hinder it, as the case says."""
    if case.end == "kill -9 of the group":
        os.killpg(process.pid, signal.SIGKILL)
    elif case.end == "kill -9 of Snakemake":
        os.kill(process.pid, signal.SIGKILL)
    elif case.end == "SIGTERM":
        os.kill(process.pid, signal.SIGTERM)
    elif case.end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    elif case.end == "kill -9 of a job":
        os.kill(stage, signal.SIGKILL)
    elif case.end == "a job fails":
        os.kill(stage, signal.SIGTERM)
    elif case.end == "out of memory":
        size = int(Path(f"/proc/{stage}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(stage, resource.RLIMIT_AS, (size, size))
    elif case.end == "a full disk":
        with (place.folder / BALLAST).open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))


def first_run(place: Place, case: Case, chance: random.Random, cores: int) -> bool:
    """The re-run, ended in its stage; whether it came to that."""
    came = False
    with (place.folder.parent / "said").open("w") as said:
        process = subprocess.Popen(
            place.command(cores), env=environment(place), stdout=said, stderr=said, start_new_session=True
        )
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and not came:
            assert time.monotonic() < deadline, "the first run does not end"
            stage = stage_process(place, case.stage)
            if stage is None:
                time.sleep(0.002)
                continue
            time.sleep(chance.uniform(0, 0.7) * case.moment)
            try:
                end(process, stage, place, case)
                came = True
            except ProcessLookupError:
                break  # the stage was faster
        process.wait(PATIENCE)
    (place.folder / BALLAST).unlink(missing_ok=True)
    return came


def violations(ground: Ground, case: Case, chance: random.Random) -> tuple[bool, list[str]]:
    """Play a case: whether the run came to the stage, and what was against the rule."""
    truth = ground.truth(case.change)
    place = ground.copy(ground.finished[case.kept], "case")
    try:
        cores = after_change(place, case)
        came = first_run(place, case, chance, cores)
        found = []
        between = outcome(place)
        if between.verdict is not None and between != truth:
            found.append(f"after the first run the report says {between.verdict}, and not that it is stale")
        said_first = (place.folder.parent / "said").read_text(encoding="utf-8")
        status, said = run(place, cores)
        after = outcome(place)
        if (status == 0) != (truth.accuracy is not None):
            found.append(f"the second run ended with status {status}")
        if after != truth:
            found.append("the second run gives another result than a run from nothing")
        left = [str(path) for path in place.folder.glob("results/**/scratch/*")] + [
            str(path) for path in place.folder.rglob("*.partial")
        ]
        if left and status == 0:
            found.append(f"left behind: {left}")
        if found:
            found += [
                f"a run from nothing: {truth}",
                f"the first run said: {said_first[-SAID:]}",
                f"the second: {said[-SAID:]}",
            ]
        return came, found
    finally:
        shutil.rmtree(place.folder.parent)


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A folder on a disk of its own that can be filled up, where that may be mounted; else a plain one."""
    with tempfile.TemporaryDirectory(prefix="torture") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", name]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        try:
            yield Path(name)
        finally:
            if mounted:
                subprocess.run(["umount", name], check=True)


def play(folder: Path, chosen: list[Case], seed: int, say: Callable[[str], object] = print) -> list[str]:
    """Play cases one after the other; what was against the rule."""
    ends = ENDS if os.path.ismount(folder) else [each for each in ENDS if each != "a full disk"]
    ground, counts, wrong = Ground(folder), collections.Counter(), []
    for case in chosen:
        if case.end not in ends:
            counts["left out, because no small disk may be mounted here"] += 1
            continue
        came, found = violations(ground, case, random.Random(f"{seed} {case}"))
        counts[f"{case.end}: {'ended' if came else 'over before'}"] += 1
        wrong += [f"{case}: {each}" for each in found]
        say(f"{'WRONG' if found else 'ok':<6}{'' if came else '(over before) '}{case}")
        for each in found:
            say(f"      {each}")
    for key, count in sorted(counts.items()):
        say(f"{count:>6}  {key}")
    say(f"{len(chosen)} cases, {len(wrong)} against the rule")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, help="how many, drawn by the seed (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chosen = list(cases())
    if args.cases:
        chosen = random.Random(args.seed).sample(chosen, args.cases)
    with small_disk() as folder:
        sys.exit(1 if play(folder, chosen, args.seed, lambda line: print(line, flush=True)) else 0)


if __name__ == "__main__":
    main()
