"""A demo model in three precisions: what they lose is small, and is there."""

from pathlib import Path

import pytest
from openvino import Core
from PIL import Image

import calibrate
from detport import canvases, classes, config, datasets, decoders, inputs, metrics, tensors
from detport.backends import onnxruntime as runner
from detport.backends import openvino
from detport.backends.local import Run
from detport.compilers import local
from detport.compilers import onnxruntime as compiler
from detport.files import write_json
from detport.precisions import int8, plain

DEMO = config.ROOT / "demo"
IMAGES = DEMO / "data" / "images"
DATASET = {"kind": "coco", "images": str(IMAGES), "annotations": str(DEMO / "data/annotations/instances.json")}
CALIBRATED = 4
CPU = Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    found = []
    for path in sorted(IMAGES.glob("*.jpg"))[:16]:
        width, height = Image.open(path).size
        found.append({"image_id": int(path.stem), "file": path.name, "width": width, "height": height})
    return found


@pytest.fixture(scope="module")
def model() -> dict:
    found = config.load(DEMO / "config" / "models" / "yolo.yaml", "model")
    return canvases.select(found | {"name": "yolo"}, None) | {"compile": {}}


def backend(precision: str) -> dict:
    name = {"float32": "", "float16": "_fp16", "int8": "_int8"}[precision]
    return config.load_backend(config.ROOT / "config" / "backends" / f"onnxruntime{name}.yaml")


def ranges(model: dict, rows: list[dict], settings: dict, path: Path) -> Path:
    """calibration.json with what compiling reads of it."""
    graph = plain(int8.prepared(local.as_fed(DEMO / "weights" / "yolo.onnx", model), "yolo.onnx"))
    used: list[dict] = []
    own = settings | {"images": CALIBRATED}
    found = int8.measure(graph, calibrate.feeds(rows, IMAGES, model, own, used), own, threads=1)
    named = {"schema": 1, "model": "yolo", "backend": "int8", "canvas": None, "settings": own}
    write_json(path, named | {"images": used, "of": len(rows), "excluded": {}, "ranges": found})
    return path


def average_precision(run: Run, model: dict, rows: list[dict]) -> float:
    """Box AP of a model on some images."""
    decoder, found = decoders.load(model["decode"]["kind"]), []
    names = [output["name"] for output in model["outputs"]]
    for row in rows:
        tensor, placement = tensors.preprocess(IMAGES / row["file"], model, (row["width"], row["height"]))
        image = row | placement
        outputs = run(inputs.feeds(model["input"], inputs.batched(tensor, model["input"], image), image))
        categories = decoders.categories(model["decode"]["categories"])
        found += decoder.decode(dict(zip(names, outputs, strict=True)), image, model["decode"], categories)
    metric, kind = metrics.load("coco"), datasets.load("coco")
    truth = kind.truth(DATASET, rows)
    found, _ = classes.with_ids(found, metric.categories(truth, model["metric"]))
    counted = metric.counted(truth, [row["image_id"] for row in rows], model["metric"])
    return metric.evaluate(truth, counted, found, model["metric"], False)["bbox"]["AP"]


def test_a_lower_precision_loses_little_and_something(tmp_path, model, rows):
    graph, found = DEMO / "weights" / "yolo.onnx", {}
    for precision in ("float32", "float16", "int8"):
        own, compiled = backend(precision), tmp_path / f"{precision}.onnx"
        calibration = None
        if precision == "int8":
            calibration = ranges(model, rows, own["calibration"], tmp_path / "calibration.json")
        compiler.compile_model(graph, model, own, compiled, calibration)
        found[precision] = average_precision(runner.open_model(compiled, model, own, threads=1), model, rows)
    assert found["float32"] > 0.5
    assert 0 < abs(found["float16"] - found["float32"]) < 0.01
    assert 0 < abs(found["int8"] - found["float32"]) < 0.05
    for name in ("openvino", "openvino_bf16"):
        own = config.load_backend(config.ROOT / "config" / "backends" / f"{name}.yaml")
        if openvino.CAPABILITIES[own["precision"]] in CPU:
            opened = openvino.open_compiled(graph, own, threads=1)
            found[name] = average_precision(openvino.runner(graph, opened, model), model, rows)
    assert abs(found["openvino"] - found["float32"]) < 1e-4
    assert 0 < abs(found.get("openvino_bf16", 0.5) - found["float32"]) < 0.01 or "BF16" not in CPU
