"""Pascal VOC: the folder's format and its mistakes, result files, average precision by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detport import lineage
from detport.config import ROOT, load
from detport.datasets import voc as dataset
from detport.errors import Failure, UsageError
from detport.metrics import voc as metric

ANNOTATION = """<annotation><folder>VOC2007</folder><size><width>353</width><height>500</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><pose>Left</pose>{difficult}
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"""


def xml(*objects: str) -> str:
    return ANNOTATION.format(objects="".join(objects))


def thing(name: str, *corners: object, difficult: str = "<difficult>0</difficult>") -> str:
    return OBJECT.format(*corners, name=name, difficult=difficult)


@pytest.fixture
def config(tmp_path: Path) -> dict:
    """Two images, listed in another order than that of their names."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("000012\n000003\n", encoding="utf-8")
    (tmp_path / "Annotations/000012.xml").write_text(xml(), encoding="utf-8")
    (tmp_path / "Annotations/000003.xml").write_text(
        xml(
            thing("dog", 8, 12, 352, 498, difficult="<difficult>1</difficult>"),
            thing("person", 1, 2, 3, 4, difficult=""),
        ),
        encoding="utf-8",
    )
    return {
        "kind": "voc",
        "images": str(tmp_path / "JPEGImages"),
        "annotations": str(tmp_path / "Annotations"),
        "image_set": str(tmp_path / "ImageSets/Main/test.txt"),
    }


def test_index_is_in_the_order_of_the_image_set(config: dict) -> None:
    assert dataset.index_rows(config) == [
        {"image_id": "000012", "file": "000012.jpg", "width": 353, "height": 500},
        {"image_id": "000003", "file": "000003.jpg", "width": 353, "height": 500},
    ]


def test_objects(config: dict) -> None:
    """Boxes are as in the file, parts of an object are no objects, difficult is optional."""
    found = dataset.ground_truth(Path(config["annotations"]), ["000012", "000003"])
    assert list(found) == ["000012", "000003"]
    assert found == {
        "000012": [],
        "000003": [
            {"name": "dog", "box": [8, 12, 352, 498], "difficult": True},
            {"name": "person", "box": [1, 2, 3, 4], "difficult": False},
        ],
    }


def test_names_may_hold_spaces_and_lines_end_as_on_windows(config: dict) -> None:
    path = Path(config["image_set"])
    path.write_bytes("\ufeffa b\r\n\r\n$(x)'\"\r\n".encode())
    assert dataset.image_names(path) == ["a b", "$(x)'\""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no images"),
        ("000003\n000012\n000003\n", "'000003' is there twice"),
        ("../../etc/passwd\n", "not the name of an image"),
        (".\n", "not the name of an image"),
        ("a\0b\n", "not the name of an image"),
        ("000003\n000099\n", r"000099\.xml: no such file"),
    ],
)
def test_wrong_image_set(config: dict, text: str, message: str) -> None:
    Path(config["image_set"]).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        dataset.index_rows(config)


def test_image_set_that_is_not_there_or_no_text(config: dict) -> None:
    Path(config["image_set"]).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"test\.txt: not a text file"):
        dataset.index_rows(config)
    Path(config["image_set"]).unlink()
    with pytest.raises(UsageError, match=r"test\.txt: no such file"):
        dataset.index_rows(config)


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>"""
OUTSIDE = """<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + xml(thing("&b;", 1, 1, 2, 2)), "declares a document type"),
        (OUTSIDE + xml(thing("&a;", 1, 1, 2, 2)), "declares a document type"),
        ("<!DOCTYPE annotation>" + xml(), "declares a document type"),
        (xml(thing("&b;", 1, 1, 2, 2)), "not well-formed XML .*undefined entity"),
        ("", "not well-formed XML"),
        (xml()[:-5], "not well-formed XML"),
        ('<?xml version="1.0" encoding="euc-jp"?><a/>', "not well-formed XML"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "not well-formed XML"),
        ("<annotation/>", "<annotation> has no <size>"),
        ("<a><size><width>3</width></size></a>", "<size> has no <height>"),
        (xml().replace("353", "0"), "correct <size>"),
        (xml().replace("353", "1.5"), "correct <size>"),
        (xml("<object/>"), "<object> has no <bndbox>"),
        (xml(thing("dog", 1, 1, "ten", 2)), "<xmax> is 'ten'"),
        *(
            (xml(thing("dog", 1, 1, text, 2)), f"<xmax> is '{text}'")
            for text in ("nan", "inf", "1_0", "٣", "1e308", "")
        ),
        (xml().replace("353", "1e308"), "<width> is '1e308'"),
        (xml().replace("353", "9" * 5000), f"<width> is '{'9' * 40}'; correct"),
        (xml(thing("dog", 5, 1, 4, 2)), r"box \[5, 1, 4, 2\] ends before it starts"),
    ],
)
def test_wrong_annotation(tmp_path: Path, text: str, message: str) -> None:
    """One line that names the file; nothing in a file makes the reader expand or open anything."""
    path = tmp_path / "000001.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"000001\.xml: .*{message}") as caught:
        dataset.read_annotation(path)
    assert "\n" not in str(caught.value)


def test_fractions_of_later_years_stay_fractions(tmp_path: Path) -> None:
    path = tmp_path / "2011_003353.xml"
    path.write_text(xml(thing("dog", "45.5", "1.0", 100, 120)), encoding="utf-8")
    assert dataset.read_annotation(path)["objects"][0]["box"] == [45.5, 1, 100, 120]


def rules(*classes: str, rounding: str = "files", iou_threshold: float = 0.5) -> dict:
    """Settings of the metric."""
    return {"kind": "voc", "classes": list(classes), "rounding": rounding, "iou_threshold": iou_threshold}


def row(image: str | int, category: int, score: float, *corners: float) -> dict:
    x1, y1, x2, y2 = corners
    return {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


def test_result_files(tmp_path: Path) -> None:
    """Images in the order of the image set, scores descending, 1-based corners; empty files for silent classes."""
    rows = [
        row("b", 1, 0.25, 0, 0, 9, 9),
        row("a", 1, 0.1234, 0.05, 1, 2, 3),
        row("b", 1, 0.7, 9.96, 1, 20, 30),
        row("a", 2, 1.0, 0, 0, 1, 1),
    ]
    settings = rules("cat", "dog", "cow")
    files = metric.comp4({"b": [], "a": []}, rows, settings)
    assert files == {
        "cat": ["b 0.700 11.0 2.0 21.0 31.0", "b 0.250 1.0 1.0 10.0 10.0", "a 0.123 1.1 2.0 3.0 4.0"],
        "dog": ["a 1.000 1.0 1.0 2.0 2.0"],
        "cow": [],
    }
    metric.write_results(tmp_path / "out", ["b", "a"], rows, settings, "test")
    written = {path.name: path.read_text(encoding="utf-8").splitlines() for path in (tmp_path / "out").iterdir()}
    assert written == {f"comp4_det_test_{name}.txt": lines for name, lines in files.items()}


def test_rows_that_cannot_be_scored() -> None:
    with pytest.raises(Failure, match="'c' has detections but is not in the image set"):
        metric.score({"a": []}, [row("c", 1, 0.5, 0, 0, 1, 1)], rules("cat"))
    with pytest.raises(Failure, match=r"category 2 is not in 1\.\.1"):
        metric.score({"a": []}, [row("a", 2, 0.5, 0, 0, 1, 1)], rules("cat"))


float32 = st.floats(-200, 2000, width=32)


@given(st.tuples(float32, float32, float32, float32))
def test_corners_survive_width_and_height(corners: tuple) -> None:
    """x + w is the float32 corner that the network gave, so its rounding to 1 decimal cannot change; and without
    rounding the line holds every digit."""
    found = [row("a", 1, 0.5, *corners)]
    x, y, width, height = found[0]["bbox"]
    (rounded,) = metric.comp4({"a": []}, found, rules("cat"))["cat"]
    assert rounded.split()[2:] == [f"{value + 1:.1f}" for value in corners]
    (whole,) = metric.comp4({"a": []}, found, rules("cat", rounding="none"))["cat"]
    assert [float(value) for value in whole.split()[2:]] == [value + 1 for value in (x, y, x + width, y + height)]


def test_rounding_of_result_files_moves_figures() -> None:
    """Two scores that differ in the fourth decimal: rounded, the false detection comes first, as in the file."""
    truth = {"a": [], "b": objects((1, 1, 10, 10))}
    rows = [row("a", 1, 0.7001, 0, 0, 9, 9), row("b", 1, 0.7004, 0, 0, 9, 9)]
    figures = [metric.score(truth, rows, rules("cat", rounding=how))["voc_area"]["mAP"] for how in ("none", "files")]
    assert figures == [1.0, 0.5]


@pytest.mark.parametrize(("iou_threshold", "expected"), [(0.49, 1.0), (0.5, 0.0)])
def test_a_detection_must_overlap_by_more_than_the_threshold(iou_threshold: float, expected: float) -> None:
    figures = metric.score(
        {"a": objects((1, 1, 10, 10))}, [row("a", 1, 0.5, 0, 0, 9, 4)], rules("cat", iou_threshold=iou_threshold)
    )
    assert figures["voc_area"]["mAP"] == expected


@pytest.mark.parametrize("folder", ["config", "demo/config"])
def test_only_rfcn_rounds(tmp_path: Path, folder: str) -> None:
    """The figures published for it come from result files; any other model's are computed from all digits."""
    path = ROOT / folder / "models" / "rfcn.yaml"
    settings = load(path, "model")["metric"]
    assert (settings["rounding"], settings["iou_threshold"]) == ("files", 0.5)
    (tmp_path / "m.yaml").write_text(path.read_text().replace("  rounding: files", "  "))
    assert load(tmp_path / "m.yaml", "model")["metric"] == settings | {"rounding": "none"}


def objects(*boxes: tuple, difficult: tuple = ()) -> list[dict]:
    return [{"name": "cat", "box": list(box), "difficult": i in difficult} for i, box in enumerate(boxes)]


def curve(truth: dict, *lines: str) -> tuple[list[float], list[float]]:
    precision, recall = metric.precision_recall(truth, "cat", list(lines), 0.5)
    return precision.tolist(), recall.tolist()


def test_each_object_is_found_once() -> None:
    truth = {"a": objects((1, 1, 10, 10), (21, 1, 30, 10)), "b": objects((1, 1, 10, 10))}
    lines = ["a 0.9 1 1 10 10", "a 0.8 1 1 10 10", "b 0.7 50 50 60 60", "b 0.6 1 1 10 10", "unknown 0.5 1 1 10 10"]
    assert curve(truth, *lines) == ([1, 1 / 2, 1 / 3, 2 / 4, 2 / 5], [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_overlap_of_exactly_half_finds_nothing() -> None:
    truth = {"a": objects((1, 1, 10, 10))}
    assert curve(truth, "a 0.9 1 1 10 5") == ([0], [0])
    assert curve(truth, "a 0.9 1 1 10 5.1") == ([1], [1])


def test_difficult_objects_count_neither_way() -> None:
    truth = {"a": objects((1, 1, 10, 10), (21, 1, 30, 10), difficult=(0,))}
    lines = ["a 0.9 1 1 10 10", "a 0.8 1 1 10 10", "a 0.7 21 1 30 10"]
    assert curve(truth, *lines) == ([0, 0, 1], [0, 0, 1])


def test_equal_scores_stay_in_the_order_of_the_file() -> None:
    truth = {"a": objects((1, 1, 10, 10))}
    assert curve(truth, "a 0.5 50 50 60 60", "a 0.5 1 1 10 10") == ([0, 1 / 2], [0, 1])
    assert curve(truth, "a 0.5 1 1 10 10", "a 0.5 50 50 60 60") == ([1, 1 / 2], [1, 1])


def test_recall_of_three_tenths_does_not_reach_its_point() -> None:
    """0.3 < 3 * 0.1 in floating point: 3 of 10 objects earn the points 0, 0.1 and 0.2 only."""
    assert metric.eleven_points(np.ones(3), np.array([1, 2, 3]) / 10) == pytest.approx(3 / 11)
    assert metric.eleven_points(np.ones(4), np.array([1, 2, 3, 4]) / 10) == pytest.approx(5 / 11)


def test_area_takes_the_best_precision_at_each_recall() -> None:
    precision, recall = np.array([1, 1 / 2, 2 / 3]), np.array([1 / 3, 1 / 3, 2 / 3])
    assert metric.area_under(precision, recall) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_classes_without_objects_or_detections() -> None:
    truth = {"a": objects((1, 1, 10, 10))}
    figures = metric.score(truth, [row("a", 2, 0.5, 0, 0, 9, 9)], rules("cat", "dog", "cow"))
    assert figures == {
        "voc07": {"mAP": 0.0, "per_class": {"cat": 0.0, "dog": 0.0, "cow": 0.0}},
        "voc_area": {"mAP": None, "per_class": {"cat": 0.0, "dog": None, "cow": 0.0}},
    }


def test_perfect_detections() -> None:
    truth = {"a": objects((1, 1, 10, 10), (21, 1, 30, 10)), "b": objects((1, 1, 10, 10))}
    rows = [
        {"image_id": image, "category_id": 1, "bbox": [x1 - 1, y1 - 1, x2 - x1, y2 - y1], "score": 0.5}
        for image, found in truth.items()
        for x1, y1, x2, y2 in (each["box"] for each in found)
    ]
    figures = metric.score(truth, rows, rules("cat"))
    assert figures["voc07"]["mAP"] == pytest.approx(1) and figures["voc_area"]["mAP"] == pytest.approx(1)


SETTINGS = rules("dog", "person")


def test_evaluate_reads_the_annotations_of_the_given_images(config: dict) -> None:
    """Of two images with one person and a difficult dog; names of digits alone come from the index as numbers."""
    folder = Path(config["annotations"])
    (folder / "000003.xml").rename(folder / "3.xml")
    rows = [row(3, 2, 0.75, 0, 1, 2, 3)]  # 0-based
    truth = dataset.truth(config, [{"image_id": "000012"}, {"image_id": 3}])
    figures = metric.evaluate(truth, ["000012", 3], rows, SETTINGS, cross_check=False)
    assert figures["voc07"]["per_class"] == pytest.approx({"dog": 0.0, "person": 1.0})
    none = metric.evaluate(truth, ["000012"], [], SETTINGS, cross_check=False)
    assert none["voc07"]["per_class"] == {"dog": 0.0, "person": 0.0}


def test_a_class_that_the_metric_does_not_list_is_refused(config: dict) -> None:
    """Its objects would never be found missing."""
    truth = dataset.truth(config, [{"image_id": "000012"}, {"image_id": "000003"}])
    with pytest.raises(UsageError, match=r"000003\.xml: has a 'dog', which metric\.classes does not list"):
        metric.evaluate(truth, ["000012", "000003"], [], rules("person"), False)


def test_figures_that_are_not_defined_are_said_to_be_so() -> None:
    figures = {
        "voc07": {"mAP": 0.25, "per_class": {"dog": 0.5, "person": 0.0}},
        "voc_area": {"mAP": None, "per_class": {"dog": 0.5, "person": None}},
    }
    rule, rounding, undefined = metric.notes(figures, SETTINGS)
    assert "by 11 points (VOC 2007)" in rule and rule.endswith("at an IoU of 0.5")
    assert rounding.endswith("(metric.rounding: files)")
    assert undefined.startswith("-: not defined")
    assert metric.notes(figures | {"voc_area": {"mAP": 0.5}}, SETTINGS | {"rounding": "none"}) == [rule]


def test_files_of_the_ground_truth(config: dict) -> None:
    """All that the index depends on, and those among them that detections are scored against."""
    folder = Path(config["annotations"])
    assert dataset.scored(config) == (folder, ["000012.xml", "000003.xml"])
    assert dataset.files(config) == [config["image_set"], *(str(folder / f"{i}.xml") for i in ("000012", "000003"))]


def test_what_changes_the_index(config: dict) -> None:
    """Sizes do, objects do not; a file that cannot be read does."""
    path = Path(config["annotations"]) / "000003.xml"
    text = path.read_text()
    before = lineage.signature_of(dataset, config, None)
    path.write_text(text.replace("<xmin>8<", "<xmin>9<"))
    assert lineage.signature_of(dataset, config, None) == before
    path.write_text(text.replace("353", "354"))
    wider = lineage.signature_of(dataset, config, None)
    assert wider != before
    path.unlink()
    assert lineage.signature_of(dataset, config, None) not in (before, wider)


def test_count_is_that_of_the_image_set(config: dict) -> None:
    assert dataset.count(config) == 2
    Path(config["image_set"]).write_text("a b\n\nc\r\n")
    assert dataset.count(config) == 2
