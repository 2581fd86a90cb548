"""The report as text: never more than 60 lines, and no figure that its JSON does not have."""

import copy
import json
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

import report
from detport import config
from detport.report import fitting, gates, text

PUBLISHED = config.load(config.ROOT / "config" / "models" / "gfocalv2.yaml", "model")
NO_DOUBTS = {"turned": [], "silent": [], "objects": 9, "tiny": 0, "readings": []}
LINES, WIDTH = 60, 120  # that a terminal and a mail show


def written_report(speeds: dict[str, float], accuracy_simulated: bool = False) -> tuple[dict, str]:
    """JSON and text of a report over the given backends, that run at these fps and have the guide's accuracy."""
    numbers = dict.fromkeys(
        ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "AR300", "AR1000", "ARs", "ARm", "ARl"], 0.4061
    )
    backends = {
        name: {
            "title": name,
            "accuracy": {"bbox": numbers | {"per_class": {"cat": 0.4}}},
            "images": {"indexed": 5000, "scored": 5000, "skipped": []},
            "images_counted": 4952,
            **{
                "too_large": [],
                "patches": [],
                "calibration": [],
                "detections": 9,
                "unscored": {},
                "sample": None,
                "doubts": NO_DOUBTS,
            },
            "parity": None,
            "cross_checked": False,
            "simulator": {"accuracy": accuracy_simulated, "performance": False},
            "performance": {
                "fps": fps,
                "fps_is": "of a device",
                "canvas": "800x1216",
                "other_canvases": [
                    {
                        "canvas": "1216x800",
                        "fps": fps + 1,
                        "latency_ms": dict.fromkeys(("mean", "p50", "p90", "p99"), 1000 / fps),
                    }
                ],
                "latency_ms": dict.fromkeys(("mean", "p50", "p90", "p99"), 1000 / fps),
                **dict.fromkeys(("runs", "seconds", "warmup_runs", "batch", "threads"), 1),
                "timed": "x",
                "input": "x",
                "machine": {"processor": "x", "cores": 1, "load_before": 0.0},
                "versions": {},
            },
        }
        for name, fps in speeds.items()
    }
    for backend in backends.values():
        backend["intervals"] = {}
        backend["notes"] = report.scoring(PUBLISHED["metric"] | {"images": "annotated"}, backend)
        backend["figures"] = gates.figures({"accuracy": backend["accuracy"]}, backend["performance"])
    measured = {name: backend["figures"] for name, backend in backends.items()}
    found = report.judged(PUBLISHED, measured, dict.fromkeys(backends, True))
    found |= {"model": "gfocalv2", "title": "x", "backends": backends, "warnings": [], "parity": []}
    found |= {"provenance": {"measured_with": {}, "brought": {}, "command": "snakemake", "date": "2026-01-01"}}
    return found, text.render(found)


def test_a_table_has_words_to_the_left_and_numbers_to_the_right():
    rows = [["disc", 0.5, 7], ["a long name", None, 1000]]
    table = {"title": "t", "columns": ["class", "AP", "count"], "rows": rows, "digits": 2}
    assert text.table_lines(table) == [
        "t",
        "  class          AP  count",
        "  disc         0.50      7",
        "  a long name     -   1000",
    ]


NAMES = ("pytorch", "onnxruntime", "onnxruntime_fp16", "onnxruntime_int8", "ascend310", "ascend310p")
RUNGS = ("preprocess", "eager", "exported", "simplified", "patched", "compiled")
CHANGES = {"before": 41, "lost": 3, "new": 0, "flips": 1, "least_iou": 0.97, "least_mask_iou": None}
CHANGES |= {"score_shift": {"largest": 0.0123}, "box_shift": {"largest": 1.75}}


def large_report() -> dict:
    """Much of everything: 80 classes, 6 backends with all rungs, 30 warnings, 25 gates with notes, skipped images."""
    found, _ = written_report({name: 10.0 + 7 * i for i, name in enumerate(NAMES)}, accuracy_simulated=True)
    found = copy.deepcopy(found)
    for i, (name, backend) in enumerate(found["backends"].items()):
        filled(name, backend, i)
        rows = [{"backend": name, "rung": rung, "verdict": "PASS", "told": ""} for rung in RUNGS]
        rows[2] |= {"verdict": "FAIL", "told": "3 of 41 detections lost"}
        rows[4] |= {"verdict": "NOT MEASURED", "told": f"no kernel for operator {'long ' * 60}"}
        found["parity"] += rows
    found["warnings"] = [f"onnxruntime: classes without a single detection: number {i}, {'x' * 90}" for i in range(30)]
    note = f"bbox.AP less that of pytorch is -0.0012 (95 % interval -0.0100 to +0.0080, 80 images): {'word ' * 20}"
    gate = found["gates"][0] | {"note": note, "margin": 0.01, "against": "pytorch", "verdict": "PASS"}
    found["gates"] = [gate | {"name": f"no worse {i}"} for i in range(24)] + [
        gate | {"verdict": "FAIL", "name": "last"}
    ]
    digest = {"files": 5000, "sha256": "1" * 64}
    found["provenance"]["brought"] = {f"outputs behind results/m/{name}/accuracy.json": digest for name in NAMES}
    found["provenance"]["measured_with"] = {"checkpoint": "2" * 64, "annotations": "3" * 64}
    found["provenance"]["command"] = f"snakemake --cores 8 reports/gfocalv2.txt --config backends='[{','.join(NAMES)}]'"
    return found | {"verdict": "FAIL", "title": "GFocalV2, 800x1216"}


def filled(name: str, backend: dict, i: int) -> None:
    """Fill what a backend has of classes, images, rungs and intervals."""
    figures = {key: value - 0.01 * i for key, value in backend["accuracy"]["bbox"].items() if key != "per_class"}
    figures["per_class"] = {f"class {k}": k / 100 for k in range(80)}
    backend["accuracy"] = {"bbox": figures, "segm": copy.deepcopy(figures)}
    backend["figures"] = gates.figures({"accuracy": backend["accuracy"]}, backend["performance"])
    interval = {"value": 0.4, "low": 0.3871, "high": 0.4219, "confidence": 0.95, "images": 50, "resamples": 999}
    backend["intervals"] = {"bbox.AP": interval}
    backend["sample"] = {"images": 50, "of": 5000}
    skipped = [{"image_id": k, "file": f"{k}.jpg", "reason": "truncated"} for k in range(20)]
    backend["images"] = {"indexed": 50, "scored": 30, "skipped": skipped}
    backend["too_large"] = [{"image_id": k, "file": f"{k}.jpg", "too_large": "fit"} for k in range(30)]
    backend["unscored"] = {f"moon {k}": k for k in range(40)}
    lossy = {"name": "pad_maxpool_with_zero", "matches": 34, "changed": {}, "effect": {"a": {"largest": 5, "mean": 1}}}
    backend["patches"] = [{"canvas": "800x1216", "patches": [lossy] * 3}]
    backend["parity"] = ladder_of(name)


def ladder_of(name: str) -> dict:
    """What parity.json holds of six rungs."""
    beside = {"rung": "x", "tensors": {"a": {"apart": 0.0021, "cosine": 0.99876}}, "detections": CHANGES}
    common = {"runner": "x", "reason": None, "simulator": False, "problem": None, "detections": 41}
    rungs = [{"rung": rung, **common, "previous": beside, "first": beside} for rung in RUNGS[1:]]
    levels = {"largest": 1.0, "far": 0.0, "mean": -0.1, "padding": 0.0}
    rungs.insert(0, {"rung": "preprocess", "runner": "beside it", "reason": None, "levels": levels, "file": "it.jpg"})
    told = {"images": [{}] * 8, "seed": 0, "score": 0.3, "input": "float32 NCHW", "skipped": []}
    return {"backend": name, "precisions": {"compiled": "int8"}, "rungs": rungs, **told}


def test_a_large_report_is_not_longer_or_wider():
    found = large_report()
    lines = text.render(found).splitlines()
    assert len(lines) < LINES, "one is left for STALE"
    assert max(map(len, lines)) <= WIDTH
    assert sum("… and " in line and line.endswith("more (in reports/gfocalv2.json)") for line in lines) >= 4
    start = next(i for i, line in enumerate(lines) if line.startswith("SPEED"))
    assert [line.split()[0] for line in lines[start + 1 : start + 7]] == list(NAMES), "every backend has its speed"
    assert lines[lines.index("GATES") + 1].split()[:2] == ["FAIL", "last"], "what fails is never cut for what passes"
    for heading in ("WARNINGS", "GATES", "ACCURACY", "SPEED", "COMPARISON", "SKIPPED", "REPRODUCE"):
        assert any(line.startswith(heading) for line in lines), heading
    assert "A SAMPLE: 50 OF 5000 IMAGES" in lines[3] and "A SIMULATOR" in " ".join(" ".join(lines[4:6]).split())


@pytest.mark.parametrize("key", ["warnings", "gates", "parity", "comparison"])
def test_no_list_makes_it_longer(key):
    found = large_report()
    found[key] = found[key] * 40
    assert len(text.render(found).splitlines()) < LINES


@pytest.mark.parametrize("found", [large_report(), written_report({"onnxruntime": 0.5})[0]], ids=["large", "small"])
def test_every_figure_of_the_text_is_in_the_json(found):
    """As it stands there, or rounded; a number of things as the length of their list."""
    lines = [line for line in text.render(found).splitlines() if "… and " not in line]
    assert len(figures_in("\n".join(lines))) > 40
    assert [(number, line) for line in lines for number in figures_in(line) if not known(number, found)] == []


def test_a_figure_that_the_json_does_not_have_is_found():
    found, _ = written_report({"onnxruntime": 0.5})
    assert known("0.4061", found) and known("223.21", found)
    assert not known("0.4062", found) and not known("3.21", found)


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?!\w)")


def figures_in(line: str) -> list[str]:
    return NUMBER.findall(line.replace(" -- ", " "))


def known(number: str, report: dict) -> bool:
    digits = len(number.partition("e")[0].partition(".")[2])
    form = f".{digits}{'e' if 'e' in number else 'f'}"
    told = {word.lstrip("-") for word in NUMBER.findall(json.dumps(report))}
    return number.lstrip("-") in told or any(f"{value:{form}}" == number for value in figures_of(report))


def figures_of(value: object) -> Iterator[float]:
    """Every number, also as a percentage, and how long each list is."""
    if isinstance(value, dict | list):
        yield len(value)
        for each in value.values() if isinstance(value, dict) else value:
            yield from figures_of(each)
    elif isinstance(value, int | float):
        yield from (value, 100 * value)


def test_blocks_are_cut_from_the_longest_and_extras_are_whole_or_out():
    long, short = fitting.Block(["long"], [[f"  {i}"] for i in range(30)]), fitting.Block(["short"], [["  a"], ["  b"]])
    found = fitting.fitted([long, short], [["extra"] * 3, ["x"]], 12, "it.json")
    assert (
        found[0] == ["long", *(f"  {i}" for i in range(6)), "  … and 24 more (in it.json)"] and found[-1] == short.lines
    )
    roomy = fitting.fitted([short, short], [["extra"] * 3, ["x"] * 9], 12, "it.json")
    assert roomy == [short.lines, ["extra"] * 3, short.lines]
    several = fitting.Block(["long"], [["  a", "  b"], ["  c", "  d"], ["  e"]])
    assert fitting.cut(several, 5, "it") == ["long", "  a", "  b", "  … and 2 more (in it)"], "an item stays whole"


def test_several_backends_are_below_one_another_in_one_table():
    lines = written_report(dict.fromkeys(NAMES, 10.0))[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ACCURACY"))
    assert lines[start].split() == ["ACCURACY", "images", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert lines[start + 1].split() == ["pytorch", "bbox", "5000", "of", "5000", *["0.4061"] * 6]
    assert [line.split()[0] for line in lines[start + 1 : start + 7]] == list(NAMES)


def test_a_simulators_accuracy_is_marked_beside_a_devices_speed():
    """Outputs of a simulator and a log of a device: the head names the backend, and the mark is at the accuracy."""
    _, lines = written_report({"ascend310": 17.92}, accuracy_simulated=True)
    assert "!! FIGURES OF ascend310 COME FROM A SIMULATOR" in lines
    assert "  ascend310 (SIMULATOR)  bbox" in lines and "  ascend310  17.92" in lines
    assert "SIMULATOR" not in written_report({"ascend310": 17.92})[1]


def test_report_of_a_run_without_the_guides_backends():
    found, lines = written_report({"onnxruntime": 0.5})
    assert found["verdict"] == "PASS"
    assert [row["name"] for row in found["gates"]] == ["box AP"]
    assert [gate["name"] for gate in found["gates_not_asked"]] == ["310P against 310", "310P against T4"]
    for part in (
        "  onnxruntime  bbox  5000 of 5000  0.4061",
        "4952 images count, without those that have no annotation or a side under 32 px (metric.images: anno",
        "published, guide 310: 17.92 fps = 4 x 1000/223.21 (the factor 4 is arithmetic: one of 4 devices was timed)",
        "published, guide 310P: 34.49 fps = 1000/28.99\n",
        "published, guide T4: 9.4 fps\n",
        "PASS (published)  310P against 310: fps 34.49/17.92 = 1.92, at least 1.2;",
        "PASS (published)  310P against T4: fps 34.49/9.4 = 3.67, at least 1.6;",
        "not asked    310P against 310: for ascend310p against ascend310, not in this run",
        "SKIPPED: nothing",
        "  snakemake\n",
        "0.4100",
        "0.4060",
    ):
        assert part in lines, part


def test_a_command_of_several_lines_can_be_copied():
    words = ["snakemake", "--directory", "it's a folder", *(f"--config=backend_number_{i}=on" for i in range(9))]
    lines = text.command_lines(shlex.join(words))
    assert len(lines) > 2 and all(line.endswith(" \\") and len(line) <= WIDTH for line in lines[:-1])
    asked = ["bash", "-c", "printf '%s\\0' " + "\n".join(lines)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\0")[:-1] == words
    assert text.command_lines("somebody's words") == ["  somebody's words"] and text.command_lines("") == ["  -"]


def test_what_was_skipped_is_named():
    found, _ = written_report({"onnxruntime": 0.5, "pytorch": 0.1})
    first, second = found["backends"].values()
    first["images"] |= {"scored": 4999, "skipped": [{"image_id": 7, "file": "it's.jpg", "reason": "truncated"}]}
    first["too_large"] = [{"image_id": f"{i}", "file": f"{i}.jpg", "too_large": "crop"} for i in range(7)]
    second["unscored"] = {"moon": 5}
    block = text.render(found).split("SKIPPED\n")[1].split("\n\n")[0]
    block = " ".join(block.split())
    assert """onnxruntime: 7 "it's.jpg": truncated""" in block
    assert "TOO LARGE FOR THE NETWORK INPUT: 7 of 5000, cropped to it, so that objects may be lost: '0.jpg'" in block
    assert "… (+3)" in block
    assert "pytorch: not scored, because the dataset has no such category: moon 5" in block


def test_patches_say_what_they_changed_and_what_they_cost():
    lossy = {"name": "pad_maxpool_with_zero", "matches": 34, "changed": {}}
    lossy["effect"] = {"logits": {"largest": 5.0, "mean": 0.5}, "index": {"exchanged": 9, "of": 50}}
    int32 = {"name": "int64_to_int32", "matches": 16, "changed": {"initializer": 16, "beyond_int32": 1}, "effect": None}
    assert text.patch_lines("ascend310", [{"canvas": "64x64", "patches": [lossy, int32]}]) == [
        "PATCHES of the graph for ascend310",
        "  pad_maxpool_with_zero in 34 places (canvas 64x64)",
        "    lossy: logits differs by up to 5, mean 0.5 (random image, ONNX Runtime, optimisations off)",
        "    lossy: 9 of 50 rows of index are others; differences are of those that stay"
        " (random image, ONNX Runtime, optimisations off)",
        "  int64_to_int32 in 16 places, 16 initializer, 1 beyond_int32 (canvas 64x64)",
    ]
    assert text.patch_lines("onnxruntime", [{"canvas": None, "patches": []}]) == []


@pytest.mark.parametrize(
    ("speeds", "verdicts", "verdict"),
    [
        ({"ascend310p": 34.0}, {"310P against T4": "PASS"}, "PASS"),
        ({"ascend310p": 15.0}, {"310P against T4": "FAIL"}, "FAIL"),
        ({"ascend310": 18.0}, {}, "PASS"),
        ({"ascend310p": 30.0, "ascend310": 18.0}, {"310P against 310": "PASS", "310P against T4": "PASS"}, "PASS"),
        ({"ascend310p": 20.0, "ascend310": 18.0}, {"310P against 310": "FAIL", "310P against T4": "PASS"}, "FAIL"),
    ],
)
def test_the_same_gates_judge_measured_numbers(speeds, verdicts, verdict):
    found, lines = written_report(speeds)
    assert {row["name"]: row["verdict"] for row in found["gates"] if row["name"] != "box AP"} == verdicts
    assert found["verdict"] == verdict
    assert [row["verdict"] for row in found["published"]] == ["PASS", "PASS"]
    if "310P against 310" in verdicts:
        assert f"from ascend310, {speeds['ascend310p'] / speeds['ascend310']:.2f} times as much" in lines
