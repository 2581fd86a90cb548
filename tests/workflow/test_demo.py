"""The whole road on a reduced demo: what a user types, what comes out, what a mistake looks like."""

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from detport import config
from runs import IMAGES, ROOT, SHARDS, planned, reduced_demo, snakemake

MODEL = "config/models/retinamask.yaml"
OWN = "results/retinamask/onnxruntime"
ACCURACY = f"{OWN}/accuracy.json"
PARITY = f"{OWN}/parity.json"
FRESH = {
    "check": 1,
    "index_dataset": 1,
    "convert_checkpoint": 1,
    "export": 1,
    "simplify": 1,
    "patch": 1,
    "compile": 1,
    "infer": SHARDS,
    "decode": SHARDS,
    "evaluate": 1,
    "benchmark": 1,
    "parity": 1,
    "report": 1,
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def test_a_dry_run_shows_the_whole_plan(tmp_path):
    assert planned(reduced_demo(tmp_path / "demo", "retinamask", parity=4), "reports/retinamask.txt") == FRESH


def test_report_json(finished):
    report = json.loads((finished / "reports" / "retinamask.json").read_text())
    assert report["schema"] == 1
    assert report["model"] == "retinamask"
    assert report["verdict"] in ("PASS", "FAIL", "UNDECIDED", "NOT MEASURED")
    backend = report["backends"]["onnxruntime"]
    assert backend["images"] == {"indexed": IMAGES, "scored": IMAGES, "skipped": []}
    for group in ("bbox", "segm"):
        assert len(backend["accuracy"][group]) == 13, "twelve numbers and per_class"
        assert 0.3 < backend["accuracy"][group]["AP"] <= 1
    performance = backend["performance"]
    assert performance["fps"] > 0
    assert {"mean", "p50", "p90", "p99"} <= performance["latency_ms"].keys()
    assert performance["threads"] == 2
    assert {gate["verdict"] for gate in report["gates"]} <= {"PASS", "FAIL"}
    rungs = ["preprocess", "eager", "exported", "simplified", "patched", "compiled"]
    assert {row["rung"]: row["verdict"] for row in report["parity"]} == dict.fromkeys(rungs, "PASS")
    names = [Path(name).name for name in report["provenance"]["sha256"]]
    assert names[:1] == ["retinamask.pth"]
    assert {"exported.onnx", "simplified.onnx", "patched.onnx", "model.onnx", "instances.json"} <= set(names)


def test_a_copy_of_the_report_stays_whatever_comes_later(finished):
    kept = sorted((finished / "reports" / "history" / "retinamask").iterdir())
    assert [path.suffix for path in kept] == [".json", ".txt"]
    assert [path.read_bytes() for path in kept] == [
        (finished / "reports" / f"retinamask{path.suffix}").read_bytes() for path in kept
    ]


def test_report_text(finished):
    text = (finished / "reports" / "retinamask.txt").read_text()
    for part in ("VERDICT", "GATES", "ACCURACY", "SPEED", "COMPARISON", "SKIPPED: nothing", "REPRODUCE"):
        assert part in text
    assert "PARITY on onnxruntime" in text and len(text.splitlines()) < 60


def test_the_provenance_is_what_every_stage_said_of_itself(finished):
    provenance = json.loads((finished / "reports" / "retinamask.json").read_text())["provenance"]
    steps = {step["stage"]: step for step in provenance["stages"]}
    assert steps.keys() == FRESH.keys() | {"preprocess"}
    assert steps["benchmark"]["threads"] == 2 and steps["decode"]["threads"] == 1
    assert "torch" in steps["export"]["versions"] and "torch" not in steps["infer"]["versions"]
    assert all(step["processor"] and step["versions"]["python"] for step in steps.values())
    assert provenance["brought"] == {}


def test_nothing_is_left_of_tensors(finished):
    assert not list(finished.glob("results/retinamask/*/scratch/*"))
    assert not list(finished.rglob("*.partial"))


def test_outputs_that_are_too_large_are_not_kept(tmp_path, finished):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    result = snakemake(folder, "--cores", "2", "--config", "keep_outputs_gb=0.001", "--", ACCURACY)
    assert result.returncode == 0, result.stderr
    assert not list(folder.glob("results/retinamask/*/outputs/*"))
    assert not list(folder.glob("results/retinamask/*/scratch/*"))
    assert (folder / ACCURACY).read_bytes() == (finished / ACCURACY).read_bytes()


def test_kept_outputs_are_whole(finished):
    folders = sorted(finished.glob("results/retinamask/onnxruntime/outputs/*"))
    assert len(folders) == SHARDS
    for folder in folders:
        images = json.loads((folder / "shard.json").read_text())["images"]
        assert len(list(folder.glob("*.bin"))) == 4 * len(images)


def test_detections_hold_every_image(finished):
    images = []
    for path in sorted(finished.glob("results/retinamask/onnxruntime/detections/*.json.gz")):
        images += json.loads(gzip.decompress(path.read_bytes()))["images"]
    index = (finished / "results" / "datasets" / "shapes" / "index.tsv").read_text().splitlines()[1:]
    assert images == [int(line.split("\t")[0]) for line in index]


def test_a_second_call_has_nothing_to_do(finished):
    result = snakemake(finished, "--cores", "2", "reports/retinamask.txt")
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("old", "new", "told", "expected"),
    [
        ("title:", "# a comment\ntitle:", [], {}),
        (
            "threshold: 0.5",
            "threshold: 0.6",
            [
                f"{SHARDS} files in {OWN}/detections: decode: decode.masks.threshold 0.5 -> 0.6",
                f"{PARITY}: parity: decode.masks.threshold 0.5 -> 0.6",
                "2 files in reports: report: decode.masks.threshold 0.5 -> 0.6",
            ],
            {"decode": SHARDS, "evaluate": 1, "parity": 1, "report": 1},
        ),
        (
            "mean: [102.9801",
            "mean: [103",
            [
                f"{what} preprocess.mean [102.9801, 115.9465, 122.7717] -> [103, 115.9465, 122.7717]"
                for what in (
                    f"{SHARDS} files in results/retinamask/onnxruntime/outputs: preprocess:",
                    f"{SHARDS} files in results/retinamask/onnxruntime/detections: preprocess:",
                    f"{PARITY}: parity:",
                )
            ],
            {"infer": SHARDS, "decode": SHARDS, "evaluate": 1, "parity": 1, "report": 1},
        ),
    ],
    ids=["comment", "threshold", "mean"],
)
def test_a_dry_run_tells_what_runs_again_and_why(copy_of_finished, old, new, told, expected):
    """The records of the real stages; test_reruns.py has the whole table."""
    folder = copy_of_finished()
    edit(folder / MODEL, old, new)
    said = snakemake(folder, "-n", "--cores", "2", "reports/retinamask.txt").stderr
    assert re.findall(r"^detport: stale: (.*)$", said, re.MULTILINE) == told
    assert planned(folder, "reports/retinamask.txt") == expected


def test_the_same_inputs_give_the_same_accuracy_bytes(copy_of_finished):
    folder = copy_of_finished()
    accuracy = folder / "results" / "retinamask" / "onnxruntime" / "accuracy.json"
    before = accuracy.read_bytes()
    again = ("--forcerun", "infer", "--until", "evaluate", "--", str(accuracy.relative_to(folder)))
    result = snakemake(folder, "--cores", "2", *again)
    assert result.returncode == 0, result.stderr
    assert accuracy.read_bytes() == before


def test_accept_follows_the_verdict(copy_of_finished):
    folder = copy_of_finished()
    model = yaml.safe_load((folder / MODEL).read_text())
    for minus, status in ((1.0, 0), (-1.0, 1)):
        model["gates"] = [{"name": "box AP", "measure": "bbox.AP", "reference": "eager PyTorch", "minus": minus}]
        (folder / MODEL).write_text(yaml.safe_dump(model))
        assert snakemake(folder, "--cores", "2", "accept").returncode == status


def test_a_typo_in_the_yaml_is_named(tmp_path):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    edit(folder / MODEL, "nms_iou: 0.4\n  iou", "nms_iuo: 0.4\n  iou")
    result = snakemake(folder, "-n")
    assert result.returncode == 2
    assert "config/models/retinamask.yaml:" in result.stderr
    assert "decode.nms_iuo: unknown key; did you mean 'nms_iou'?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("models: [retinamask]\nbackend: []\n", "config.yaml:2: backend: unknown key; did you mean 'backends'?"),
        ("models: [retinamask\n", "config.yaml:2: YAML: "),
        ("- retinamask\n", "config.yaml: file: ['retinamask'] is not of type object"),
        ("", "config.yaml: file: None is not of type object"),
        (None, "config.yaml: not in "),
    ],
    ids=["a typo", "half a list", "no keys", "empty", "not there"],
)
def test_what_is_wrong_with_the_configuration_is_named(tmp_path, content, expected):
    (tmp_path / "config").mkdir()
    if content is not None:
        (tmp_path / "config" / "config.yaml").write_text(content)
    result = snakemake(tmp_path, "-n")
    assert result.returncode == 2
    assert f"detport: error: config/{expected}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("backends=[onnxruntme]", "no file config/backends/onnxruntme.yaml; did you mean 'onnxruntime'?"),
        ("backends=[onnxruntime", "--config: backends:1: YAML: expected ',' or ']'"),
        ("models=[nosuch]", "config/models/nosuch.yaml: no such file"),
        ("brought={ascend31: {}}", "brought.ascend31: there is no 'ascend31'; did you mean 'ascend310'?"),
        (
            "brought={ascend310: {retinamsk: {log: x}}}",
            "brought.ascend310.retinamsk: there is no 'retinamsk'; did you mean 'retinamask'?",
        ),
        ("on_bad_image=ignore", "on_bad_image: 'ignore' is not known; expected one of fail, skip"),
        ("shard=3", "shard: unknown key"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, option, expected):
    result = snakemake(reduced_demo(tmp_path / "demo", "retinamask"), "-n", "--config", option)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_data_is_explained_in_a_few_lines():
    result = snakemake(ROOT, "--cores", "8", "reports/retinamask.txt")
    assert result.returncode == 2
    message = result.stderr[result.stderr.index("detport: error") :]
    assert len(message.splitlines()) < 8
    for part in ("weights/npu_8P_model_0020001.pth", "data/coco/val2017", "instances_val2017.json", "make demo"):
        assert part in message
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("file", "right", "wrong", "expected"),
    [
        ("config/config.yaml", "data/images", "data/annotations/instances.json", "is not a folder  (images"),
        ("config/config.yaml", "data/annotations/instances.json", "data/images", "is not a file  (ground truth"),
        (MODEL, "weights/retinamask.pth", "weights", "is not a file  (trained weights"),
    ],
)
def test_a_folder_for_a_file_is_named(tmp_path, file, right, wrong, expected):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    edit(folder / file, right, wrong)
    result = snakemake(folder, "-n", "reports/retinamask.txt")
    assert result.returncode == 2
    assert f"{wrong}  {expected}" in result.stderr
    assert "Traceback" not in result.stderr


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def test_bad_images_stop_the_run_and_all_are_named(tmp_path):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    images = sorted((folder / "data" / "images").iterdir())
    truncate(images[0])
    images[-1].write_text("<html>")
    result = snakemake(folder, "--cores", "2", "reports/retinamask.txt")
    assert result.returncode == 1
    for path in (images[0], images[-1]):
        assert path.name in result.stderr
    assert "2 of 8 images" in result.stderr
    assert not list(folder.rglob("detections/*"))


def test_bad_images_are_skipped_and_reported_where_the_configuration_says_so(copy_of_finished):
    folder = copy_of_finished()
    truncate(folder / "data" / "images" / "000000000025.jpg")
    result = snakemake(folder, "--cores", "2", "--config", "on_bad_image=skip", "--", "reports/retinamask.txt")
    assert result.returncode == 0, result.stderr
    report = json.loads((folder / "reports" / "retinamask.json").read_text())
    images = report["backends"]["onnxruntime"]["images"]
    assert (images["indexed"], images["scored"]) == (IMAGES, IMAGES - 1)
    assert [image["file"] for image in images["skipped"]] == ["000000000025.jpg"]
    verdicts = {gate["measure"]: gate["verdict"] for gate in report["gates"]}
    assert verdicts["bbox.AP"] == "NOT MEASURED", "an accuracy over other images than the reference's is none"
    assert "000000000025.jpg" in (folder / "reports" / "retinamask.txt").read_text()


def test_a_ready_onnx_needs_no_network(copy_of_finished):
    folder = copy_of_finished()
    model = yaml.safe_load((folder / MODEL).read_text())
    del model["checkpoint"], model["network"], model["gates"]
    model |= {"onnx": "weights/model.onnx", "outputs": config.load(folder / MODEL, "model")["outputs"]}
    shutil.copy(
        folder / "results" / "retinamask" / "onnx" / "standard" / "exported.onnx", folder / "weights" / "model.onnx"
    )
    (folder / "config" / "models" / "ready.yaml").write_text(yaml.safe_dump(model))
    edit(folder / "config" / "config.yaml", "- retinamask", "- ready")
    target = "results/ready/onnxruntime/accuracy.json"
    result = snakemake(folder, "--cores", "2", target)
    assert result.returncode == 0, result.stderr
    ready, trained = (
        json.loads((folder / path).read_text()) for path in (target, target.replace("ready", "retinamask"))
    )
    assert ready["accuracy"] == trained["accuracy"]


def test_style():
    result = snakemake(ROOT, "--lint")
    assert result.returncode == 0, result.stdout + result.stderr
