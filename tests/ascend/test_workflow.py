"""From the command line to the report, on simulated chips; and the same report on a machine without any."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tiny import simulated

from runs import IMAGES, ROOT, planned, reduced_demo, snakemake

REPORT = "reports/retinamask.txt"
PREVIEW = "results/retinamask/ascend310p/preview.html"
MACHINE = {"chips": "310x4,310P3x1"}
DEVICES = {"ascend310": [0, 1, 2, 3], "ascend310p": [4]}


def own_backends(folder: Path) -> None:
    """The shipped backends, on the devices of the simulated machine, and with few runs."""
    (folder / "config" / "backends").mkdir()
    for name, devices in DEVICES.items():
        backend = yaml.safe_load((ROOT / "config" / "backends" / f"{name}.yaml").read_text())
        backend |= {"devices": devices, "loop": 2}
        (folder / "config" / "backends" / f"{name}.yaml").write_text(yaml.safe_dump(backend))


def configure(folder: Path, **keys: object) -> None:
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Path:
    """A run on a server with both kinds of cards."""
    folder = reduced_demo(tmp_path_factory.mktemp("server") / "it's a server", "retinamask", parity=4)
    own_backends(folder)
    configure(folder, backends=list(DEVICES))
    locks = tmp_path_factory.mktemp("locks")
    env = simulated(**MACHINE) | {"DETPORT_DEVICES": str(locks)}
    result = snakemake(folder, "--cores", "2", REPORT, PREVIEW, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(rf"^{PREVIEW}: {IMAGES} images, .*\(FROM A SIMULATOR\)$", result.stdout, re.MULTILINE)
    assert {path.name for path in locks.iterdir()} == {f"{device}.lock" for ids in DEVICES.values() for device in ids}
    return folder


def test_the_report_of_a_simulated_server(server):
    report = json.loads((server / "reports" / "retinamask.json").read_text())
    for name in DEVICES:
        backend = report["backends"][name]
        assert backend["images"] == {"indexed": IMAGES, "scored": IMAGES, "skipped": []}
        assert backend["accuracy"]["bbox"]["AP"] > 0.4
        assert backend["performance"]["simulator"] is True
        accuracy = json.loads((server / "results" / "retinamask" / name / "accuracy.json").read_text())
        assert accuracy["simulator"] is True
    card = report["backends"]["ascend310"]["performance"]
    assert card["fps"] == pytest.approx(4 * card["fps_per_device"], abs=1e-3)
    assert card["fps_card_measured"] > 0
    text = (server / REPORT).read_text()
    assert "FIGURES OF ascend310, ascend310p COME FROM A SIMULATOR, NOT FROM A DEVICE" in text
    lines = [line.split()[:3] for line in text.splitlines() if "(SIMULATOR)" in line]
    for name in DEVICES:
        assert [name, "(SIMULATOR)", "bbox"] in lines and [name, "(SIMULATOR)", "segm"] in lines
        assert [name, "(SIMULATOR)", f"{report['backends'][name]['performance']['fps']:.2f}"] in lines
        assert report["backends"][name]["peak_bytes"] is None, "the model is in the memory of the device"
    assert "Ascend310, " in text and "Ascend310P3, " in text
    assert "CANN 5.0.4" in text and "CANN 6.0.RC1" in text
    assert "arithmetic as in the guides" in text
    assert any(name.endswith("ascend310/model.om") for name in report["provenance"]["sha256"])


def test_the_ladder_reaches_the_simulated_chip(server):
    """ONNX Runtime refuses the patch's cast to float16; the chip's detections are compared with the graph before it."""
    report = json.loads((server / "reports" / "retinamask.json").read_text())
    for name in DEVICES:
        rungs = {row["rung"]: row for row in report["parity"] if row["backend"] == name}
        verdicts = {"preprocess": "PASS", "eager": "PASS", "exported": "PASS", "simplified": "PASS"}
        verdicts |= {"patched": "NOT MEASURED", "compiled": "PASS"}
        assert {rung: row["verdict"] for rung, row in rungs.items()} == verdicts
        assert "does not match expected type (tensor(float16))" in rungs["patched"]["told"]
        assert rungs["compiled"]["precision"] == "float16"
        compiled = report["backends"][name]["parity"]["rungs"][-1]
        assert (compiled["simulator"], compiled["previous"]["rung"]) == (True, "simplified")
        assert compiled["previous"]["detections"]["before"] > 0
    assert "NOT MEASURED parity                  ascend310      patched: " in (server / REPORT).read_text()


def test_nothing_is_left_but_results(server):
    own = server / "results" / "retinamask" / "ascend310"
    names = {path.name.removesuffix(".made") for path in own.iterdir()}
    assert not list(own.glob("scratch/*"))
    expected = {
        "patched.onnx",
        "model.om",
        "model.om.json",
        "model.atc.log",
        "accuracy.json",
        "analysis.json",
        "performance.json",
        "parity.json",
        "detections",
    }
    assert names <= expected | {"patches.json", "outputs", "scratch"}
    assert not (server / "fusion_result.json").exists()
    assert not list(server.rglob("kernel_meta"))


def test_another_device_reruns_the_benchmark_alone(server, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(server, folder)
    path = folder / "config" / "backends" / "ascend310.yaml"
    path.write_text(path.read_text().replace("loop: 2", "loop: 3"))
    assert planned(folder, REPORT, env=simulated(**MACHINE)) == {"benchmark": 1, "report": 1}


def test_a_report_on_a_laptop_from_what_a_server_ran(server, tmp_path):
    """Outputs by msame and a log are brought; the accuracy is that of the server, and no tool is there."""
    elsewhere, brought = tmp_path / "elsewhere", tmp_path / "laptop" / "brought"
    folder = reduced_demo(tmp_path / "laptop", "retinamask")
    own_backends(folder)
    configure(folder, backends=["ascend310"])
    result = snakemake(folder, "--cores", "2", "shards/retinamask")
    assert result.returncode == 0, result.stdout + result.stderr
    (elsewhere / "bins").mkdir(parents=True)
    for path in folder.glob("shards/retinamask/*/*.bin"):
        shutil.copy(path, elsewhere / "bins")
    shutil.copy(server / "results/retinamask/ascend310/model.om", elsewhere)
    by_hand = ["msame", "--model", "model.om", "--input", "bins", "--output", "out", "--outfmt", "BIN"]
    options = {"cwd": elsewhere, "env": simulated(**MACHINE), "capture_output": True, "text": True, "check": True}
    log = subprocess.run(by_hand, **options).stdout
    brought.mkdir()
    shutil.copytree(next((elsewhere / "out").iterdir()), brought / "outputs")
    (brought / "msame.log").write_text(log.replace("[SIMULATOR]", ""))  # as if a device had been timed
    configure(folder, brought={"ascend310": {"retinamask": {"outputs": "brought/outputs", "log": "brought/msame.log"}}})
    result = snakemake(folder, "-n", PREVIEW.replace("ascend310p", "ascend310"))
    assert (result.returncode, "preview of ascend310: its outputs come from another machine" in result.stderr) == (
        2,
        True,
    )
    result = snakemake(folder, "--cores", "2", REPORT)
    assert result.returncode == 0, result.stdout + result.stderr
    laptop, original = (
        json.loads((path / "results/retinamask/ascend310/accuracy.json").read_text()) for path in (folder, server)
    )
    assert laptop["accuracy"] == original["accuracy"]
    performance = json.loads((folder / "results/retinamask/ascend310/performance.json").read_text())
    assert (performance["tool"], performance["runs"], performance["simulator"]) == ("msame", IMAGES, False)
    assert laptop["simulator"] is True, "the outputs are a simulator's all the same"
    assert "FIGURES OF ascend310 COME FROM A SIMULATOR" in (folder / REPORT).read_text()
    assert performance["log"]["file"] == "msame.log"
    assert any("Inference average time" in line for line in performance["lines"])
    assert not (folder / "results" / "retinamask" / "onnx").exists(), "nothing is exported for what is brought"
    found = json.loads((folder / "reports" / "retinamask.json").read_text())["provenance"]["brought"]
    assert {name.split(" ")[0]: told["files"] for name, told in found.items()} == {"outputs": 4 * IMAGES, "log": 1}
    words = " ".join((folder / REPORT).read_text().split())
    assert "BROUGHT from another machine: outputs behind " in words and "; log behind " in words
    # What was brought is compared by content: one file is one shard's, the log is the speed's.
    assert planned(folder, REPORT) == {}
    shutil.copy(brought / "outputs" / "000000000005_output_0.bin", brought / "aside")
    first = brought / "outputs" / "000000000005_output_0.bin"
    first.write_bytes(bytes(first.stat().st_size))
    assert planned(folder, REPORT) == {"infer": 1, "decode": 1, "evaluate": 1, "report": 1}
    (brought / "aside").rename(first)
    assert planned(folder, REPORT) == {}
    (brought / "msame.log").write_text(log)
    assert planned(folder, REPORT) == {"benchmark": 1, "report": 1}


def test_a_log_alone_may_be_brought(tmp_path):
    """The speed of a GPU for the eager network, whose accuracy is measured here."""
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    (folder / "config" / "backends").mkdir()
    gpu = {"title": "GPU", "family": "pytorch", "runs": "checkpoint"}
    (folder / "config" / "backends" / "gpu.yaml").write_text(yaml.safe_dump(gpu))
    (folder / "gpu.log").write_text("Test: [4490/5000]  Time: 0.976s (0.950s,    1.05/s)\n")
    configure(folder, backends=["gpu"], brought={"gpu": {"retinamask": {"log": "gpu.log"}}})
    assert planned(folder, REPORT)["infer"] == 2
    result = snakemake(folder, "--cores", "1", "results/retinamask/gpu/performance.json")
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "results/retinamask/gpu/performance.json").read_text())
    assert (found["fps"], found["fps_is"]) == (1.05, "of one GPU")
    assert not (folder / "results" / "retinamask" / "weights.safetensors").exists(), "nothing ran for the speed"


def test_other_devices_may_be_another_chip(server, tmp_path):
    """soc_version: auto compiles again for other devices; a named chip does not."""
    for name, ids, again in (("ascend310p", [0], True), ("ascend310", [0], False)):
        folder = tmp_path / name
        shutil.copytree(server, folder)
        path = folder / "config" / "backends" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"devices": ids}))
        assert ("compile" in planned(folder, REPORT)) is again


def test_what_is_brought_must_be_there(tmp_path):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    missing = {"ascend310": {"retinamask": {"outputs": "nosuch", "log": "nosuch.log"}}}
    configure(folder, backends=["ascend310"], brought=missing)
    result = snakemake(folder, "-n", REPORT)
    assert result.returncode == 2
    assert "brought.ascend310.retinamask" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("soc_version", "310P3", "soc_version"),
        ("atc", {"log": "warn"}, "atc.log: 'warn' is not known; expected one of debug, info, warning, error, null"),
        ("atc", {"presicion_mode": "force_fp16"}, "atc.presicion_mode: unknown key; did you mean 'precision_mode'?"),
        ("runner", {"tool": "trtexec"}, "runner.tool: 'trtexec' is not known"),
        ("devices", [], "devices"),
        ("session", {}, "session: unknown key; did you mean 'soc_version'?"),
    ],
)
def test_a_backend_is_checked_before_anything_runs(tmp_path, key, value, expected):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    own_backends(folder)
    path = folder / "config" / "backends" / "ascend310.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: value}))
    configure(folder, backends=["ascend310"])
    result = snakemake(folder, "-n", REPORT)
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr
