"""Which files are stale, and why: a small chain of records, of which one thing is changed at a time."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detport import made, stale
from detport.files import sha256
from detport.lineage import Product, Source


def recipe(stage: str, **changes) -> dict:
    plain = {"stage": stage, "settings": {"mean": [0, 0, 0], "nms": {"iou": 0.5, "kind": "hard"}}}
    return plain | {"code": "c0de", "versions": {"numpy": "2.3"}} | changes


def chain(**recipes: dict) -> list[Product]:
    """An index of brought files; a shard that is gone after use; outputs of the shard; detections; a report."""
    steps = {stage: recipe(stage) for stage in ("index", "preprocess", "infer", "decode", "report")} | recipes
    truth = Source(Path(), ["truth"], lambda: Path("truth").read_text().strip())
    return [
        Product("index.tsv", steps["index"], {}, {"images": Source(Path("images"), None), "truth": truth}),
        Product("shard", steps["preprocess"], {"index": ["index.tsv"]}, {}, folder=True),
        Product("outputs", steps["infer"], {"shard": ["shard"]}, {}, folder=True),
        Product("detections", steps["decode"], {"outputs": ["outputs"]}, {}),
        Product("reports/m.txt", steps["report"], {"detections": ["detections"]}, {}),
        Product("reports/m.json", steps["report"], {"detections": ["detections"]}, {}),
    ]


def make(products: list[Product]) -> None:
    """What the stages would make, as far as it is not there."""
    for product in products:
        path = Path(product.path)
        sources = {
            role: made.source(source.folder, source.names or ["a.jpg", "b.jpg"])
            | ({"signature": source.signature()} if source.signature else {})
            for role, source in product.sources.items()
        }
        inputs = {role: list(map(Path, paths)) for role, paths in product.inputs.items()}
        record = made.begin(product.recipe, inputs, sources)
        if product.folder:
            path.mkdir()
            (path / "a.bin").write_text(product.path)
            made.put_folder(record, path, {"a.bin": sha256(path / "a.bin")})
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(product.path)
            made.put(record, path)


@pytest.fixture(autouse=True)
def finished(tmp_path, monkeypatch) -> None:
    """Everything is made, and the shard gone."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name in ("truth", "images/a.jpg", "images/b.jpg", "images/c.jpg"):
        Path(name).write_text(name)
    make(chain())
    shutil.rmtree("shard")


DETECTIONS = {"detections": stale.AGAIN, "reports/m.txt": stale.AGAIN, "reports/m.json": stale.AGAIN}
REPORTS = {"reports/m.txt": stale.AGAIN, "reports/m.json": stale.AGAIN}
OUTPUTS = {"outputs": stale.AGAIN} | DETECTIONS


def test_nothing_is_stale_although_the_shard_is_gone():
    assert stale.find(chain()) == {}
    shutil.rmtree("outputs")
    assert stale.find(chain()) == {}


SETTINGS = {"mean": [1, 0, 0], "nms": {"iou": 0.5, "kind": "hard"}}
THRESHOLD = {"mean": [0, 0, 0], "nms": {"iou": 0.4, "kind": "hard"}}
LONG = {"mean": list(range(50)), "nms": {"iou": 0.5, "kind": "hard"}}
TWO = {"mean": [0, 0, 0], "nms": {"iou": 0.4, "kind": "soft"}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": SETTINGS}, "mean [0, 0, 0] -> [1, 0, 0]"),
        ({"settings": THRESHOLD}, "nms.iou 0.5 -> 0.4"),
        ({"settings": TWO}, "nms {'iou': 0.5, 'kind': 'hard'} -> {'iou': 0.4, 'kind': 'soft'}"),
        ({"settings": LONG}, "mean changed"),
        ({"settings": SETTINGS | {"more": True}}, "mean [0, 0, 0] -> [1, 0, 0]"),
        ({"settings": {"mean": [0, 0, 0]}}, "nms {'iou': 0.5, 'kind': 'hard'} -> None"),
        ({"code": "edited"}, "its code changed"),
        ({"versions": {"numpy": "2.4"}}, "numpy 2.3 -> 2.4"),
        ({"versions": {"numpy": "2.3", "onnx": "1.20"}}, "onnx None -> 1.20"),
        ({"versions": {}}, "numpy 2.3 -> None"),
    ],
)
def test_another_recipe_makes_all_that_follows_stale(changes, reason):
    decode = f"decode: {reason}"
    assert stale.find(chain(decode=recipe("decode", **changes))) == DETECTIONS | {"detections": decode}


def test_of_another_sample_is_said_what_is_used_again():
    sampled, whole = ({"stage": "index_dataset", "settings": {"sample": each}} for each in (300, None))
    assert stale.difference(sampled, whole).startswith(
        "index_dataset: sample 300 -> None; weights, graphs and compiled models are used again, shards and"
    )


def test_a_change_before_what_is_gone_is_seen_by_its_followers():
    """The shard's recipe is in the records of the outputs, and of the detections, whether outputs are there or not."""
    found = chain(preprocess=recipe("preprocess", settings=SETTINGS))
    reason = "preprocess: mean [0, 0, 0] -> [1, 0, 0]"
    assert stale.find(found) == DETECTIONS | {"outputs": reason, "detections": reason}
    shutil.rmtree("outputs")
    assert stale.find(found) == DETECTIONS | {"detections": reason}


def edited(name: str, content: str = "edited") -> Callable[[], object]:
    return lambda: Path(name).write_text(content)


def exchange() -> None:
    for one, other in (("images/a.jpg", "aside"), ("images/b.jpg", "images/a.jpg"), ("aside", "images/b.jpg")):
        Path(one).rename(other)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edited("images/a.jpg"), OUTPUTS | {"index.tsv": "images/a.jpg changed"}),
        (lambda: Path("images/b.jpg").unlink(), OUTPUTS | {"index.tsv": "images/b.jpg changed"}),
        (exchange, OUTPUTS | {"index.tsv": "images/a.jpg changed"}),
        (edited("images/c.jpg"), {}),
        (edited("truth", "other"), OUTPUTS | {"index.tsv": "truth changed"}),
        (edited("truth", "truth\n\n"), {}),
        (lambda: os.utime("images/a.jpg"), {}),
    ],
    ids=["image", "image gone", "images exchanged", "another file", "truth", "words of the truth", "file time"],
)
def test_what_a_person_brought_is_compared_by_content(change, expected):
    change()
    assert stale.find(chain()) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edited("index.tsv"), OUTPUTS | {"index.tsv": "index.tsv was changed after it was made"}),
        (edited("outputs/a.bin"), DETECTIONS | {"outputs": "a.bin was changed after it was made"}),
        (lambda: Path("outputs/a.bin").unlink(), DETECTIONS | {"outputs": "a.bin was changed after it was made"}),
        (edited("detections"), REPORTS | {"detections": "detections was changed after it was made"}),
        (edited("reports/m.json"), {"reports/m.json": "m.json was changed after it was made"}),
        (lambda: Path("detections").unlink(), dict.fromkeys(REPORTS, "detections is missing")),
        (
            lambda: Path("index.tsv").unlink(),
            OUTPUTS | {"outputs": "index.tsv is missing"},
        ),
        (lambda: Path("reports/m.txt.made").unlink(), {"reports/m.txt": "nothing tells what made it"}),
        (lambda: Path("detections.made").unlink(), REPORTS | {"detections": "nothing tells what made it"}),
        (lambda: Path("detections.made").write_text("{"), REPORTS | {"detections": "nothing tells what made it"}),
        (lambda: [os.utime(path) for path in Path().rglob("*")], {}),
    ],
    ids=[
        *("index edited", "outputs edited", "an output gone", "detections edited", "report edited", "detections gone"),
        *("index gone", "record gone", "record of an input gone", "record cut off", "file times"),
    ],
)
def test_what_was_edited_or_lost_by_hand_is_noticed(change, expected):
    change()
    assert stale.find(chain()) == expected


def test_what_was_made_from_an_input_that_was_made_again_otherwise_is_stale():
    """With the identity in force but another content, as after a run that ended in between."""
    Path("detections").write_text("other")
    made.put(made.begin(recipe("decode"), {"outputs": [Path("outputs")]}), Path("detections"))
    assert stale.find(chain()) == dict.fromkeys(REPORTS, "it was made from another detections")


def test_what_was_brought_in_place_of_another_source_is_noticed():
    products = chain()
    other = {"log": Source(Path("images"), None)}
    products[3] = products[3]._replace(sources=other)
    assert stale.find(products)["detections"] == "it was made from something else than images"


def test_a_new_file_among_brought_ones_is_looked_at():
    """A tool that has written more since: its folder is listed on record, and may hold what is now taken."""
    source = Source(Path("images"), None)
    recorded = made.source(Path("images"), ["a.jpg"]) | {"listing": made.listing(Path("images"))}
    assert stale.changed_source(source, recorded) is None
    Path("images/d.jpg").touch()
    assert stale.changed_source(source, recorded) == "images changed"


def test_a_speed_is_stale_with_another_number_of_threads():
    product = Product("performance.json", recipe("benchmark"), {}, {})
    Path("performance.json").write_text("{}")
    made.put(made.begin(product.recipe, {}, threads=2), Path("performance.json"))
    assert stale.find([product], threads=2) == stale.find([product]) == {}
    assert stale.find([product], threads=8) == {"performance.json": "benchmark: threads 2 -> 8"}


def test_the_summary_has_a_line_for_each_reason_and_folder():
    found = {f"m/detections/{k:04d}": "decode: nms 1 -> 2" for k in range(3)}
    found |= {"m/weights": "w.pth changed", "m/model": stale.AGAIN, "reports/m.txt": stale.AGAIN}
    assert stale.summary(found) == [
        "stale: 3 files in m/detections: decode: nms 1 -> 2",
        "stale: m/weights: w.pth changed",
    ]


def test_what_is_invalid_is_gone_and_a_report_says_so():
    Path("reports/m.html").touch()
    Path("reports/m2.txt").touch()
    stale.invalidate(["reports/m.json", "reports/m.txt", "detections", "outputs", "missing"])
    assert not any(Path(name).exists() for name in ("detections", "detections.made", "outputs"))
    assert sorted(path.name for path in Path("reports").iterdir()) == ["m.txt", "m2.txt"]
    first, rest = Path("reports/m.txt").read_text().split("\n", 1)
    assert first.startswith("STALE: since 20") and "something behind it changed or failed" in first
    assert rest == "reports/m.txt"
    before = Path("reports/m.txt").read_text()
    stale.invalidate(["reports/m.txt"])
    assert Path("reports/m.txt").read_text() == before, "once is enough"
    assert stale.find(chain())["reports/m.txt"] == "nothing tells what made it"


def test_only_the_record_of_a_folder_is_named_to_the_workflow():
    """made.json is the output that Snakemake knows; the rest of a folder that is to be made again is useless."""
    stale.invalidate(["outputs/made.json"])
    assert made.read(Path("outputs")) is None
