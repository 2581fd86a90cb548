"""R-FCN's detections and Pascal VOC's figures against the upstream scripts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cases import difference, read_case
from detport import config
from detport.decoders import rfcn as decoder
from detport.metrics import voc

CASE = "rfcn"
MODEL_YAML = config.ROOT / "config" / "models" / "rfcn.yaml"
OUTPUTS = ["rois", "cls_prob", "bbox_pred"]


@pytest.fixture(scope="module")
def detections(case_folder: Callable[[str], Path]) -> tuple[dict, dict[str, np.ndarray]]:
    return read_case(case_folder(CASE), "postprocess")


def options(case: dict) -> dict:
    rules = case["rules"]
    return {
        "background": "first",
        "box_stds": rules["std"],
        "score_above": 0.0,
        "nms_iou": rules["nms"],
        "max_detections": rules["max_per_image"],
    }


def decoded(detections: tuple[dict, dict[str, np.ndarray]]) -> dict[str, list[dict]]:
    """Rows of every image of the case."""
    case, golden = detections
    rows = {}
    for name, entry in case["images"].items():
        image = {key: entry[key] for key in ("width", "height", "scale")}
        image |= {"image_id": name, "file": f"{name}.jpg", "resized": entry["resized_wh"]}
        outputs = {key: golden[f"{name}_{key}"] for key in OUTPUTS}
        rows[name] = decoder.decode(outputs, image, options(case), list(range(1, len(case["classes"]))))
    return rows


def test_decode(detections) -> None:
    case, golden = detections
    assert case["images"]
    for name, rows in decoded(detections).items():
        expected = golden[f"{name}_det"]
        boxes = np.array([row["bbox"] for row in rows])
        boxes[:, 2:] += boxes[:, :2]
        assert [row["category_id"] for row in rows] == expected[:, 0].tolist()
        assert np.array_equal(np.array([row["score"] for row in rows], np.float32), expected[:, 5])
        assert difference({"box": expected[:, 1:5]}, "box", boxes) < 1e-6
        assert {row["image_id"] for row in rows} == {name} and len(rows) == case["images"][name]["detections"]


def test_result_files(detections) -> None:
    """Of the golden detections: a decoder's last bit may be another digit where a coordinate is rounded to one."""
    case, golden = detections
    rows = []
    for name in case["images"]:
        for label, *corners, score in golden[f"{name}_det"].tolist():
            x1, y1, x2, y2 = corners
            rows.append(
                {"image_id": name, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
    files = voc.comp4({name: [] for name in case["images"]}, rows, settings(case["classes"]))
    assert case["result_lines"]
    for name, lines in case["result_lines"].items():
        assert files[name][: len(lines)] == lines


def settings(classes: list[str]) -> dict:
    """The published model's rules for its classes, of which the first is the background."""
    return config.load_model(MODEL_YAML, "evaluate")["metric"] | {"classes": classes[1:]}


def truth(case: dict) -> dict[str, list[dict]]:
    return {
        image: [{"name": name, "box": box, "difficult": bool(difficult)} for name, *box, difficult in objects]
        for image, (_, _, objects) in case["images"].items()
    }


def test_evaluation(detections) -> None:
    """AP of every class by both metrics, the means, and the result files on the way."""
    classes, case = detections[0]["classes"][1:], detections[0]["voc_eval"]
    rows = [
        {"image_id": image, "category_id": classes.index(name) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for name, found in case["detections"].items()
        for image, score, x1, y1, x2, y2 in found
    ]
    rules = settings(detections[0]["classes"])
    files = voc.comp4(truth(case), rows, rules)
    assert {name: files[name] for name in case["lines"]} == case["lines"]
    figures = voc.score(truth(case), rows, rules)
    for metric, key in (("voc07", "ap07"), ("voc_area", "ap_area")):
        expected = {name: entry[key] for name, entry in case["ap"].items()}
        found = figures[metric]["per_class"]
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert list(found) == classes
        main = np.mean([found[name] for name in case["main_classes"]])
        assert main == pytest.approx(case["map07_main" if metric == "voc07" else "map_area_main"], abs=1e-12)
    assert figures["voc07"]["mAP"] == pytest.approx(case["mean_ap07_20"], abs=1e-12)
    undefined = any(entry["ap_area"] is None for entry in case["ap"].values())
    assert (figures["voc_area"]["mAP"] is None) == undefined


def test_evaluation_of_equal_scores(detections) -> None:
    case = detections[0]["voc_eval"]
    rules = settings(detections[0]["classes"])
    figures = voc.score_files(truth(case), case["ties"]["lines"], rules["iou_threshold"])
    for metric, key in (("voc07", "ap07"), ("voc_area", "ap_area")):
        assert figures[metric]["per_class"] == pytest.approx(case["ties"][key], abs=1e-12)
