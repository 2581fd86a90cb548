"""GFocalV2 against the upstream scripts: network input, detections from tensors and from text."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import decode as decode_stage
from cases import part, read_case
from detport import config, detections, placing, tensors
from detport.datasets import coco as dataset
from detport.decoders.after_nms import decode
from detport.files import write_json
from detport.metrics import coco

CASE = "gfocalv2"
MODEL_YAML = config.ROOT / "config" / "models" / "gfocalv2.yaml"
# A line of COCO's own tools: kind of figure, IoUs, area, detections per image, value.
LINE = re.compile(r"\((A[PR])\) @\[ IoU=(\S+) +\| area= *(\w+) \| maxDets=(\d+) \] = (\S+)")


@pytest.fixture(scope="module")
def folder(case_folder: Callable[[str], Path]) -> Path:
    return case_folder(CASE)


@pytest.fixture(scope="module")
def preprocessed(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    return read_case(folder, "preprocess")


@pytest.fixture(scope="module")
def postprocessed(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    return read_case(folder, "postprocess")


def test_preprocess_is_bit_identical(preprocessed, case_images) -> None:
    case, golden = preprocessed
    model = config.load_model(MODEL_YAML, "preprocess")
    assert [model["input"]["width"], model["input"]["height"]] == case["net_input_wh"]
    assert case["images"]
    for name, spec in case["images"].items():
        tensor, placement = tensors.preprocess(case_images(CASE) / name, model)
        stem = Path(name).stem
        assert list(tensor.shape) == spec["shape"] and tensor.dtype == spec["dtype"] and tensor.nbytes == spec["bytes"]
        assert np.array_equal(tensor.reshape(-1)[golden[f"{stem}_idx"]], golden[f"{stem}_val"]), name
        assert hashlib.sha256(tensor.tobytes()).hexdigest() == spec["sha256"], name
        assert [placement["width"], placement["height"]] == spec["info_line_size_wh"]
        assert placement["scale"] == spec["scale"]
        assert placement["resized"] == spec["resized_wh"]
        assert placement["pad"] == [spec["pad_right"], spec["pad_bottom"]]


@pytest.mark.parametrize("table", ["resize_cases", "resize_cases_640x480"])
def test_sizes_are_truncated_as_upstream(preprocessed, table: str) -> None:
    case = preprocessed[0][table]
    assert case["rows"]
    for width, height, *expected in case["rows"]:
        assert list(placing.fit(width, height, *case["net_input_wh"])[:2]) == expected, (width, height)


def evaluated(folder: Path, case: dict, golden: dict, array: str, which: str) -> dict:
    """The metric's figures of golden detections, as the yaml of the published model computes them."""
    settings = config.load_model(MODEL_YAML, "evaluate")["metric"] | {"images": which}
    keys = ("image_id", "category_id", "bbox", "score")
    rows = [
        dict(zip(keys, row, strict=True))
        for row in zip(*(golden[f"{array}_{key}"].tolist() for key in keys), strict=True)
    ]
    truth = dataset.read(part(folder, "annotations.json"))
    counted = coco.counted(truth, [image["id"] for image in case["images"]], settings)
    return coco.evaluate(truth, counted, rows, settings, cross_check=True)["bbox"]


@pytest.mark.parametrize("array", ["final", "msame"])
def test_metric_over_upstreams_subset(folder: Path, postprocessed, array: str) -> None:
    """The lines that upstream prints, from which images without annotation are missing."""
    case, golden = postprocessed
    settings = config.load_model(MODEL_YAML, "evaluate")["metric"]
    images = [image["id"] for image in case["images"]]
    counted = coco.counted(dataset.read(part(folder, "annotations.json")), images, settings | {"images": "annotated"})
    assert set(counted) == set(case["evaluated_image_ids_upstream"])
    figures = evaluated(folder, case, golden, array, "annotated")
    lines = case["metric"]["msame_lines" if array == "msame" else "upstream_lines"]
    expected = {named(*words): value for *words, value in (LINE.search(line).groups() for line in lines)}
    assert len(expected) == len(lines)
    assert {name: f"{figures[name]:.3f}" for name in expected} == expected


def named(figure: str, iou: str, area: str, count: str) -> str:
    """Our name for the figure of a printed line."""
    if area != "all":
        return f"{figure}{area[0]}"
    return f"AR{count}" if figure == "AR" else {"0.50": "AP50", "0.75": "AP75"}.get(iou, "AP")


def test_metric_over_all_images(folder: Path, postprocessed) -> None:
    case, golden = postprocessed
    figures = evaluated(folder, case, golden, "final", "all")
    del figures["per_class"]
    assert list(figures.values()) == pytest.approx(case["metric"]["stats_all_images_maxdets_100_300_1000"], abs=1e-12)


def through_text(values: np.ndarray, number: str) -> np.ndarray:
    """What remains of float32 values that a tool printed and a script read again."""
    return np.array([float(number % value) for value in values.ravel()], np.float32).reshape(values.shape)


@pytest.mark.parametrize(("array", "number"), [("final", None), ("msame", "%.6g"), ("ais", "%.6f")])
def test_decode(folder: Path, postprocessed, array: str, number: str | None) -> None:
    """Rows in upstream's order; upstream also keeps the zero rows, and leaves images without objects out of
    the arrays that went through text."""
    case, golden = postprocessed
    known = json.loads(part(folder, "annotations.json").read_text())["categories"]
    assert [category["id"] for category in known] == case["category_ids"]
    settings = config.load_model(MODEL_YAML, "decode")["decode"]
    rows = []
    for image in case["images"]:
        if number and image["id"] not in case["evaluated_image_ids_upstream"]:
            continue
        dets, labels = (golden[f"{name}_{image['id']}"] for name in ("dets", "labels"))
        dets = dets if number is None else through_text(dets, number)
        entry = {"image_id": image["id"], "file": f"{image['id']}.jpg", "scale": image["scale"]}
        rows += decode({"dets": dets, "labels": labels}, entry, settings, case["category_ids"])
    check_rows(golden, array, rows)


def check_rows(golden: dict[str, np.ndarray], array: str, rows: list[dict]) -> None:
    valid = golden[f"{array}_score"] > 0
    assert valid.any()
    for key in ("image_id", "category_id", "bbox", "score"):
        expected = golden[f"{array}_{key}"][valid]
        assert np.array_equal(np.array([row[key] for row in rows]), expected), key


def write_outputs(folder: Path, naming: str, stem: str, arrays: tuple[np.ndarray, np.ndarray], number: str) -> None:
    """Both outputs of an image as one of Ascend's tools writes them."""
    for i, array in enumerate(arrays):
        path = folder / naming.format(stem=stem, i=i)
        if naming.endswith(".bin"):
            array.tofile(path)
        else:
            lines = (" ".join((number if array.dtype.kind == "f" else "%d") % x for x in row) for row in array)
            path.write_text("".join(f"{line} \n" for line in lines))


@pytest.mark.parametrize(
    ("naming", "number", "array"),
    [
        ("{stem}_{i}.bin", "", "final"),
        ("{stem}_output_{i}.txt", "%.6g", "msame"),
        ("{stem}_{i}.txt", "%f", "ais"),
    ],
)
def test_the_stage_decodes_what_the_tools_write(tmp_path: Path, postprocessed, naming: str, number: str, array: str):
    """Beside every image lie outputs of another whose name ends in the same digits, as upstream's search mixes up."""
    case, golden = postprocessed
    entries = []
    for image in case["images"]:
        if array == "final" or image["id"] in case["evaluated_image_ids_upstream"]:
            stem = f"{image['id']:012d}"
            found = (golden[f"dets_{image['id']}"], golden[f"labels_{image['id']}"][None])
            write_outputs(tmp_path, naming, stem, found, number)
            for stranger in (f"37{stem}", f"3{image['id']:011d}", str(image["id"])):
                write_outputs(tmp_path, naming, stranger, tuple(x[::-1] * 0 + 1 for x in found), number)
            names = {"image_id": image["id"], "file": f"{stem}.jpg", "bin": f"{stem}.bin"}
            entries.append(names | {key: image[key] for key in ("width", "height", "scale")})
    write_json(tmp_path / "shard.json", {"images": entries, "skipped": []})
    target = tmp_path / "detections.json.gz"
    arguments = ("--model", MODEL_YAML, "--shard", tmp_path, "--outputs", tmp_path, "--output", target)
    decode_stage.main([str(argument) for argument in arguments])
    found = detections.read(target)
    assert found["images"] == [entry["image_id"] for entry in entries]
    check_rows(golden, array, found["detections"])
