"""Only what changed reruns: one change at a time, and the set of jobs that a dry run then plans.

The run before was made by stand-ins for the stages, with true records; what is compared is the plan, which is the real
one. README's table of what runs again is held to its word here.
"""

import contextlib
import gzip
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from runs import SHARDS, planned, reduced_demo, snakemake
from stages import with_stand_ins

CONFIG = "config/config.yaml"
MODEL = "config/models/retinamask.yaml"
BACKEND = "config/backends/onnxruntime.yaml"
TARGET = "reports/retinamask.txt"
OWN = "results/retinamask/onnxruntime"
CORES = 2
REPORT = {"report": 1}
EVALUATE = {"evaluate": 1} | REPORT
CHECK = {"check": 1} | EVALUATE
BENCHMARK = {"benchmark": 1} | REPORT
DECODE = {"decode": SHARDS} | EVALUATE
PARITY = {"parity": 1} | REPORT
INFER = {"infer": SHARDS} | DECODE  # preprocess is a part of the job
INDEX = {"index_dataset": 1} | INFER | PARITY
COMPILE = {"compile": 1, "benchmark": 1} | INFER | PARITY
PATCH = {"patch": 1} | COMPILE
SIMPLIFY = {"simplify": 1} | PATCH
EXPORT = {"export": 1} | SIMPLIFY
CONVERT = {"convert_checkpoint": 1} | EXPORT
PYTORCH = {"infer": SHARDS, "decode": SHARDS, "evaluate": 1, "benchmark": 1, "parity": 1}


class Run(NamedTuple):
    """A finished run: its working directory, and the repository that made it."""

    folder: Path
    repository: Path

    def plan(self, *flags: str, **environment: str) -> dict[str, int]:
        env = os.environ | environment
        return planned(self.folder, TARGET, repository=self.repository, flags=flags, env=env)

    def again(self, *arguments: str, **environment: str) -> str:
        """Run for real; what was said."""
        env = os.environ | environment
        result = snakemake(self.folder, *arguments, repository=self.repository, env=env)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("reruns")
    repository = with_stand_ins(place / "repository")
    folder = reduced_demo(place / "demo", "retinamask", parity=4)
    (folder / BACKEND).parent.mkdir(exist_ok=True)
    shutil.copy(repository / BACKEND, folder / BACKEND)
    made = Run(folder, repository)
    made.again("--cores", str(CORES), TARGET)
    return made


@pytest.fixture
def copied(run, tmp_path) -> Run:
    """The same run in another folder, to be run again."""
    return Run(Path(shutil.copytree(run.folder, tmp_path / "it's a copy")), run.repository)


@contextlib.contextmanager
def kept(run: Run) -> Iterator[None]:
    """Put everything back afterwards that a change may touch."""
    places = [run.folder / name for name in ("config", "data", "weights", "results", "reports")]
    places.append(run.repository / "scripts")
    before = {path: (path.read_bytes(), path.stat()) for top in places for path in top.rglob("*") if path.is_file()}
    try:
        yield
    finally:
        for top in places:
            for path in [path for path in top.rglob("*") if path.is_file() and path not in before]:
                path.unlink()
        for path, (content, stat) in before.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


Change = Callable[[Run], None]


def edit(name: str, old: str, new: str) -> Change:
    """Replace text once in a file of the working directory."""

    def change(run: Run) -> None:
        text = (run.folder / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        (run.folder / name).write_text(text.replace(old, new, 1))

    return change


def add(name: str, text: str) -> Change:
    """Append text to a file of the working directory."""

    def change(run: Run) -> None:
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (run.folder / name).open("ab") as file:
            file.write(text.encode())

    return change


def without(name: str) -> Change:
    """Remove a file or folder of the working directory."""

    def change(run: Run) -> None:
        path = run.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def swap(first: str, second: str) -> Change:
    """Exchange two files of the working directory."""

    def change(run: Run) -> None:
        a, b = (run.folder / name for name in (first, second))
        a.rename(a.with_name("aside"))
        b.rename(a)
        a.with_name("aside").rename(b)

    return change


def configure(name: str = CONFIG, **values: object) -> Change:
    """Set keys of a yaml file, which are in another order afterwards and without comments."""

    def change(run: Run) -> None:
        content = yaml.safe_load((run.folder / name).read_text()) | values
        (run.folder / name).write_text(yaml.safe_dump(content, sort_keys=True))

    return change


def code(name: str, text: str = "EDITED = True\n") -> Change:
    """Append a statement, or a comment, to a script or module of the repository."""

    def change(run: Run) -> None:
        with (run.repository / "scripts" / name).open("a") as file:
            file.write(text)

    return change


def docstrings(run: Run) -> None:
    """Other first words in the docstring of every script and module."""
    for path in (run.repository / "scripts").rglob("*.py"):
        text = path.read_text()
        if text.startswith('"""'):
            path.write_text(f'"""Really: {text[3:]}')


def truth(change: Callable[[dict], object]) -> Change:
    """Edit COCO's annotations."""

    def edited(run: Run) -> None:
        path = run.folder / "data" / "annotations" / "instances.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edited


def fewer_images(content: dict) -> None:
    gone = content["images"].pop()["id"]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != gone]


def add_image(run: Run) -> None:
    image = next((run.folder / "data" / "images").iterdir())
    shutil.copy(image, image.with_name("added.jpg"))


def touch_everything(run: Run) -> None:
    """Other times for all files that are not made by the run, as a fresh checkout gives them."""
    for top in (run.folder / "config", run.folder / "data", run.folder / "weights", run.repository):
        for path in top.rglob("*"):
            os.utime(path)


def touch_results(run: Run) -> None:
    """Other times for all files that are made by the run, as a copy without its times has them."""
    for path in (run.folder / "results").rglob("*"):
        os.utime(path)


def other_detections(run: Run) -> None:
    """As somebody would edit them: another content that can be read."""
    path = run.folder / OWN / "detections" / "0000.json.gz"
    path.write_bytes(gzip.compress(b"{}"))


def sample(run: Run) -> None:
    """Half of the images."""
    content = yaml.safe_load((run.folder / CONFIG).read_text())
    content["datasets"]["shapes"]["sample"] = 4
    (run.folder / CONFIG).write_text(yaml.safe_dump(content))


RECORDED = {"name": "as recorded", "measure": "bbox.AP", "against": "recorded.json", "margin": 0.01}
IMAGE = "data/images/000000000005.jpg"
OWN_PATCH = {"name": "int64_to_int32", "matches": 1, "before": {}, "after": {}}
GATE = edit(MODEL, "minus: 0.002", "minus: 0.5")
THRESHOLD = edit(MODEL, "threshold: 0.5", "threshold: 0.6")
MEAN = edit(MODEL, "mean: [102", "mean: [103")
WEIGHTS = add("weights/retinamask.pth", "x")
CHANGES: dict[str, tuple[list[Change], dict[str, int]]] = {
    "nothing": ([], {}),
    "comment": ([edit(MODEL, "title:", "# a comment\ntitle:")], {}),
    "order of keys": ([configure(MODEL), configure()], {}),
    "file times": ([touch_everything], {}),
    "times of results": ([touch_results], {}),
    "title": ([edit(MODEL, "title: ", "title: Another ")], REPORT),
    "reference": ([edit(MODEL, "bbox.AP: 0.6295", "bbox.AP: 0.6")], REPORT),
    "gate": ([GATE], REPORT),
    "a gate with a margin": (
        [add("recorded.json", "[]"), configure(MODEL, gates=[RECORDED])],
        {"resample": 1, "resample_recorded": 1} | REPORT,
    ),
    "a sample": ([sample], INDEX | CHECK | {"infer": 1, "decode": 1, "resample": 1}),
    "allowed skips": ([configure(MODEL, allowed_skips=1)], REPORT),
    "masks are not scored": ([edit(MODEL, "iou_types: [bbox, segm]", "iou_types: [bbox]")], CHECK),
    "cross check": ([configure(cross_check=True)], EVALUATE),
    "runs of the benchmark": ([edit(MODEL, "min_runs: 30", "min_runs: 31")], BENCHMARK),
    "threshold": ([THRESHOLD], DECODE | PARITY),
    "mean": ([MEAN], INFER | PARITY),
    "tolerances": ([configure(MODEL, parity={"levels": {"largest": 9}})], REPORT),
    "images of parity": ([configure(parity={"images": 9})], PARITY),
    "another seed of parity": ([configure(parity={"images": 4, "seed": 1})], PARITY),
    "no parity": ([configure(parity={"images": 0})], REPORT),
    "shards": ([edit(CONFIG, "shards: 2", "shards: 3")], INFER | {"infer": 3, "decode": 3}),
    "bad images": ([configure(on_bad_image="skip")], INDEX),
    "simplify": ([configure(MODEL, simplify={"tolerance": 0.001})], SIMPLIFY),
    "patches of a backend that does not run": ([configure(MODEL, patches={})], {}),
    "patches": ([configure(MODEL, patches={"onnxruntime": [OWN_PATCH]})], PATCH),
    "option of the runner": ([add(BACKEND, "session: {graph_optimization: basic}\n")], COMPILE),
    "precision": ([add(BACKEND, "precision: float16\n")], COMPILE),
    "precision that is calibrated": ([add(BACKEND, "precision: int8\n")], {"calibrate": 1} | COMPILE),
    "providers": ([add(BACKEND, "providers: [CPUExecutionProvider, AzureExecutionProvider]\n")], COMPILE),
    "title of the backend": ([edit(BACKEND, "title: ", "title: Another ")], REPORT),
    "a backend more": ([configure(backends=["onnxruntime", "pytorch"])], PYTORCH | REPORT),
    "network": ([edit(MODEL, "clip: 256", "clip: 255")], EXPORT),
    "export": ([edit(MODEL, "opset: 11", "opset: 12")], EXPORT),
    "weights": ([WEIGHTS], CONVERT),
    "one image": ([add(IMAGE, "x")], INDEX),
    "one image that nobody asked for": ([add("data/images/deep/er/c.jpg", "x"), add_image], {}),
    "annotations in other words": ([add("data/annotations/instances.json", " ")], CHECK),
    "annotations": ([truth(lambda content: content["annotations"].pop())], CHECK),
    "an image less in the annotations": ([truth(fewer_images)], INDEX | CHECK),
    "an image of another size": ([truth(lambda content: content["images"][0].update(width=7))], INDEX | CHECK),
    "disk limit": ([configure(disk_limit_gb=1)], {}),
    "outputs are not kept": ([configure(keep_outputs_gb=0)], {}),
    "outputs are not kept, and a threshold": (
        [configure(keep_outputs_gb=0), THRESHOLD],
        {"detect": SHARDS} | EVALUATE | PARITY,
    ),
    "code of one stage": ([code("decode.py")], DECODE),
    "code of another precision": ([code("detport/precisions/float16.py")], {}),
    "code of the report": ([code("report.py")], REPORT),
    "code of parity": ([code("parity.py")], PARITY),
    "module of decoding": ([code("detport/masks.py")], DECODE | PARITY),
    "module of export and its followers": ([code("detport/graph/contract.py")], EXPORT),
    "module of preprocessing and indexing": ([code("detport/images.py")], INDEX),
    "modules of other models": ([code("detport/networks/gfocalv2.py"), code("detport/efficientdet.py")], {}),
    "comments in the code": ([code("decode.py", "# edited\n"), code("detport/masks.py", "\n\n# edited\n")], {}),
    "docstrings in the code": ([docstrings], {}),
    "threshold and gate": ([THRESHOLD, GATE], DECODE | PARITY),
    "mean and weights": ([MEAN, WEIGHTS], CONVERT),
    "file times and gate": ([touch_everything, GATE], REPORT),
    "code of decoding and one image": ([code("decode.py"), add(IMAGE, "x")], INDEX),
    "edited graph": ([add(f"{OWN}/patched.onnx", "x")], PATCH),
    "edited model": ([add(f"{OWN}/model.onnx", "x")], COMPILE),
    "edited outputs": ([add(f"{OWN}/outputs/0001/0.bin", "x")], {"infer": 1, "decode": 1} | EVALUATE),
    "edited detections": ([other_detections], {"decode": 1} | EVALUATE),
    "edited parity": ([add(f"{OWN}/parity.json", " ")], PARITY),
    "no parity.json": ([without(f"{OWN}/parity.json")], PARITY),
    "edited accuracy": ([add(f"{OWN}/accuracy.json", " ")], EVALUATE),
    "edited report": ([add(TARGET, "PASS")], REPORT),
    "edited report's json": ([add("reports/retinamask.json", " ")], REPORT),
    "detections exchanged": (
        [swap(f"{OWN}/detections/0000.json.gz", f"{OWN}/detections/0001.json.gz")],
        DECODE,
    ),
    "no accuracy": ([without(f"{OWN}/accuracy.json")], EVALUATE),
    "no detections of a shard": ([without(f"{OWN}/detections/0000.json.gz")], {"decode": 1} | EVALUATE),
    "no graph": ([without(f"{OWN}/patched.onnx")], PATCH),
    "no outputs": ([without(f"{OWN}/outputs")], {}),
    "no outputs, and a threshold": ([without(f"{OWN}/outputs"), THRESHOLD], INFER | PARITY),
    "no record": ([without(f"{OWN}/accuracy.json.made")], EVALUATE),
}


@pytest.mark.parametrize("name", CHANGES)
def test_only_what_changed_reruns(run, name):
    changes, expected = CHANGES[name]
    with kept(run):
        for change in changes:
            change(run)
        assert run.plan() == expected


PAGE = "reports/retinamask.html"


@pytest.fixture(scope="module")
def looked_at(run, tmp_path_factory) -> Run:
    """The same run with its page."""
    folder = Path(shutil.copytree(run.folder, tmp_path_factory.mktemp("looked at") / "demo"))
    found = Run(folder, run.repository)
    found.again("--cores", str(CORES), PAGE)
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (configure(), {}),
        (code("detport/page/templates/styles.css", "/* edited */\n"), {"page": 1}),
        (code("detport/page/templates/sections/sizes.html", "edited"), {"page": 1}),
        (code("detport/page/gallery.py"), {"page": 1}),
        (configure(report={"images": "none"}), {"page": 1}),
        (add(PAGE, "x"), {"page": 1}),
        (code("detport/analysis/scores.py"), EVALUATE | {"page": 1}),
        (GATE, REPORT | {"page": 1}),
    ],
    ids=["nothing", "styles", "template", "code", "images", "edited page", "code of the analysis", "gate"],
)
def test_the_page_follows_what_it_is_made_from(looked_at, change, expected):
    with kept(looked_at):
        change(looked_at)
        assert planned(looked_at.folder, PAGE, repository=looked_at.repository) == expected


PREVIEW = f"{OWN}/preview.html"


@pytest.fixture(scope="module")
def previewed(looked_at) -> Run:
    """The same run with a preview, which takes nothing that is there already."""
    said = looked_at.again("--cores", str(CORES), PREVIEW)
    assert made_by(said) == ["preview"]
    return looked_at


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (GATE, {}),
        (configure(preview={"images": 3}), {"preview": 1}),
        (THRESHOLD, {"preview": 1}),
        (truth(lambda content: content["annotations"].pop()), {"preview": 1}),
    ],
    ids=["gate", "images", "threshold", "annotations"],
)
def test_a_preview_follows_what_it_shows(previewed, change, expected):
    with kept(previewed):
        change(previewed)
        assert planned(previewed.folder, PREVIEW, repository=previewed.repository) == expected


def test_afterwards_everything_is_as_before(run):
    assert run.plan() == {}


def test_a_moved_working_directory_and_a_moved_repository_rerun_nothing(copied, tmp_path):
    """What moves with them, or names them, makes no difference; a change is still seen."""
    moved = Run(copied.folder.rename(tmp_path / "moved"), tmp_path / "deeper" / "repository")
    shutil.copytree(copied.repository, moved.repository)
    shutil.copy(moved.folder / BACKEND, moved.repository / BACKEND)
    (moved.folder / BACKEND).unlink()
    assert moved.plan() == {}
    MEAN(moved)
    assert moved.plan() == INFER | PARITY


def test_other_cores_measure_the_speed_again(copied):
    assert copied.plan("--cores", str(CORES)) == {}
    assert copied.plan("--cores", str(CORES + 1)) == BENCHMARK
    said = copied.again("--cores", "1", TARGET)
    assert f"detport: stale: {OWN}/performance.json: benchmark: threads {CORES} -> 1" in said
    assert made_by(said) == ["benchmark", "report"]
    assert copied.plan("--cores", str(CORES)) == BENCHMARK
    assert copied.plan("--cores", "1") == {}, "a dry run without a word is given one core, too"


def installed(folder: Path, name: str, version: str) -> dict[str, str]:
    """A package as pip would leave its metadata, and the environment in which it is found first."""
    path = folder / "packages" / f"{name}-{version}.dist-info" / "METADATA"
    path.parent.mkdir(parents=True)
    path.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return {"PYTHONPATH": str(folder / "packages")}


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("hotcoco", CHECK),
        ("onnxsim", SIMPLIFY),
        ("pillow", INDEX),
        ("numpy", INDEX | EXPORT | CHECK),
        ("torch", CONVERT),
        ("snakemake", {}),
        ("ruamel.yaml", {}),
    ],
)
def test_another_version_of_a_package_reruns_the_stages_that_use_it(run, tmp_path, package, expected):
    assert run.plan(**installed(tmp_path, package, "99.1")) == expected


def made_by(said: str) -> list[str]:
    """Rules of the jobs that a run began, in order."""
    return re.findall(r"^(?:local)?rule (\w+):$", said, re.MULTILINE)


STEPS = ["convert_checkpoint", "export", "simplify", "patch", "compile"]


@pytest.mark.parametrize(
    ("until", "settings", "rules"),
    [
        ("index_dataset", {}, {"index_dataset"}),
        ("compile", {}, set(STEPS)),
        ("compile", {"backends": ["onnxruntime_int8"]}, {"index_dataset", "calibrate", *STEPS}),
        ("infer", {}, {"index_dataset", *STEPS, "infer"}),
        ("decode", {}, {"index_dataset", *STEPS, "infer", "decode"}),
        ("evaluate", {}, {"index_dataset", *STEPS, "infer", "decode", "check", "evaluate"}),
        ("detect", {"keep_outputs_gb": 0}, {"index_dataset", *STEPS, "detect"}),
    ],
)
def test_until_a_stage(run, tmp_path, until, settings, rules):
    fresh = Run(reduced_demo(tmp_path / "demo", "retinamask"), run.repository)
    configure(**settings)(fresh)
    assert set(made_by(fresh.again("--cores", "8", "--until", until, "--", TARGET))) == rules
    assert made_by(fresh.again("--cores", "8", "--until", until, "--", TARGET)) == []


@pytest.mark.parametrize("target", [["shards/retinamask"], ["--until", "preprocess", "--", "shards/retinamask"]])
def test_shards_are_a_target_that_needs_no_compiler(run, tmp_path, target):
    """Nor weights' conversion, nor a device: only the images and their ground truth."""
    fresh = Run(reduced_demo(tmp_path / "demo", "retinamask"), run.repository)
    configure(backends=["ascend310"])(fresh)
    said = fresh.again("--cores", "2", *target, PATH=tools_without("atc", tmp_path))
    assert sorted(made_by(said)[1:]) == ["preprocess"] * SHARDS
    assert sorted(path.name for path in fresh.folder.glob("shards/retinamask/*")) == ["0000", "0001"]
    assert "Nothing to be done" in fresh.again("--cores", "2", *target)
    THRESHOLD(fresh)
    GATE(fresh)
    assert planned(fresh.folder, "shards/retinamask", repository=run.repository) == {}
    MEAN(fresh)
    assert planned(fresh.folder, "shards/retinamask", repository=run.repository) == {"preprocess": SHARDS}


def tools_without(name: str, folder: Path) -> str:
    """A PATH of links to all programs but one."""
    (folder / "bin").mkdir()
    for place in reversed(os.environ["PATH"].split(":")):
        for path in Path(place).glob("*"):
            if path.name != name:
                (folder / "bin" / path.name).unlink(missing_ok=True)
                (folder / "bin" / path.name).symlink_to(path)
    return str(folder / "bin")


def test_layers_and_what_to_keep_in_float32_follow_their_graph(copied):
    """On request alone; another threshold asks for a new search, not for new layers."""
    target = f"{OWN}/mixed.yaml"
    pages = copied.again("--cores", str(CORES), target, f"{OWN}/layers.html")
    assert set(made_by(pages)) == {"layers", "layers_page", "mixed"}

    def plan() -> dict[str, int]:
        return planned(copied.folder, target, repository=copied.repository)

    assert plan() == {}
    THRESHOLD(copied)
    assert plan() == {"mixed": 1}
    MEAN(copied)
    assert plan() == {"layers": 1, "mixed": 1}
    configure(layers={"memory_gb": 1})(copied)
    assert plan() == {"layers": 1, "mixed": 1}
    WEIGHTS(copied)
    assert plan() == dict.fromkeys((*STEPS, "layers", "mixed"), 1)


def test_shards_that_are_kept_are_nobodys_to_remove(copied):
    """Neither a change nor another run takes them away; a run that needs tensors makes its own in scratch folders."""
    copied.again("--cores", "2", "shards/retinamask")
    MEAN(copied)
    copied.again("--cores", "2", TARGET)
    assert len(list(copied.folder.glob("shards/retinamask/*/made.json"))) == SHARDS
    assert not list(copied.folder.glob("results/*/*/scratch/*"))
    assert planned(copied.folder, "shards/retinamask", repository=copied.repository) == {"preprocess": SHARDS}


@pytest.mark.parametrize("target", ["results/retinamask/onnx/ascend/exported.onnx", f"{OWN}/detections/0077.json.gz"])
def test_a_target_of_another_configuration_is_refused(run, target):
    """A graph for a backend that is not asked for; a shard that there is not."""
    result = snakemake(run.folder, "-n", target, repository=run.repository)
    assert result.returncode == 2
    assert f"detport: error: {target}: not of this configuration; correct the target, or models, " in result.stderr


def test_a_stage_may_be_asked_to_run_again(copied):
    assert copied.plan("-R", "evaluate") == EVALUATE
    assert set(made_by(copied.again("--cores", str(CORES), "-R", "evaluate", "--", TARGET))) == {"evaluate", "report"}
    assert copied.plan("--cores", str(CORES)) == {}


def test_touch_accepts_nothing_that_is_stale(copied):
    """It changes Snakemake's notes and file times, not what the records say."""
    THRESHOLD(copied)
    before = (copied.folder / TARGET).read_bytes()
    copied.again("--cores", str(CORES), "--touch", TARGET)
    assert (copied.folder / TARGET).read_bytes() == before, "a run that makes nothing marks nothing as stale"
    assert copied.plan() == DECODE | PARITY


def test_a_dry_run_tells_what_is_stale_and_touches_nothing(copied):
    WEIGHTS(copied)
    before = {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*") if ".snakemake" not in path.parts}
    said = snakemake(copied.folder, "-n", TARGET, repository=copied.repository).stderr
    assert "detport: stale: results/retinamask/weights.safetensors: weights/retinamask.pth changed\n" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
