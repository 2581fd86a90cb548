"""A shard through each runner: the same outputs from all, and a failure whenever one is missing."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import SIDE

from detport import made, outputs
from detport.ascend import npu
from detport.backends import ascend as backend_ascend
from detport.compilers import ascend as compiler
from detport.errors import Failure, UsageError

COUNT = 11  # more than ten, so that names sorted as text and as numbers differ


@pytest.fixture
def inputs(tmp_path) -> list[tuple[dict, Path]]:
    """Images whose names are hard on tools: dots, spaces, one name that is another's with an ending."""
    names = ["a.b.bin", "a.c.bin", "a_output.bin", "a.bin", "with space.bin", "x'y$.bin", "é.bin"]
    names += [f"{i}.bin" for i in range(COUNT - len(names))]
    rng = np.random.default_rng(1)
    found = []
    (tmp_path / "shard").mkdir()
    for name in names:
        path = tmp_path / "shard" / name
        rng.standard_normal((3, SIDE, SIDE), dtype=np.float32).tofile(path)
        found.append(({"file": f"{name}.jpg", "bin": name, "bytes": path.stat().st_size}, path))
    return found


@pytest.fixture
def infer(tools, graph, model, backend, inputs, tmp_path):
    """Compiles the tiny network, runs all images, and gives their outputs by file."""

    def run(
        build: dict | None = None, fail: str = "", stall_minutes: float = 60, **keys
    ) -> dict[str, list[np.ndarray]]:
        machine = build or {}
        tools(**machine)
        own = backend(**keys)
        compiled = tmp_path / "model.om"
        compiler.compile_model(graph, model, own, compiled)
        if fail:
            tools(fail=fail, **machine)
        own["stall_minutes"] = stall_minutes
        found = {}
        (tmp_path / "place").mkdir(exist_ok=True)
        backend_ascend.infer(
            compiled, model, own, inputs, lambda i, a: found.update({i["file"]: a}), tmp_path / "place", 1
        )
        assert list((tmp_path / "place").iterdir()) == [], "nothing is left of the tool's folder"
        return found

    return run


RUNNERS = [
    ("2023-06", {"tool": "ais_bench"}),
    ("2024-09", {"tool": "ais_bench"}),
    ("2023-06", {"tool": "ais_bench", "outfmt": "TXT"}),
    (
        "2022-06",
        {
            "tool": "ais_bench",
            "names": "sample_id",
            "command": ["python", str(Path(__file__).parent / "bin" / "ais_infer.py")],
        },
    ),
    ("2022-07", {"tool": "ais_bench", "names": "input"}),
    ("2022-11", {"tool": "ais_bench"}),
    ("2023-06", {"tool": "msame"}),
    ("2023-06", {"tool": "msame", "outfmt": "TXT"}),
    ("2023-06", {"tool": "benchmark"}),
]


@pytest.mark.parametrize(("era", "runner"), RUNNERS)
@pytest.mark.parametrize("cann", ["5.0.4", "6.0.RC1"])
def test_every_runner_gives_the_same_outputs(infer, inputs, model, era, runner, cann):
    """Whatever the names, the numbering, the order of the outputs, their form; every image gets its own."""
    found = infer({"era": era, "cann": cann}, runner=runner, cann=cann)
    assert list(found) == [image["file"] for image, _ in inputs]
    digits = 1e-4 if runner.get("outfmt") == "TXT" else 1e-7
    for image, path in inputs:
        scores, best, maps = found[image["file"]]
        assert [list(a.shape) for a in found[image["file"]]] == [entry["shape"] for entry in model["outputs"]]
        assert [str(a.dtype) for a in found[image["file"]]] == [entry["dtype"] for entry in model["outputs"]]
        np.testing.assert_allclose(scores[0], maps[0].reshape(2, -1).max(0), atol=digits, rtol=digits)
        apart = np.abs(maps[0, 0] - maps[0, 1]).ravel() > 1e-2
        assert (best[0] == maps[0].reshape(2, -1).argmax(0))[apart].all()
        assert maps[0] == pytest.approx(convolved(path), abs=2e-2), "float16 and no other image's"


def convolved(path: Path) -> np.ndarray:
    """What the tiny network makes of an image, computed here."""
    image = np.pad(np.fromfile(path, np.float32).reshape(3, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    weights = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
    return np.einsum("chwij,kcij->khw", windows, weights)


@pytest.mark.parametrize("tool", ["ais_bench", "msame", "benchmark"])
@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        ("missing:000003", r"'a\.bin\.jpg'.*0 of 3 outputs are in"),
        ("short:000003", r"'a\.bin\.jpg'.*no file has the 256 bytes"),
        ("full_disk", r"'a\.b\.bin\.jpg'.*no file has the 256 bytes"),
    ],
)
def test_a_lost_output_names_its_image(infer, tool, fail, expected):
    with pytest.raises(Failure, match=expected):
        infer(fail=fail, runner={"tool": tool})


@pytest.mark.parametrize("tool", ["ais_bench", "msame", "benchmark"])
def test_a_model_for_another_chip_is_explained(infer, tool):
    with pytest.raises(Failure, match=r"is the \.om built for this chip|was built for Ascend310P3"):
        infer(fail="wrong_soc", runner={"tool": tool})


@pytest.mark.parametrize("tool", ["ais_bench", "msame", "benchmark"])
def test_a_runner_that_says_nothing_for_too_long_is_ended(infer, tmp_path, tool):
    with pytest.raises(Failure, match=r"said nothing for 0\.02 minutes after '\[SIMULATOR\] .*raise stall_minutes"):
        infer(fail="hang", stall_minutes=0.02, runner={"tool": tool})
    assert list((tmp_path / "place").iterdir()) == []


@pytest.mark.parametrize("tool", ["ais_bench", "msame", "benchmark"])
def test_a_runner_that_was_killed_is_out_of_memory_most_likely(infer, tool):
    with pytest.raises(Failure, match=r"was killed; mostly for memory: run fewer jobs at once \(--cores\)"):
        infer(fail="killed", runner={"tool": tool})


@pytest.mark.parametrize("tool", ["ais_bench", "msame", "benchmark"])
def test_a_device_that_is_not_there_is_explained(infer, tool):
    with pytest.raises(Failure, match="open device 7 failed"):
        infer(runner={"tool": tool}, devices=[7], soc_version="Ascend310P3")


def test_a_runner_that_is_not_there_is_named(infer):
    with pytest.raises(UsageError, match=r"nosuchtool: .*set runner\.command in the backend's yaml"):
        infer(runner={"tool": "msame", "command": ["nosuchtool"]})


def test_ais_bench_without_its_wheels(infer):
    with pytest.raises(UsageError, match="No module named nosuchmodule; install the wheels aclruntime and ais_bench"):
        infer(runner={"tool": "ais_bench", "command": ["python", "-m", "nosuchmodule"]})


def test_text_from_benchmark_is_refused(infer):
    with pytest.raises(UsageError, match="TXT loses integers with benchmark"):
        infer(runner={"tool": "benchmark", "outfmt": "TXT"})


def test_inputs_that_others_may_write_are_copied(infer, inputs):
    """Builds of 2024 refuse them; the shard itself is left as it is."""
    for _, path in inputs:
        path.chmod(0o666)
    assert len(infer({"era": "2024-09"})) == COUNT
    assert inputs[0][1].stat().st_mode & 0o777 == 0o666


def test_a_device_is_free_again_as_soon_as_the_tool_has_ended(
    tools, graph, model, backend, inputs, tmp_path, monkeypatch
):
    """While outputs are written the next job has it; the record tells when this one had."""
    monkeypatch.setattr(made, "DEVICES", {})
    compiler.compile_model(graph, model, backend(), tmp_path / "model.om")
    free = []

    def write(*_: object) -> None:
        lock = npu.open_lock(0)
        free.append(npu.locked(lock, wait=False))
        os.close(lock)

    begin = time.time()
    backend_ascend.infer(tmp_path / "model.om", model, backend(), inputs, write, tmp_path, 1)
    assert free and all(free)
    (((began, seconds),),) = made.DEVICES.values()
    assert begin - 0.01 <= began <= began + seconds <= time.time() + 0.01


def test_a_shard_that_is_cut_is_named(infer, inputs):
    inputs[2][1].write_bytes(b"123")
    with pytest.raises(Failure, match=r"'a_output\.bin\.jpg'.*make the shard again"):
        infer()


@pytest.mark.parametrize(("tool", "runs"), [("ais_bench", None), ("msame", 2), ("benchmark", 2)])
def test_speed_is_the_tools_own(tools, graph, model, backend, tmp_path, tool, runs):
    tools(chips="310x4")
    own = backend(
        runner={"tool": tool}, devices=[0, 1, 2, 3], devices_per_card=4, soc_version="Ascend310", cann="5.0.4"
    )
    compiler.compile_model(graph, model, own, tmp_path / "model.om")
    found = backend_ascend.measure(tmp_path / "model.om", model, own, threads=1)
    assert found["simulator"], "a simulator's figures are never taken for a device's"
    assert found["fps"] == pytest.approx(4 * found["fps_per_device"], abs=1e-3)
    assert found["fps_card_measured"] > 0
    assert "4 devices at work at the same time" in found["fps_card_measured_is"]
    assert found["machine"]["chip"] == "Ascend310"
    assert backend_ascend.versions(tmp_path / "model.om") == {"CANN": "5.0.4"}
    assert found["runs"] == runs
    assert found["latency_ms"]["mean"] == pytest.approx(1000 / found["fps_per_device"], rel=1e-3)
    assert not list(tmp_path.glob(".speed*"))
    json.dumps(found)


def test_an_om_whose_description_is_broken_or_gone(tmp_path):
    om = tmp_path / "model.om"
    assert backend_ascend.versions(om) == {"CANN": "not known"}
    for text in ("{", "[]", '{"cann": "7.0.0"}'):
        (tmp_path / "model.om.json").write_text(text)
        with pytest.raises(Failure, match=r"model\.om\.json: not what compile\.py writes .*compile again"):
            backend_ascend.versions(om)


def test_a_tool_that_says_nothing_of_its_speed_has_failed(tools, graph, model, backend, tmp_path):
    own = backend(runner={"tool": "msame", "command": ["echo"]}, soc_version="Ascend310P3")
    compiler.compile_model(graph, model, own, tmp_path / "model.om")
    with pytest.raises(Failure, match="says nothing of its speed"):
        backend_ascend.measure(tmp_path / "model.om", model, own, threads=1)


def test_a_measurement_that_says_nothing_for_too_long_is_ended(tools, graph, model, backend, tmp_path):
    own = backend(runner={"tool": "msame"}, devices=[0, 1], stall_minutes=0.02)
    compiler.compile_model(graph, model, own, tmp_path / "model.om")
    tools(fail="hang")
    with pytest.raises(Failure, match=r"msame said nothing for 0\.02 minutes"):
        backend_ascend.measure(tmp_path / "model.om", model, own, threads=1)


def test_large_indices_are_integers(tmp_path):
    """EfficientDet-D7's go up to 39,774,239, which as a float is next to nothing."""
    contract = [
        {"name": "logits", "shape": [1, 4], "dtype": "float32"},
        {"name": "index", "shape": [1, 4], "dtype": "int32"},
    ]
    index, logits = np.array([39_774_239, 0, 7, 8_388_609], np.int32), np.array([-1e-3, 2, 0, 4], np.float32)
    for first, second in ((index, logits), (logits, index)):
        first.tofile(tmp_path / "s_0.bin")
        second.tofile(tmp_path / "s_1.bin")
        read = outputs.read(tmp_path, "s", "{stem}_{i}.bin", contract, "s.jpg")
        np.testing.assert_array_equal(read["index"][0], index)
        np.testing.assert_array_equal(read["logits"][0], logits)
