"""A yaml from an ONNX file: what the file tells, what is asked, what is refused."""

import itertools
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

import describe as describe_script
import layouts_of as made
import new_model
from detport import config, decoders
from detport.errors import Failure, UsageError

STRIDES = [8, 16, 32]
NAMES = ["disc", "square", "star"]
ULTRALYTICS = {"stride": "32", "names": str(dict(enumerate(NAMES))), "task": "detect", "imgsz": "[64, 96]"}


def yolov8(classes: int = 3) -> dict[str, np.ndarray]:
    boxes = made.boxes(STRIDES, "cxcywh")
    return {"output0": np.hstack([boxes, made.scores(len(boxes), classes)]).T[None]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a dataset of two images and three categories."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "images").mkdir()
    for i in (1, 2):
        Image.new("RGB", (120, 80), (40 * i, 90, 10)).save(tmp_path / "images" / f"{i}.png")
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 120, "height": 80} for i in (1, 2)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9]}],
        "categories": [{"id": 7 + i, "name": name} for i, name in enumerate(NAMES)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    dataset = {"kind": "coco", "images": "images", "annotations": "truth.json"}
    (tmp_path / "config" / "config.yaml").write_text(json.dumps({"models": ["m"], "datasets": {"own": dataset}}))
    return tmp_path


def written(folder, *options: str, name: str = "m") -> tuple[str, dict]:
    """Text and checked value of the yaml that new_model.py writes."""
    new_model.main(["m.onnx", "--dataset", "own", *options])
    path = folder / "config" / "models" / f"{name}.yaml"
    return path.read_text(), config.load(path, "model")


def test_an_ultralytics_file_leaves_nothing_to_ask(folder, capsys):
    made.saved(folder / "m.onnx", yolov8(), ULTRALYTICS)
    text, model = written(folder)
    assert "GUESS:" not in text and "QUESTION:" not in text
    assert (model["decode"]["kind"], model["decode"]["categories"]) == ("dense", NAMES)
    assert (model["preprocess"]["place"], model["preprocess"]["fill"]) == ("centre", 114)
    assert "Preset yolov8 (by metadata stride, names, task" in text
    assert "the graph was run on 2 images of own" in text
    said = capsys.readouterr().out
    assert "results/m/doctor.txt" in said and "reports/m.txt --config models='[m]'" in said


def test_every_line_has_its_reason(folder):
    made.saved(folder / "m.onnx", yolov8(), ULTRALYTICS)
    text, _ = written(folder)
    lines = text.split("\n")
    for before, line in itertools.pairwise(lines):
        if line and not line.startswith(("#", "  #", "  - ")) and not line.endswith(":"):
            assert " # " in line or before.lstrip().startswith("#"), line


def test_what_no_file_tells_is_asked(folder, capsys):
    made.saved(folder / "m.onnx", {"detections": yolov8()["output0"]})
    text, _ = written(folder)
    for key in ("channels", "divide_by", "resize"):
        assert f"\n  {key}: " in text.split("QUESTION", 1)[1]
    assert text.count("QUESTION:") == 4, "colours, normalisation, placing, and which class is which category"
    assert "No preset was recognised" in text
    assert "QUESTION preprocess.channels: RGB" in capsys.readouterr().out


def test_a_preset_answers(folder):
    made.saved(folder / "m.onnx", {"detections": yolov8()["output0"]})
    text, model = written(folder, "--preset", "yolox")
    assert (model["preprocess"]["channels"], model["decode"]["nms_iou"]) == ("BGR", 0.65)
    assert "channels: BGR # preset yolox" in text
    assert "objectness: false # 4 + 3 numbers, as many as there are classes (preset yolox has True)" in text


def test_a_recognised_preset_is_a_guess(folder):
    made.saved(folder / "m.onnx", yolov8())
    text, _ = written(folder)
    assert "channels: RGB # GUESS: preset yolov8" in text and "(GUESS, by outputs output0" in text


def test_names_of_classes_by_the_dataset_where_the_file_has_none(folder):
    made.saved(folder / "m.onnx", yolov8())
    text, model = written(folder)
    assert model["decode"]["categories"] == [7, 8, 9]
    assert "which category is each class" in text


def test_without_the_dataset_the_graph_is_run_on_random_numbers(folder):
    made.saved(folder / "m.onnx", yolov8(), ULTRALYTICS)
    (folder / "truth.json").unlink()
    text, model = written(folder)
    assert "random numbers, because of own there is no image here" in text
    assert model["decode"]["categories"] == NAMES


def test_two_readings_are_told(folder):
    made.saved(folder / "m.onnx", {"a": np.zeros((1, 20, 7), np.float32)})
    text, _ = written(folder)
    assert "# another reading of the outputs: kind: after_nms, columns: ['batch', 'box', 'label', 'score']" in text
    assert "GUESS: the usual order; the 0 rows of the run do not tell" in text


def test_open_sides_and_imgsz(folder):
    graph = made.graph(yolov8(), ULTRALYTICS)
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    onnx.save(graph, folder / "m.onnx")
    text, model = written(folder)
    assert (model["input"]["height"], model["input"]["width"]) == (64, 96)
    assert "height: 64 # the graph leaves it open; imgsz in its metadata" in text


def test_open_sides_of_a_family_that_is_recognised(folder):
    boxes, scores, labels = made.kept()
    graph = made.graph({"boxes": boxes, "labels": labels, "scores": scores})
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    graph.producer_name = "pytorch"
    onnx.save(graph, folder / "m.onnx")
    text, model = written(folder)
    assert (model["input"]["height"], model["input"]["multiple"]) == (1344, 1), "preset torchvision"
    assert "height: 1344 # GUESS: the graph leaves it open; the preset's" in text


def test_inputs_beside_the_image(folder):
    boxes, scores, labels = made.kept()
    graph = made.graph({"labels": labels[None], "boxes": boxes[None], "scores": scores[None]})
    graph.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", onnx.TensorProto.INT64, [1, 2]))
    onnx.save(graph, folder / "m.onnx")
    _, model = written(folder)
    (more,) = model["input"]["more"]
    assert (more["name"], more["values"]) == ("orig_target_sizes", ["image_width", "image_height"])
    assert model["decode"]["coordinates"] == "original"
    assert model["preprocess"]["resize"]["library"] == "pillow", "preset rtdetr"


def test_what_the_graph_does_to_its_image_itself(folder):
    graph = made.graph({"detections": yolov8()["output0"]})
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(255), "full"))
    graph.graph.node[0].input[0] = "scaled"
    graph.graph.node.insert(0, helper.make_node("Div", ["images", "full"], ["scaled"]))
    onnx.save(graph, folder / "m.onnx")
    text, model = written(folder)
    assert "the graph itself has Div [255.0] on its input" in text
    assert model["preprocess"]["divide_by"] == 1


def test_a_yaml_that_is_there_is_left_alone(folder):
    made.saved(folder / "m.onnx", yolov8(), ULTRALYTICS)
    written(folder)
    (folder / "config" / "models" / "m.yaml").write_text("mine")
    with pytest.raises(UsageError, match=r"m\.yaml: is there already; --force replaces it"):
        written(folder)
    assert written(folder, "--force")[1]["title"] == "m"
    assert written(folder, "--name", "other", name="other")[1]["title"] == "m"


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (
            {"text": np.zeros((1, 1, 64, 96), np.float32)},
            r"text \[1, 1, 64, 96\] are of no form .* docs/adding-a-model",
        ),
        (
            {"hm": np.zeros((1, 3, 16, 24), np.float32)}
            | {name: np.zeros((1, 2, 16, 24), np.float32) for name in ("wh", "reg")},
            "as CenterNet's, have no decoder",
        ),
    ],
)
def test_what_is_no_detector_is_refused(folder, outputs, problem):
    made.saved(folder / "m.onnx", outputs)
    with pytest.raises(UsageError, match=f"m.onnx: outputs .*{problem}"):
        written(folder)
    assert not (folder / "config" / "models").exists()


def test_other_mistakes_are_one_line(folder):
    made.saved(folder / "m.onnx", yolov8(), ULTRALYTICS)
    with pytest.raises(UsageError, match="there is no such preset; did you mean 'yolov8'"):
        written(folder, "--preset", "yolo8")
    with pytest.raises(UsageError, match=r"datasets\.coco: no such dataset; expected one of own"):
        new_model.main(["m.onnx", "--dataset", "coco"])
    graph = made.graph(yolov8())
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(graph, folder / "m.onnx")
    with pytest.raises(
        Failure, match="images: it takes 8 images at once, detport runs one: export it with a batch of 1"
    ):
        written(folder)
    graph.graph.node[0].domain, graph.graph.node[0].op_type = "mmdeploy", "TRTBatchedNMS"
    onnx.save(graph, folder / "m.onnx")
    with pytest.raises(
        UsageError, match=r"m\.onnx: ONNX Runtime has no kernel for mmdeploy:TRTBatchedNMS; export without"
    ):
        written(folder)


def test_describe_prints_the_file_and_the_lines_that_follow(folder, capsys):
    made.saved(folder / "m.onnx", yolov8(), ULTRALYTICS)
    describe_script.main(["m.onnx"])
    said = capsys.readouterr().out
    for line in ("opset 13", "images: float32 [1, 3, 64, 96]", "output0: float32 [1, 7, 126]", "task: detect"):
        assert line in said
    assert "kind: dense # a row for each cell of strides [8, 16, 32]" in said
    describe_script.main(["m.onnx", "--no-run"])
    assert "decode:" not in capsys.readouterr().out


def test_coco80_by_names_of_the_dataset():
    """Names that are those of a dataset with COCO's ids need not be written out."""
    from detport import proposal, readings
    from detport.graph.describe import facts

    ids = decoders.CATEGORIES["coco80"]
    names = [f"class {i}" for i in ids]
    dataset = proposal.Dataset("d", "coco", [{"id": i, "name": f"class {i}"} for i in reversed(ids)], [])
    found = facts(made.graph({"a": np.zeros(3, np.float32)}, {"names": str(names)}))
    reading = readings.Reading("dense", {"kind": "dense"}, 80, {})
    assert proposal.categories_line(reading, found, dataset).value == "coco80"


def families() -> dict[str, dict[str, np.ndarray]]:
    """Outputs of three classes as families give them."""
    rows, three = len(made.cells(STRIDES)), len(made.cells(STRIDES, 3))
    centred, corners = made.boxes(STRIDES, "cxcywh"), made.boxes(STRIDES, "xyxy")
    boxes, scores, labels = made.kept()
    queries = np.random.default_rng(0).uniform(0.2, 0.4, (1, 20, 4)).astype(np.float32)
    sizes = [(64 // stride, 96 // stride) for stride in STRIDES]

    def maps(name: str, numbers: int, values) -> dict[str, np.ndarray]:
        return {f"{name}{h}": values(h * w, numbers).T.reshape(1, numbers, h, w).astype(np.float32) for h, w in sizes}

    yolov5 = np.hstack([made.boxes(STRIDES, "cxcywh", 3), made.scores(three, 4)])[None]
    background = np.exp(np.hstack([np.full((rows, 1), 6), made.logits(rows, 3)]))
    background = np.float32(background / background.sum(axis=1, keepdims=True))[None]
    return {
        "yolov8": yolov8(),
        "yolov8 with masks": {
            "output0": np.hstack([centred, made.scores(rows, 3), made.logits(rows, 32)]).T[None],
            "output1": made.logits(32, 16 * 24).reshape(1, 32, 16, 24),
        },
        "yolov5": {"output": yolov5},
        "yolov5 with its raw maps": {"output": yolov5}
        | {f"raw{h}": np.zeros((1, 3, h, w, 8), np.float32) for h, w in sizes},
        "yolov5 by level": maps("raw", 24, made.logits),
        "yolov9 with two heads": {"a": yolov8()["output0"], "b": yolov8()["output0"]},
        "yolox": {"output": np.hstack([made.logits(rows, 4), made.scores(rows, 4)])[None]},
        "yolox by level": maps("reg", 4, made.logits) | maps("obj", 1, made.scores) | maps("cls", 3, made.scores),
        "nanodet": {"cls_score2": np.hstack([made.scores(rows, 3), made.logits(rows, 32)])[None]},
        "picodet by level": maps("cls", 3, made.scores) | maps("reg", 32, made.logits),
        "raw yolov8": maps("out", 64 + 3, made.logits),
        "retinanet by level": maps("cls", 27, made.logits) | maps("reg", 36, made.logits),
        "pp-yoloe": {"boxes": corners[None], "scores": made.scores(rows, 3).T[None]},
        "ssd": {"scores": background, "boxes": (corners / np.float32([96, 64, 96, 64]))[None]},
        "detr": {"pred_logits": made.logits(20, 4)[None], "pred_boxes": queries},
        "rf-detr": {"dets": queries, "labels": made.logits(20, 3)[None]},
        "rows of six": {"output0": np.hstack([boxes, scores[:, None], np.float32(labels)[:, None]])[None]},
        "mmdeploy": {"dets": np.hstack([boxes, scores[:, None]])[None], "labels": labels[None]},
        "efficient nms": {
            "num_dets": np.int32([[20]]),
            "det_boxes": boxes[None],
            "det_scores": scores[None],
            "det_classes": np.int32(labels)[None],
        },
        "torchvision": {"boxes": boxes, "labels": labels, "scores": scores},
        "tensorflow": {
            "detection_boxes": boxes[None] / 100,
            "detection_scores": scores[None],
            "detection_classes": np.float32(labels + 1)[None],
            "num_detections": np.float32([20]),
        },
    }


@pytest.mark.parametrize("family", families())
def test_the_yaml_of_each_family_is_decoded(folder, family):
    """What is written is a model, and its decoder takes the outputs that it was written from."""
    made.saved(folder / "m.onnx", families()[family])
    text, _ = written(folder)
    assert "detections, the best with score" in text.replace("\n# ", " "), text


def test_the_demos_yaml_is_what_is_written_from_its_file(tmp_path, monkeypatch):
    """But for what no file tells: how its speed is measured, and what its accuracy is compared with."""
    demo = config.ROOT / "demo"
    (tmp_path / "config" / "models").mkdir(parents=True)
    shutil.copy(demo / "config" / "config.yaml", tmp_path / "config")
    for name in ("data", "weights"):
        (tmp_path / name).symlink_to(demo / name)
    monkeypatch.chdir(tmp_path)
    new_model.main(["weights/yolo.onnx", "--dataset", "shapes"])
    written, own = (config.load(top / "config" / "models" / "yolo.yaml", "model") for top in (tmp_path, demo))
    told = ("benchmark", "references", "gates")
    assert {key: written[key] for key in written if key not in told} == {
        key: own[key] for key in own if key not in told
    }
