"""Only what changed reruns: one change at a time, and the set of jobs that a dry run then plans.

The run before was made by stand-ins for the stages; what is compared is the plan, and planning is the real one.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from runs import SHARDS, planned, reduced_demo, snakemake
from stages import with_stand_ins

MODEL = "config/models/retinamask.yaml"
BACKEND = "config/backends/onnxruntime.yaml"
TARGET = "reports/retinamask.txt"
DECODE = {"decode": SHARDS, "evaluate": 1, "report": 1}
SHARD = {"preprocess": SHARDS, "infer": SHARDS} | DECODE  # a shard's tensors are temporary, inference makes them again
INDEX = {"index_dataset": 1} | SHARD
COMPILE = {"compile": 1, "benchmark": 1} | SHARD
SIMPLIFY = {"simplify": 1, "patch": 1} | COMPILE
EXPORT = {"export": 1} | SIMPLIFY
CONVERT = {"convert_checkpoint": 1} | EXPORT


class Run(NamedTuple):
    """A finished run: its working directory, and the repository that made it."""

    folder: Path
    repository: Path

    def plan(self) -> dict[str, int]:
        return planned(self.folder, TARGET, repository=self.repository)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("reruns")
    repository = with_stand_ins(place / "repository")
    folder = reduced_demo(place / "demo", "retinamask")
    (folder / BACKEND).parent.mkdir(exist_ok=True)
    shutil.copy(repository / BACKEND, folder / BACKEND)
    environment = os.environ | {"STAND_IN_BYTES": "preprocess=10,infer=10"}
    result = snakemake(folder, "--cores", "2", TARGET, repository=repository, env=environment)
    assert result.returncode == 0, result.stdout
    return Run(folder, repository)


@contextlib.contextmanager
def kept(run: Run) -> Iterator[None]:
    """Put everything back afterwards that a change may touch."""
    places = [run.folder / name for name in ("config", "data", "weights")] + [run.repository / "scripts"]
    before = {path: (path.read_bytes(), path.stat()) for top in places for path in top.rglob("*") if path.is_file()}
    try:
        yield
    finally:
        for top in places:
            for path in [path for path in top.rglob("*") if path.is_file() and path not in before]:
                path.unlink()
        for path, (content, stat) in before.items():
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


def code(name: str) -> Change:
    """Append a comment to a script or module of the repository."""

    def change(run: Run) -> None:
        with (run.repository / "scripts" / name).open("a") as file:
            file.write("# edited\n")

    return change


def add_image(run: Run) -> None:
    image = next((run.folder / "data" / "images").iterdir())
    shutil.copy(image, image.with_name("added.jpg"))


def touch_everything(run: Run) -> None:
    """Other times for all files that are not made by the run, as a fresh checkout gives them."""
    for top in (run.folder / "config", run.folder / "data", run.folder / "weights", run.repository):
        for path in top.rglob("*"):
            os.utime(path)


IMAGE = "data/images/000000000005.jpg"
CHANGES: dict[str, tuple[list[Change], dict[str, int]]] = {
    "nothing": ([], {}),
    "comment": ([edit(MODEL, "title:", "# a comment\ntitle:")], {}),
    "file times": ([touch_everything], {}),
    "gate": ([edit(MODEL, "minus: 0.002", "minus: 0.5")], {"report": 1}),
    "threshold": ([edit(MODEL, "nms_iou: 0.4", "nms_iou: 0.5")], DECODE),
    "mean": ([edit(MODEL, "mean: [102", "mean: [103")], SHARD),
    "masks are not scored": (
        [edit(MODEL, "iou_types: [bbox, segm]", "iou_types: [bbox]")],
        {"evaluate": 1, "report": 1},
    ),
    "weights": ([add("weights/retinamask.pth", "x")], CONVERT),
    "one image": ([add(IMAGE, "x")], INDEX),
    "one image in a folder of its own": ([add("data/images/deep/er/c.jpg", "x")], INDEX),
    "one image added": ([add_image], INDEX),
    "annotations": ([add("data/annotations/instances.json", " ")], INDEX),
    "option of the runner": ([add(BACKEND, "session: {graph_optimization: basic}\n")], COMPILE),
    "title of the backend": ([edit(BACKEND, "title: ", "title: Another ")], {}),
    "disk limit": ([add("config/config.yaml", "disk_limit_gb: 1\n")], {}),
    "code of one stage": ([code("decode.py")], DECODE),
    "code of the report": ([code("report.py")], {"report": 1}),
    "module of decoding": ([code("detport/masks.py")], DECODE),
    "module of export and its followers": ([code("detport/graph/contract.py")], EXPORT),
    "module of preprocessing and indexing": ([code("detport/images.py")], INDEX),
    "module of another model": ([code("detport/networks/gfocalv2.py")], {}),
    "threshold and gate": (
        [edit(MODEL, "nms_iou: 0.4", "nms_iou: 0.5"), edit(MODEL, "minus: 0.002", "minus: 0.5")],
        DECODE,
    ),
    "mean and weights": ([edit(MODEL, "mean: [102", "mean: [103"), add("weights/retinamask.pth", "x")], CONVERT),
    "file times and gate": ([touch_everything, edit(MODEL, "minus: 0.002", "minus: 0.5")], {"report": 1}),
    "code of decoding and one image": ([code("decode.py"), add(IMAGE, "x")], INDEX),
}


@pytest.mark.parametrize("name", CHANGES)
def test_only_what_changed_reruns(run, name):
    changes, expected = CHANGES[name]
    with kept(run):
        for change in changes:
            change(run)
        assert run.plan() == expected


def test_afterwards_everything_is_as_before(run):
    assert run.plan() == {}
