"""The simulator is as strict as the tools: options, exit statuses, names, files left behind."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from sim import ANNOUNCEMENT, device
from sim.operators import batch_multi_class_nms, non_max_suppression, psroi_pooling
from tiny import SIDE, simulated, tiny_graph

from detport import outputs
from detport.ascend import logs

GOOD = {
    "framework": "5",
    "model": "tiny.onnx",
    "output": "tiny",
    "input_format": "NCHW",
    "input_shape": "x:1,3,8,8",
    "log": "error",
    "soc_version": "Ascend310P3",
}


@pytest.fixture
def place(tmp_path) -> Path:
    onnx.save(tiny_graph(), tmp_path / "tiny.onnx")
    (tmp_path / "bins").mkdir()
    for name in ("2.bin", "10.bin", "a.b.bin"):
        np.full((3, SIDE, SIDE), len(name), np.float32).tofile(tmp_path / "bins" / name)
    return tmp_path


def run(place: Path, *command: str, **machine: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=place, env=simulated(**machine), capture_output=True, text=True, check=False)


def atc(place: Path, machine: dict | None = None, **options: str | None) -> subprocess.CompletedProcess:
    given = {name: value for name, value in (GOOD | options).items() if value is not None}
    return run(place, "atc", *(f"--{name}={value}" for name, value in given.items()), **(machine or {}))


def test_atc_builds_and_litters(place):
    done = atc(place)
    assert done.returncode == 0
    assert "ATC run success, welcome to the next use." in done.stdout
    assert ANNOUNCEMENT in done.stdout
    assert {"tiny.om", "kernel_meta", "fusion_result.json"} <= {path.name for path in place.iterdir()}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"framework": None}, "E10007"),
        ({"framework": "7"}, "E10007"),
        ({"model": None}, "E10004"),
        ({"model": "nosuch.onnx"}, "E10410"),
        ({"output": "folder/"}, "E10022"),
        ({"soc_version": "Ascend999"}, "E10001"),
        ({"log": "warn"}, "E10010"),
        ({"precision_mode": "fp16"}, "E10001"),
        ({"input_shape": "x:1x3x8x8"}, "E10002"),
        ({"input_shape": "y:1,3,8,8"}, "E10016"),
        ({"input_shape": "x:1,3,8"}, "E10049"),
        ({"input_shape": "x:1,3,0,8"}, "E10011"),
        ({"input_shape": "x:1,3,9,9"}, "E19999"),
        ({"out_nodes": "conv:1"}, "E10016"),
        ({"enable_small_channel": "2"}, "E10006"),
        ({"insert_op_conf": "nosuch.cfg"}, "E13001"),
        ({"dynamic_batch_size": "1,2", "dynamic_dims": "1;2"}, "E10009"),
        ({"dynamic_batch_size": "1,x"}, "E10003"),
        ({"save_original_model": "yes"}, "E10005"),
        ({"device_id": "300"}, "E10013"),
        ({"device_id": "first"}, "E10014"),
        ({"mode": "2"}, "E10014"),
        ({"output": "a" * 5000}, "E10021"),
        ({"framework": "0"}, "E10054"),
        ({"input_fp16_nodes": "y"}, "E10016"),
        ({"op_select_implmode": "high_precision_for_all"}, "E10001"),
        ({"optypelist_for_implmode": "Gelu"}, "E10001"),
        ({"auto_tune_mode": "AOE"}, "E10001"),
    ],
)
def test_atc_refuses_with_a_code(place, options, code):
    done = atc(place, **options)
    assert done.returncode == 255
    assert f"\n{code}: " in done.stdout
    assert "ATC run failed" in done.stdout
    assert "\n        Possible Cause: " in done.stdout and "\n        Solution: " in done.stdout
    assert not (place / "tiny.om").exists()


def test_atc_refuses_unknown_options_before_it_starts(place):
    done = atc(place, precision="fp16")
    assert done.returncode == 1
    assert "unknown command line flag 'precision'" in done.stderr
    assert "ATC start" not in done.stdout


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("aipp_op { aipp_mode: static input_format: RGB888_U8 min_chn_0: 1.5 }", True),
        ("aipp_op { aipp_mode: static input_format: RGB888_U8 mean_chn_0: 1.5 }", False),
        ("aipp_op { aipp_mode: static input_format: RGB888_U8 min_chn_0: much }", False),
        ("aipp_op { aipp_mode: static input_format: RGB888_U8 mean_0: 1 }", False),
        ("aipp_op { aipp_mode: static input_format: RGB888_U8 src_image_size_w: 9 }", False),
        ("aipp { aipp_mode: static }", False),
    ],
)
def test_atc_reads_aipp_files(place, text, fits):
    (place / "aipp.cfg").write_text(text)
    done = atc(place, insert_op_conf="aipp.cfg")
    assert (done.returncode == 0) == fits
    assert ("E10052" in done.stdout) != fits


def test_newer_toolkits_differ(place):
    graph = tiny_graph()
    graph.opset_import[0].version = 14
    onnx.save(graph, place / "tiny.onnx")
    assert "E19010" in atc(place).stdout
    assert atc(place, {"cann": "7.0.0"}).returncode == 0
    done = atc(place, {"cann": "7.0.0"}, auto_tune_mode="RL,GA").stdout
    assert "AOE" in done
    assert re.search(r"^E10001: \[PID: \d+\] \d{4}-\d\d-\d\d-[\d:.]+ ", done, re.MULTILINE)
    assert atc(place, {"cann": "7.0.0"}, op_select_implmode="high_precision_for_all").returncode == 0
    assert atc(place, {"cann": "7.0.0"}, precision_mode_v2="origin").returncode == 0
    both = atc(place, {"cann": "7.0.0"}, precision_mode_v2="origin", precision_mode="force_fp16")
    assert "exclude each other" in both.stdout


@pytest.mark.parametrize(("version", "cann", "parsed"), [(8, "5.0.4", False), (9, "5.0.4", True), (18, "7.0.0", False)])
def test_opsets_have_limits(place, version, cann, parsed):
    """9 to 13, or to 18; PSROIPooling up to 16 all the same."""
    graph = tiny_graph()
    graph.opset_import[0].version = version
    if version == 18:
        graph.graph.node.append(helper.make_node("PSROIPooling", ["maps", "x"], ["y"], name="pool"))
    onnx.save(graph, place / "tiny.onnx")
    assert ("E19010" not in atc(place, {"cann": cann}).stdout) is parsed


def test_atc_helps_and_remarks(place):
    done = run(place, "atc", "--help")
    assert done.returncode == 1
    assert done.stdout.startswith("ATC start working now") and "  --soc_version\n" in done.stdout
    last = atc(place).stdout.splitlines()[-1]
    assert last.startswith("W11001: Op [") and last.endswith("which might result in compromised performance.")


def test_what_the_simulator_does_not_do_it_says(place):
    """Never a traceback, never something else in silence."""
    assert atc(place).returncode == 0
    model = ["--model", "tiny.om"]
    for command in (
        ["python", "-m", "ais_bench", *model, "--dymBatch", "2"],
        ["python", "-m", "ais_bench", *model, "--device", "0,1"],
        ["python", "-m", "ais_bench", *model, "--output", ".", "--profiler", "1"],
        ["msame", *model, "--dymBatch", "2"],
        ["msame", *model, "--profiler", "true"],
        ["msame", *model, "--input", "bins,bins"],
        ["benchmark.x86_64", "-om_path=tiny.om", "-useDvpp=True"],
        ["atc", *(f"--{name}={value}" for name, value in GOOD.items()), "--dynamic_batch_size=1,2"],
    ):
        done = run(place, *command)
        assert done.returncode != 0, command
        assert "[ERROR] the simulator does not" in done.stdout, command
        assert "Traceback" not in done.stderr, command


def test_two_domains_and_short_suppression_fail(place):
    graph = tiny_graph()
    graph.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(graph, place / "tiny.onnx")
    assert "E16005: The model has [2] [--domain_version] fields" in atc(place).stdout
    graph = tiny_graph()
    graph.graph.node.append(helper.make_node("NonMaxSuppression", ["x", "x", "flat"], ["y"]))
    onnx.save(graph, place / "tiny.onnx")
    assert atc(place).returncode == 139


def test_msame_exits_with_0_on_mistakes(place):
    atc(place)
    for arguments in (
        ["--nosuch", "1"],
        ["--help", "1"],
        ["--model", "tiny.onnx"],
        ["--model", "tiny.om", "--loop", "0"],
        ["--model", "tiny.om", "--loop", "many"],
        ["--model", "tiny.om", "--device", "256"],
        ["--model", "tiny.om", "--dymBatch", "1", "--dymHW", "8,8"],
        ["--model", "tiny.om", "--profiler", "true", "--dump", "true"],
    ):
        assert run(place, "msame", *arguments).returncode == 0
    assert run(place, "msame", "--model", "tiny.om", "--input", "nosuch").returncode == 0
    assert run(place, "msame").returncode == 1
    assert run(place, "msame", "--model", "nosuch.om").returncode == 1


def test_names_and_numbers_of_each_tool(place):
    """The last dot or the first, from 0 or from 1."""
    atc(place)
    run(place, "msame", "--model", "tiny.om", "--input", "bins", "--output", "out")
    names = {path.name for path in next((place / "out").iterdir()).iterdir()}
    assert {"a.b_output_0.bin", "2_output_2.bin"} <= names and len(names - {"SIMULATOR"}) == 9
    run(
        place,
        "python",
        "-m",
        "ais_bench",
        "--model",
        "tiny.om",
        "--input",
        "bins",
        "--output",
        ".",
        "--output_dirname",
        "r",
    )
    names = {path.name for path in (place / "r").iterdir()}
    assert {"a_0.bin", "2_2.bin"} <= names and len(names - {"SIMULATOR"}) == 9
    assert (place / "r_summary.json").exists()
    info = "".join(f"{i} bins/{name} 8 8\n" for i, name in enumerate(("2.bin", "10.bin", "a.b.bin")))
    (place / "all.info").write_text(info)
    benchmark = ["benchmark.x86_64", "-model_type=vision", "-om_path=tiny.om", "-input_text_path=all.info"]
    done = run(place, *benchmark, "-output_binary=True", "-batch_size=1", "-device_id=1")
    assert "[inference] throughputRate:" in done.stdout
    names = {path.name for path in (place / "result" / "dumpOutput_device1").iterdir()}
    assert {"a.b_1.bin", "2_3.bin"} <= names and len(names - {"SIMULATOR"}) == 9
    lines = (place / "result" / "perf_vision_batchsize_1_device_1.txt").read_text().splitlines()
    assert [line.split("]")[0] for line in lines] == [
        *("[e2e", "[data read", "[preprocess", "[inference", "[postprocess", ANNOUNCEMENT[:-1])
    ]


def test_whatever_a_simulator_leaves_says_so(place):
    """Figures and outputs that are carried to another machine without what was printed."""
    atc(place)
    (place / "one.info").write_text("0 bins/2.bin 8 8\n")
    benchmark = ["benchmark.x86_64", "-om_path=tiny.om"]
    run(place, *benchmark, "-input_text_path=one.info")
    run(place, *benchmark, "-round=2")
    run(place, "msame", "--model", "tiny.om", "--input", "bins", "--output", "out")
    ais_bench = ["--model", "tiny.om", "--input", "bins", "--output", ".", "--output_dirname", "r"]
    run(place, "python", "-m", "ais_bench", *ais_bench)
    for figures in (place / "result").glob("*.txt"):
        assert logs.parse(figures.read_text(), 1)["simulator"], figures
    for folder in (place / "result" / "dumpOutput_device0", next((place / "out").iterdir()), place / "r"):
        assert outputs.simulated(folder), folder


def test_ais_bench_knows_the_options_of_its_time(place):
    atc(place)
    command = ["python", "-m", "ais_bench", "--model", "tiny.om"]
    assert run(place, *command, "--infer_queue_count", "1", era="2022-09").returncode == 0
    assert run(place, *command, "--infer_queue_count", "1").returncode == 2
    assert run(place, *command, "--output_dirname", "r").returncode == 2
    for old in (["--device_id", "0"], ["-r", "1"]):
        assert run(place, *command, *old, era="2022-11").returncode == 0, old
        assert run(place, *command, *old).returncode == 2, old
    assert run(place, "python", "-m", "ais_bench", "--om", "tiny.om").returncode == 2
    for new in (["--threads", "1"], ["--pipeline", "0"], ["--aipp_config", ""]):
        assert run(place, *command, *new).returncode == 2, new
    assert run(place, *command, "--threads", "1", "--pipeline", "0", era="2024-09").returncode == 0
    for wrong in (
        *(["--profiler", "1"], ["--dump", "1"], ["--output", ".", "--profiler", "1", "--dump", "1"]),
        *(["--device", "300"], ["--device", "a"], ["--loop", "0"]),
    ):
        done = run(place, *command, *wrong)
        assert done.returncode == 2 and "usage:" in done.stderr, wrong
    done = run(place, *command, "--input", "bins", chips="310x1")
    assert done.returncode == 1
    assert "load model from file failed" in done.stdout and "ACL:invalid parameter" in done.stderr


def test_ais_bench_takes_a_list_of_files_and_tells_of_each(place):
    atc(place)
    command = ["python", "-m", "ais_bench", "--model", "tiny.om", "--output", ".", "--output_dirname", "r"]
    done = run(place, *command, "--input", "bins/10.bin,bins/2.bin")
    assert done.returncode == 0, done.stdout + done.stderr
    stated = json.loads((place / "r_summary.json").read_text())
    assert stated["filesinfo"]["0"]["infiles"] == ["bins/10.bin"]
    assert stated["filesinfo"]["1"]["outfiles"] == ["r/2_0.bin", "r/2_1.bin", "r/2_2.bin"]
    for times in ("NPU_compute_time", "H2D_latency", "D2H_latency"):
        assert stated[times].keys() == {"min", "max", "mean", "median", "percentile(99%)", "count"}
    assert stated["NPU_compute_time"]["count"] == 2 and stated["pid"] > 0
    for wrong in ("nosuch", "bins/nosuch.bin", "result_of_nothing"):
        done = run(place, *command, "--input", wrong)
        assert (done.returncode, "does not exist" in done.stdout) == (1, True)


def test_npu_smi_in_its_other_forms(place):
    machine = {"chips": "310x4,310P3x1"}
    cards = run(place, "npu-smi", "info", "-l", **machine).stdout
    assert "Total Count                    : 2" in cards and "Chip Count                     : 4" in cards
    chips = run(place, "npu-smi", "info", "-m", **machine).stdout.splitlines()
    rows = [line.split() for line in chips if line.startswith("\t")]
    assert rows[0] == ["NPU", "ID", "Chip", "ID", "Chip", "Logic", "ID", "Chip", "Name"]
    assert rows[1] == ["0", "0", "0", "Ascend", "310"] and rows[5] == ["0", "4", "-", "Mcu"]
    board = run(place, "npu-smi", "info", "-t", "board", "-i", "1", "-c", "0", **machine).stdout
    assert "Chip Name                      : 310P3" in board
    assert run(place, "npu-smi", "info", "-t", "board", **machine).returncode == 1
    assert run(place, "npu-smi", "info", "--nosuch", **machine).returncode == 1
    table = run(place, "npu-smi", "info", **machine, busy="4").stdout
    assert "No running processes found in NPU 0" in table
    assert re.search(r"\| 1       0 +\| 1234 +\| python", table)
    assert "Process" not in run(place, "npu-smi", "info", chips="310x4").stdout, "not with driver 21"


def test_builds_of_2024_refuse_what_others_may_write(place):
    atc(place)
    command = ["python", "-m", "ais_bench", "--model", "tiny.om", "--input", "bins"]
    (place / "bins" / "2.bin").chmod(0o666)
    assert run(place, *command).returncode == 0
    assert run(place, *command, era="2024-09").returncode == 1


def test_benchmark_wants_the_batch_of_the_model(place):
    atc(place)
    done = run(place, "benchmark.x86_64", "-om_path=tiny.om", "-batch_size=2", "-round=3")
    assert "input size error" in done.stdout
    assert not (place / "result").exists()


def test_matrix_operators_round_to_float16():
    model = device.lower(tiny_graph(), "force_fp16")
    assert [node.op_type for node in model.graph.node][:3] == ["Conv", "Cast", "Cast"]
    weights = numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(weights, weights.astype(np.float16).astype(np.float32))
    assert [n.op_type for n in device.lower(tiny_graph(), "force_fp32").graph.node][:2] == ["Conv", "ArgMax"]


def test_own_suppression_is_that_of_onnx():
    """Where ONNX Runtime has the operator, ours agrees; the rest of the fixed size is -1."""
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 40, (1, 60, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.integers(4, 20, (1, 60, 2))], -1).astype(np.float32)
    scores = rng.permutation(60).reshape(1, 1, 60).astype(np.float32) / 60
    limits = [np.array([20], np.int64), np.array([0.5], np.float32), np.array([0.1], np.float32)]
    node = helper.make_node("NonMaxSuppression", ["b", "s", "m", "i", "t"], ["y"])
    values = [
        helper.make_tensor_value_info("b", TensorProto.FLOAT, boxes.shape),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, scores.shape),
    ]
    constants = [numpy_helper.from_array(value, name) for value, name in zip(limits, "mit", strict=True)]
    output = helper.make_tensor_value_info("y", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", values, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"b": boxes, "s": scores})[0]
    found = non_max_suppression([boxes, scores, *limits], {})[0]
    assert found.shape == (20, 3)
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert (found[len(expected) :] == -1).all()


def test_batch_multi_class_nms_by_hand():
    boxes = np.array([[[0, 0, 10, 10]], [[0, 0, 10, 9]], [[20, 20, 30, 30]], [[5, 5, 5, 9]]], np.float32)[None]
    scores = np.array([[0.9, 0.2], [0.8, 0.0], [0.3, 0.7], [1.0, 1.0]], np.float32)[None]
    limits = {"score_threshold": 0.25, "iou_threshold": 0.6, "max_size_per_class": 2, "max_total_size": 4}
    found = batch_multi_class_nms([boxes, scores], limits)
    assert found[3].tolist() == [3]
    np.testing.assert_allclose(found[1][0], [0.9, 0.7, 0.3, 0], atol=1e-3)
    assert found[2][0].tolist() == [0, 1, 0, 0]
    assert found[0][0].tolist() == [[0, 0, 10, 10], [20, 20, 30, 30], [20, 20, 30, 30], [0, 0, 0, 0]]


def test_batch_multi_class_nms_with_a_window_and_a_count():
    boxes = np.array([[[0, 0, 10, 10]], [[20, 20, 30, 30]], [[40, 40, 50, 50]]], np.float32)[None]
    scores = np.array([[0.9], [0.8], [0.7]], np.float32)[None]
    limits = {"score_threshold": 0.25, "iou_threshold": 0.6, "max_size_per_class": 3, "max_total_size": 3}
    window, valid = np.array([[0, 0, 25, 25]], np.float32), np.array([2], np.int32)
    cut = batch_multi_class_nms([boxes, scores, window], limits)
    assert cut[0][0].tolist() == [[0, 0, 10, 10], [20, 20, 25, 25], [0, 0, 0, 0]]
    few = batch_multi_class_nms([boxes, scores, None, valid], limits)
    assert few[3].tolist() == [2] and few[0][0, 1].tolist() == [20, 20, 30, 30]


def test_psroi_pooling_by_hand():
    """Two by two bins over a map of 4 x 4 cells of 16 pixels: each bin reads its own channel."""
    maps = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1) + np.zeros((1, 4, 4, 4), np.float32)
    rois = np.array([[0, 0, 0, 63, 63], [0, 200, 200, 210, 210]], np.float32).T[None]
    found = psroi_pooling([maps, rois], {"output_dim": 1, "group_size": 2, "spatial_scale": 1 / 16})[0]
    assert found[0, 0].tolist() == [[0, 1], [2, 3]]
    assert not found[1].any(), "outside the map"
