"""What the four guides do by hand: their command lines, word by word, and the figures of their logs."""

import shlex

import pytest
import yaml

from detport import config
from detport.ascend import atc, logs, preflight, runners

# The guides' commands as printed, with the chip's name filled in.
ATC = {
    "retinamask": (
        'atc --framework=5 --model="./retinamask_cast.onnx" --output="./retinamask" --input_format=NCHW'
        ' --input_shape="input:1,3,1344,1344" --log=error --soc_version=Ascend310P3'
    ),
    "efficientdet_d7": (
        "atc --framework=5 --model=./model/d7_bs1_modify.onnx --output=./model/d7_bs1 --input_format=NCHW"
        ' --input_shape="x.1:1,3,1536,1536" --log=debug --soc_version=Ascend310'
    ),
    "gfocalv2": (
        "atc --framework=5 --model=./gfocal.onnx --output=gfocal_bs1 --input_format=NCHW"
        ' --input_shape="input.1:1,3,800,1216" --log=debug --soc_version=Ascend310P3'
    ),
    "rfcn": (
        "atc --framework=5 --model=./rfcn_final.onnx --output=rfcn --input_format=NCHW"
        ' --input_shape="im_data:1,3,1344,1344" --log=debug --soc_version=Ascend310'
    ),
}
CHIPS = {"retinamask": "Ascend310P3", "efficientdet_d7": "Ascend310", "gfocalv2": "Ascend310P3", "rfcn": "Ascend310"}
# Options that our graph needs and the guide's does not: its outputs are compact, two of them equally long. With the
# guide's own outputs there are none, see test_the_raw_contract_needs_no_more_options.
MORE = {"efficientdet_d7": {"out_nodes"}}
# Values that are paths: the guides' file names are not ours.
PATHS = {"model", "output", "om_path", "input_text_path", "input"}


def options(command: str | list[str]) -> dict[str, str]:
    """Value by name, of --name=value and --name value, with one dash or two."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    found, words = {}, words[next(i for i, word in enumerate(words) if word.startswith("-") and word != "-m") :]
    while words:
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        found[name] = value if equals else words.pop(0)
    return found


def without_paths(found: dict[str, str]) -> dict[str, str]:
    return {name: "a path" if name in PATHS else value for name, value in found.items()}


@pytest.mark.parametrize("name", ATC)
def test_atc_is_told_what_the_guide_tells_it(name):
    backend = config.load_backend(config.ROOT / "config" / "backends" / "ascend310p.yaml")
    model = config.load_model(config.ROOT / "config" / "models" / f"{name}.yaml", "compile", backend)
    ours = options(atc.command(model, CHIPS[name], atc.merged(model, backend)))
    guide = options(ATC[name])
    assert ours.keys() - guide.keys() == MORE.get(name, set())
    assert without_paths({key: ours[key] for key in guide}) == without_paths(guide)
    assert list(ours)[: len(guide)] == list(guide), "in the guide's order, too"


def test_retinamask_with_the_guides_contract_is_compiled_by_the_guides_line(tmp_path):
    """The test above is of the published yaml, whose contract is compact; outputs make no difference to the line."""
    published = (config.ROOT / "config" / "models" / "retinamask.yaml").read_text()
    (tmp_path / "compact.yaml").write_text(published)
    (tmp_path / "retinamask_cast.yaml").write_text("base: compact\nnetwork: {contract: guide}\n")
    backend = config.load_backend(config.ROOT / "config" / "backends" / "ascend310p.yaml")
    model = config.load_model(tmp_path / "retinamask_cast.yaml", "compile", backend)
    assert model["outputs"][-1]["shape"] == [1000, 1, 28, 28]
    assert preflight.same_bytes(model, atc.merged(model, backend)) == []
    ours = options(atc.command(model, CHIPS["retinamask"], atc.merged(model, backend)))
    assert list(without_paths(ours).items()) == list(without_paths(options(ATC["retinamask"])).items())


RAW_SIDES = (192, 96, 48, 24, 12)
RAW = [(f"class_p{level}", 810, side) for level, side in enumerate(RAW_SIDES, 3)]
RAW += [(f"box_p{level}", 36, side) for level, side in enumerate(RAW_SIDES, 3)]


def test_the_raw_contract_needs_no_more_options(tmp_path):
    """With the guide's ten outputs, EfficientDet-D7's line is the guide's and nothing else."""
    text = yaml.safe_load((config.ROOT / "config" / "models" / "efficientdet_d7.yaml").read_text())
    text["network"]["contract"] = "raw"
    text["outputs"] = [{"name": name, "shape": [1, deep, side, side], "dtype": "float32"} for name, deep, side in RAW]
    del text["compile"]["ascend"]["out_nodes"]
    (tmp_path / "d7_bs1_modify.yaml").write_text(yaml.safe_dump(text))
    backend = config.load_backend(config.ROOT / "config" / "backends" / "ascend310.yaml")
    model = config.load_model(tmp_path / "d7_bs1_modify.yaml", "compile", backend)
    assert preflight.same_bytes(model, atc.merged(model, backend)) == [], "sizes alone tell the ten apart"
    ours = atc.command(model, "Ascend310", atc.merged(model, backend))
    guide = shlex.split(ATC["efficientdet_d7"])
    assert ours[0] == guide[0] == "atc"
    assert list(without_paths(options(ours)).items()) == list(without_paths(options(guide)).items())


def backend_of(tool: str, **runner: str) -> dict:
    return {"name": "x", "runner": {"tool": tool, "outfmt": "BIN", "names": "stem"} | runner, "devices": [0]}


# tool, runner's keys, network side, device, the guide's command for a dataset. The two guides with benchmark name
# batch and device in another order; ours is that of the second.
SWAPPED = ("batch_size", "device_id")
INFERENCE = [
    (
        *("ais_bench", {}, 1344, 0),
        "python -m ais_bench --model retinamask.om --input bins --output ./ --outfmt BIN --batchsize 1"
        " --output_dirname result",
    ),
    (
        *("msame", {"command": ["./tools/msame/out/msame"], "outfmt": "TXT"}, 1216, 0),
        './tools/msame/out/msame --model "./gfocal_bs1.om" --input "./val2017_bin" --output "./out/" --outfmt TXT',
    ),
    (
        *("benchmark", {"command": ["./benchmark.x86_64"]}, 1536, 1),
        "./benchmark.x86_64 -model_type=vision -batch_size=1 -device_id=1 -om_path=./model/d7_bs1.om"
        " -input_text_path=d7_bin.info -input_width=1536 -input_height=1536 -output_binary=True -useDvpp=False",
    ),
    (
        *("benchmark", {"command": ["./benchmark.x86_64"]}, 1344, 0),
        "./benchmark.x86_64 -model_type=vision -device_id=0 -batch_size=1 -om_path=rfcn.om"
        " -input_text_path=./demo.info -input_width=1344 -input_height=1344 -output_binary=True -useDvpp=False",
    ),
]


@pytest.mark.parametrize(("tool", "runner", "side", "device", "guide"), INFERENCE)
def test_runners_are_told_what_the_guide_tells_them(tool, runner, side, device, guide):
    size = {"width": side, "height": side}
    ours = runners.inference_command(backend_of(tool, **runner), "name", size, device)
    assert without_paths(options(ours) | {"output": ""}) == without_paths(options(guide) | {"output": ""})
    words = shlex.split(guide)
    assert ours[0].split("/")[-1] == words[0].split("/")[-1]
    order, wanted = list(options(ours)), list(options(guide))
    if tuple(name for name in wanted if name in SWAPPED) == SWAPPED:
        wanted = [{"batch_size": "device_id", "device_id": "batch_size"}.get(name, name) for name in wanted]
    assert order == wanted


def test_speed_is_asked_for_as_the_guides_do():
    ais_infer = backend_of("ais_bench", command=["python", "ais_infer.py"]) | {"loop": 100}
    ours = runners.speed_command(ais_infer, "retinamask", 0)
    assert ours == shlex.split("python ais_infer.py --model ./retinamask.om --loop 100 --batchsize 1")
    pure = runners.speed_command(backend_of("benchmark") | {"loop": 20}, "m", 0)
    assert pure[1:] == ["-round=20", "-om_path=m.om", "-batch_size=1", "-device_id=0"]


# The lines of the guides and the figures that they publish with them.
D7 = """[INFO] PureInfer result saved in ./result/PureInfer_perf_of_d7_bs1_modify_in_device_1.txt
-----------------PureInfer Performance Summary------------------
[INFO] ave_throughputRate: 1.50578samples/s, ave_latency: 664.142ms
"""
D7_GPU = """Test: [4470/5000]  Time: 0.958s (0.950s,    1.05/s)
Test: [4480/5000]  Time: 0.978s (0.950s,    1.05/s)
Test: [4490/5000]  Time: 0.976s (0.950s,    1.05/s)
"""
GFOCAL_310 = """Inference average time : 223.21ms
Inference average time without first time : 223.22ms
"""
GFOCAL_310P = """Inference average time : 28.99ms
Inference average time without first time : 28.99ms
"""
RFCN = "[inference] Interface throughputRate: 1.23284\n"
LINES = [
    (D7, "benchmark, pure inference", 1.50578, 664.142, None),
    (D7_GPU, "validate.py on a GPU", 1.05, 950, 4491),
    (GFOCAL_310, "msame", 1000 / 223.21, 223.21, None),
    (GFOCAL_310P, "msame", 1000 / 28.99, 28.99, None),
    (RFCN, "benchmark, dataset", 1.23284, 1000 / 1.23284, None),
]


@pytest.mark.parametrize(("text", "tool", "fps", "latency", "runs"), LINES)
def test_the_guides_lines_give_their_figures(text, tool, fps, latency, runs):
    found = logs.parse(text, batch=1)
    assert found["tool"] == tool
    assert found["fps"] == pytest.approx(fps, abs=1e-9)
    assert found["latency_ms"]["mean"] == pytest.approx(latency)
    assert found["runs"] == runs
    assert not found["simulator"]
    assert all(line in text for line in found["lines"])


def card(text: str, devices: int, family: str = "ascend") -> float:
    return logs.performance(text, {"name": "x", "family": family, "devices_per_card": devices})["fps"]


def test_the_guides_arithmetic_comes_out():
    """Every product and ratio that a guide states, from its own lines; to its own digits."""
    d7, d7_gpu = card(D7, 4), card(D7_GPU, 1, "pytorch")
    assert (round(d7, 2), d7_gpu) == (6.02, 1.05)
    assert d7 > d7_gpu, "the guide's comparison: 1.50*4>1.05"
    old, new = card(GFOCAL_310, 4), card(GFOCAL_310P, 1)
    assert (round(old, 2), round(new, 2)) == (17.92, 34.49)
    assert f"{new / old:.2f}" == "1.92"
    assert f"{new / 9.4:.2f}" == "3.67"
    rfcn, t4 = card(RFCN, 4), 4952 / 1370
    assert round(rfcn, 2) == 4.93, "the guide cuts 4.93136 to 4.92 and says so nowhere"
    assert (int(t4 * 100) / 100, int(4.92 / t4 * 100) / 100) == (3.61, 1.36)


def test_a_measurement_and_a_multiplication_are_told_apart():
    found = logs.performance(D7, {"family": "ascend", "devices_per_card": 4})
    assert (found["fps_per_device"], found["fps"]) == (1.50578, 6.0231)
    assert "arithmetic" in found["fps_is"]
    assert found["fps_card_measured"] is None
    together = [logs.Run(1.50578, device, 0, begin=0, end=10) for device in range(4)]
    assert logs.with_card(found, together, {"devices_per_card": 4})["fps_card_measured"] == 6.0231


@pytest.mark.parametrize(
    ("devices", "begins", "expected"),
    [
        ([0, 1, 2, 3], [0, 0, 0, 0], "4 devices at work at the same time, over 1 card(s); all of them for 100%"),
        ([0, 1, 2, 3], [0, 0, 0, 5], "all of them for 50% of the longest run"),
        (range(8), [0] * 8, "8 devices at work at the same time, over 2 card(s)"),
        ([0, 1, 2, 3], [0, 0, 0, 10], "not measured: devices 0, 1, 2, 3 were not at work at the same time"),
        ([2, 3, 4, 5], [0, 0, 0, 0], "not measured: devices 2, 3, 4, 5 are not all 4 devices of a card, or of several"),
        ([0, 1, 2], [0, 0, 0], "not measured: devices 0, 1, 2 are not all 4"),
        ([0, 1, 2, 2], [0, 0, 0, 0], "not measured: devices 0, 1, 2 are not all 4"),
        ([0], [0], "not measured: that takes all devices of a card"),
    ],
)
def test_a_card_is_measured_by_all_its_devices_at_the_same_time(devices, begins, expected):
    runs = [logs.Run(1.5, device, device // 4, begin, 10) for device, begin in zip(devices, begins, strict=True)]
    fps, how = logs.card_measured(runs, 4)
    assert expected in how
    assert fps == (None if how.startswith("not measured") else 6)


# Four processes of ais_bench, each with its own summary, and the sum that it prints at the end.
SEVERAL = "".join(
    f"[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(664.142): {fps}\n" for fps in (1.4, 1.5, 1.3, 1.6)
) + "".join(
    f"[INFO] i:{i} device_{i} throughput:{fps} start_time:1690000000.{i} end_time:1690000070.{i}\n"
    for i, fps in enumerate((1.4, 1.5, 1.3, 1.6))
)


def test_ais_bench_on_several_devices_is_a_measurement_of_the_card():
    found = logs.performance(f"{SEVERAL}[INFO] summary throughput:5.8\n", {"family": "ascend", "devices_per_card": 4})
    assert found["fps_per_device"] == pytest.approx(5.8 / 4)
    assert found["fps_per_device_is"] == "summary throughput / 4 devices, all at work at the same time"
    assert (found["fps"], found["fps_card_measured"]) == (pytest.approx(5.8), pytest.approx(5.8))
    assert "all of them for 100%" in found["fps_card_measured_is"]
    assert found["lines"][-1] == "[INFO] summary throughput:5.8"


@pytest.mark.parametrize("text", ["batchsize.mean(8)", "batchsize(8)", "batchsize.mean(8.0)"])
def test_the_batch_is_that_of_the_log(text):
    found = logs.performance(f"throughput 1000*{text}/NPU_compute_time.mean(20.0): 400.0\n", {"family": "ascend"})
    assert (found["batch"], found["fps"], found["latency_ms"]["mean"]) == (8, 400, 20)


def test_what_msame_prints_is_a_time():
    computed = logs.performance(GFOCAL_310, {"family": "ascend", "devices_per_card": 4})["fps_per_device_is"]
    assert computed == "computed from the tool's average, which is in ms"
    assert logs.performance(RFCN, {"family": "ascend"})["fps_per_device_is"] == "as the tool prints it"


@pytest.mark.parametrize(
    "line",
    [
        "throughput (1000*batchsize/NPU_compute_time): 4.3",
        "[INFO] throughput 1000*batchsize(1)/NPU_compute_time.mean(232.5): 4.3",
        "[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(232.5): 4.3",
    ],
)
def test_every_version_of_ais_bench_is_understood(line):
    assert logs.parse(f"[INFO] -----\n{line}\n[INFO] ----\n", 1)["fps"] == 4.3


@pytest.mark.parametrize(
    ("line", "fps"),
    [
        ("ave_throughputRate = 974.27samples/s, ave_latency = 1.02917ms", 974.27),
        ("[infer] throughputRate: 1.1, Interface throughputRate: 1.16348e+06, moduleLatency: 2", 1.16348e6),
        ("Inference average time: 1.250000 ms", 800),
    ],
)
def test_other_spellings_are_understood(line, fps):
    assert logs.parse(line, 1)["fps"] == pytest.approx(fps)


def test_a_log_without_speed_says_nothing():
    assert logs.parse("ATC run success, welcome to the next use.\n", 1) is None


@pytest.mark.parametrize("number", ["5,882.2", "61k", "12:30:15", "1e99", "0", "1.2.3", "9" * 5000])
def test_what_only_begins_like_a_speed_is_none(number):
    for line in ("throughput 1000*batchsize(1)/NPU_compute_time.mean(2): {}", "[infer] Interface throughputRate: {}"):
        assert logs.parse(line.format(number) + "\n", 1) is None
    assert logs.parse(f"Test: [{'9' * 5000}/9]  Time: 0.958s (0.950s,    1.05/s)\n", 1) is None
    assert logs.parse(f"throughput 1000*batchsize({number})/x: 5,8\n", 1) is None


def test_a_line_without_end_is_not_searched():
    """No tool prints one, and the search would take minutes."""
    text = "throughput 1000*batchsize" * 20_000 + "\n" + "[infer]" * 70_000 + "\n" + GFOCAL_310
    assert logs.parse(text, 1)["tool"] == "msame"
