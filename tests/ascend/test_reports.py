"""The reports of the four guides, made by the stages themselves from the guides' literal lines.

benchmark.py --from-log reads the lines, report.py writes the reports. The accuracies are stand-ins in the form of
accuracy.json that hold the figures that the guides print, because the weights and data sets are not here; what is
tested of them is that they come through and pass or fail the gates.
"""

import json
from pathlib import Path

import pytest
import yaml
from test_guides import D7, D7_GPU, GFOCAL_310, GFOCAL_310P, RFCN

import benchmark
import report
from detport import config

# The guide of RetinaMask prints its speed as a number only; this is the line that its command prints with that number.
RETINAMASK = "[INFO] throughput 1000*batchsize(1)/NPU_compute_time.mean(232.558): 4.3\n"
GPU = {"title": "GPU of the guide", "family": "pytorch", "runs": "checkpoint"}
COCO_AVERAGES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "ARs", "ARm", "ARl")


def accuracy(model: dict, figures: dict[str, float]) -> dict:
    """A stand-in for accuracy.json; `figures` by kind of overlap or of mean."""
    metric = model["metric"]
    if metric["kind"] == "voc":
        found = {kind: {"mAP": figure, "per_class": {"cat": figure}} for kind, figure in figures.items()}
    else:
        names = [*COCO_AVERAGES, *(f"AR{count}" for count in metric["max_detections"])]
        found = {
            kind: dict.fromkeys(names, figure) | {"per_class": {"cat": figure}} for kind, figure in figures.items()
        }
    return {
        "schema": 1,
        "metric": metric,
        "accuracy": found,
        "images": {"indexed": 5000, "scored": 5000, "skipped": []},
        "images_counted": 5000,
        "too_large": [],
        "detections": 0,
        "cross_checked": False,
        "simulator": False,
        "unscored": {},
        "sample": None,
        "doubts": {"turned": [], "silent": [], "objects": 1, "tiny": 0, "readings": []},
        "annotations": {"file": "stand-in", "sha256": "0"},
    }


def stage(module, **flags: object) -> None:
    """Run a stage in this process."""
    words = []
    for name, value in flags.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    module.main(words)


def reported(tmp_path: Path, name: str, logs: dict[str, str], figures: dict[str, float]) -> tuple[dict, str]:
    """The report of a model over the backends of `logs`, from what a tool printed on each, with one accuracy."""
    file = config.ROOT / "config" / "models" / f"{name}.yaml"
    model = config.load(file, "model")
    (tmp_path / "gpu.yaml").write_text(yaml.safe_dump(GPU))
    backends, accuracies, performances = [], [], []
    for backend, log in logs.items():
        own = config.ROOT / "config" / "backends" / f"{backend}.yaml"
        backends.append(own if own.exists() else tmp_path / f"{backend}.yaml")
        (tmp_path / f"{backend}.log").write_text(log)
        performances.append(tmp_path / f"{backend}.performance.json")
        stage(
            benchmark,
            model=file,
            backend=backends[-1],
            from_log=tmp_path / f"{backend}.log",
            output=performances[-1],
        )
        accuracies.append(tmp_path / f"{backend}.accuracy.json")
        accuracies[-1].write_text(json.dumps(accuracy(model, figures)))
    analysis = tmp_path / "analysis.json"
    analysis.write_text('{"schema": 1, "analysis": null}')
    found = {"accuracy": accuracies, "analysis": [analysis] * len(backends), "performance": performances}
    outputs = {"output_text": tmp_path / "report.txt", "output_json": tmp_path / "report.json"}
    stage(report, model=file, backend=backends, **found, **outputs)
    return json.loads(outputs["output_json"].read_text()), outputs["output_text"].read_text()


# Model, log by backend, accuracy that the guide prints, lines of the text with all its figures and ratios, and what is
# in the JSON alone.
GUIDES = {
    "retinamask": (
        {"ascend310p": RETINAMASK},
        {"bbox": 0.279, "segm": 0.248},
        [
            "PASS  box AP  ascend310p  bbox.AP  0.2790 >= 0.2760  from guide 310P3",
            "PASS  mask AP  ascend310p  segm.AP  0.2480 >= 0.2450  from guide 310P3",
            "PASS  speed on 310P  ascend310p  fps  4.3000 >= 4.3000  from guide 310P3",
            "published, guide 310P3: 4.3 fps",
        ],
        [],
    ),
    "efficientdet_d7": (
        {"ascend310": D7, "gpu": D7_GPU},
        {"bbox": 0.5313},
        [
            "PASS  310 against GPU  ascend310  fps  6.0231 >= 1.0526  from guide GPU",
            "ascend310 6.02 664.14 - - of a card: 4 x one device, arithmetic as in the guides",
            "gpu 1.05 950.00 - - of one GPU",
            "ascend310: one device 1.51 fps (as the tool prints it); card, measured:",
            "guide 310: 6.02 fps = 4 x 1.50578  (the factor 4 is arithmetic: one of 4 devices was timed)",
            "PASS (published)  310 against GPU: fps 6.02/1.05 = 5.72, at least 1",
        ],
        [
            "ave_throughputRate: 1.50578samples/s, ave_latency: 664.142ms",
            '"arithmetic": "1000/950"',
        ],
    ),
    "gfocalv2": (
        {"ascend310": GFOCAL_310, "ascend310p": GFOCAL_310P},
        {"bbox": 0.406},
        [
            "PASS  box AP  ascend310p  bbox.AP  0.4060 >= 0.4030  from guide",
            "PASS  310P against 310  ascend310p  fps  34.4947 >= 21.5044  from ascend310, 1.92 times as much",
            "PASS  310P against T4  ascend310p  fps  34.4947 >= 15.0400  from guide T4",
            "ascend310 17.92 223.21 - - of a card: 4 x one device, arithmetic as in the guides",
            "ascend310p 34.49 28.99 - - of one device",
            "ascend310: one device 4.48 fps (computed from the tool's average, which is in ms); card, measured:",
            "bbox.AP ascend310p 0.4060 0.4100 0.990 authors",
            "fps ascend310p 34.4947 9.4000 3.670 guide T4",
            "guide 310: 17.92 fps = 4 x 1000/223.21",
            "guide 310P: 34.49 fps = 1000/28.99",
            "PASS (published)  310P against 310: fps 34.49/17.92 = 1.92, at least 1.2",
            "PASS (published)  310P against T4: fps 34.49/9.4 = 3.67, at least 1.6",
        ],
        [],
    ),
    "rfcn": (
        {"ascend310": RFCN},
        {"voc07": 0.6993, "voc_area": 0.7},
        [
            "PASS  mAP  ascend310  voc07.mAP  0.6993 >= 0.6963  from guide 310",
            "PASS  310 against T4  ascend310  fps  4.9314 >= 3.6146  from guide T4",
            "ascend310 4.93",
            "of a card: 4 x one device, arithmetic as in the guides",
            "voc07.mAP ascend310 0.6993 0.6986 1.001 guide T4",
            "fps ascend310 4.9314 3.6146 1.364 guide T4",
            "guide 310: 4.93 fps = 4 x 1.23284",
            "guide T4: 3.61 fps = 4952/1370",
            "PASS (published)  310 against T4: fps 4.93/3.61 = 1.36, at least 1",
        ],
        [
            "[inference] Interface throughputRate: 1.23284",
            "one of the four devices of an Ascend 310 card; it prints 4.92",
        ],
    ),
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_report_has_every_figure_of_the_guide(tmp_path, name):
    logs, figures, expected, kept = GUIDES[name]
    found, text = reported(tmp_path, name, logs, figures)
    one_space = " ".join(text.split())
    for line in expected:
        assert " ".join(line.split()) in one_space, text
    content = json.dumps(found)
    for part in kept:
        assert part in content, part
    assert found["verdict"] == "PASS"
    assert "SIMULATOR" not in text, "the guides' lines are of devices"


@pytest.mark.parametrize(
    ("name", "backend", "log", "gate"),
    [
        ("retinamask", "ascend310p", RETINAMASK.replace("4.3", "4.2"), "speed on 310P"),
        ("efficientdet_d7", "ascend310", D7.replace("1.50578", "0.25"), "310 against GPU"),
        ("gfocalv2", "ascend310p", GFOCAL_310P.replace("28.99", "55.99"), "310P against 310"),
        ("rfcn", "ascend310", RFCN.replace("1.23284", "0.9"), "310 against T4"),
    ],
)
def test_a_slower_log_fails_the_gate(tmp_path, name, backend, log, gate):
    logs, figures, *_ = GUIDES[name]
    found, _ = reported(tmp_path, name, logs | {backend: log}, figures)
    assert [row["name"] for row in found["gates"] if row["verdict"] == "FAIL"] == [gate]


def test_less_accuracy_than_the_guides_fails_the_gates(tmp_path):
    found, _ = reported(tmp_path, "retinamask", {"ascend310p": RETINAMASK}, {"bbox": 0.275, "segm": 0.248})
    assert [row["name"] for row in found["gates"] if row["verdict"] == "FAIL"] == ["box AP"]
