"""The page: its texts, its figures, its images; how it looks is in tests/browser."""

import ast
import html.parser
import json
import re
import string

import numpy as np
import pytest
from PIL import Image

import pages
from detport.analysis import matching
from detport.page import charts, gallery, pictures, render, sections, templates, words
from detport.page.render import in_script


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return pages.made(tmp_path_factory.mktemp("page"), images=20)


class Reader(html.parser.HTMLParser):
    """Every element with its attributes, and the text behind each <data>."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.figures: list[tuple[dict, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open = self.open[: len(self.open) - 1 - self.open[::-1].index(tag)] if tag in self.open else self.open

    def handle_data(self, text):
        if self.open and self.open[-1] == "data":
            self.figures.append((self.elements[-1][1], text))


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_every_figure_is_in_the_reports_json(report):
    content = json.loads(report.with_suffix(".json").read_text())
    figures = read(report).figures
    assert len(figures) > 150
    for attributes, _ in figures:
        found = content
        for key in json.loads(attributes["data-from"]):
            found = found[key]
        assert float(attributes["value"]) == found


def test_nothing_comes_from_elsewhere(report):
    """No address but those of data, which the browser is told to refuse as well."""
    for tag, attributes in read(report).elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, name)
    assert "url(" not in (templates.FOLDER / "styles.css").read_text()
    assert "default-src 'none'" in report.read_text()


def test_names_are_text_wherever_they_stand(report):
    """Quotes, angle brackets, an end of a script, and words from right to left."""
    text = report.read_text(encoding="utf-8")
    assert text.count("</script>") == 2, "of the page's own"
    assert "<script>alert" not in text
    assert not [tag for tag, _ in read(report).elements if tag in ("i", "b")]
    assert pages.gallery_in(text)["classes"] == pages.NAMES


def test_json_in_a_script_is_read_back_and_ends_nothing():
    odd = {"</script>": "<!-- & \u2028 '\""}
    assert "<" not in in_script(odd) and json.loads(in_script(odd)) == odd


def used_keys() -> set[str]:
    """Keys of texts in templates, in the script and in Python; some are put together, of which the beginning counts."""
    found = set()
    for path in templates.FOLDER.rglob("*"):
        if path.suffix == ".html":
            found |= set(re.findall(r'\b(?:t|label)\("(\w+)"(?! ~)', path.read_text()))
            found |= {f"{start}*" for start in re.findall(r'\bt\("(\w+_)" ~', path.read_text())}
    found |= set(re.findall(r'text\("(\w+)"(?! \+)', (templates.FOLDER / "script.js").read_text())) | {"js_*"}
    for name in ("sections.py", "charts.py", "lanes.py"):
        tree = ast.parse((templates.FOLDER.parent / name).read_text())
        strings = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= strings & words.texts().keys()
    return found


def test_no_text_is_missing_in_a_language_or_unused():
    texts, used = words.texts(), used_keys()
    starts = tuple(key[:-1] for key in used if key.endswith("*"))
    assert {key for key in used if not key.endswith("*")} <= texts.keys()
    assert [key for key in texts if key not in used and not key.startswith(starts)] == []
    for key, found in texts.items():
        assert found.keys() == words.LANGUAGES.keys(), key
        assert all(isinstance(text, str) and text.strip() for text in found.values()), key
        parts = [{field for _, field, *_ in string.Formatter().parse(text) if field} for text in found.values()]
        assert parts[0] == parts[1], key


def test_every_reason_and_kind_that_the_page_may_say_has_a_text():
    kinds = [
        f"js_{kind}" for kind in ("cls", "loc", "both", "dupe", "bkg", "miss", "true", "found", "ignored", "crowd")
    ]
    reasons = [f"why_{reason}" for reason, _ in (*gallery.PARTS, *gallery.UNJUDGED)]
    reasons += [f"lead_{chosen}" for chosen in ("judged", "unjudged", "preview")]
    verdicts = ["verdict_pass", "verdict_fail", "verdict_undecided", "verdict_not_measured", "verdict_no_gates"]
    titles = [f"section_{section.__name__}" for section in sections.SECTIONS]
    assert {*kinds, *reasons, *verdicts, *titles} <= words.texts().keys()


def test_a_text_escapes_what_is_put_into_it():
    assert words.in_all("span", "on_dataset", dataset="<b>") == (
        '<span class="en" lang="en">on &lt;b&gt;</span><span class="zh" lang="zh-CN">数据集 &lt;b&gt;</span>'
    )


@pytest.mark.parametrize(
    ("value", "digits", "signed", "shown"),
    [
        (0.28149, 3, False, "0.281"),
        (-0.5, 2, True, "\N{MINUS SIGN}0.50"),
        (0.5, 2, True, "+0.50"),
        (-0.0001, 3, True, "0.000"),
        (12345, 0, False, "12\N{THIN SPACE}345"),
    ],
)
def test_figures_as_they_are_shown(value, digits, signed, shown):
    assert words.shown(value, digits, signed) == shown


def test_a_figure_with_nothing_to_find_is_none():
    report = {"accuracy": {"APs": -1.0, "AP": 0.5, "APl": None}}
    assert [words.value(report, "accuracy", key) for key in ("APs", "AP", "APl", "no")] == [None, 0.5, None, None]
    assert "data" not in words.number(report, "accuracy", "APs")


@pytest.mark.parametrize("values", [[0.0], [5.0], [0.013, 0.0131], [3, 1000], [1e-7, 2e-7]])
@pytest.mark.parametrize("zero", [True, False])
def test_an_axis_holds_its_values(values, zero):
    axis = charts.axis(values, "AP", zero)
    assert axis.low <= min(values) and max(values) <= axis.high and axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 12
    assert axis.low == 0 or not zero


def test_the_same_images_are_chosen_again_and_for_a_reason(report):
    chosen = pages.gallery_in(report.read_text(encoding="utf-8"))["pictures"]
    assert len(chosen) >= gallery.LEAST
    assert {reason for picture in chosen for reason in picture["why"]} >= {"worst", "missed", "false", "differ"}
    assert len({picture["id"] for picture in chosen}) == len(chosen)


def test_images_without_ground_truth_are_chosen_by_what_is_seen(tmp_path):
    """And the page says of the accuracy that it was not measured."""
    made = pages.made(tmp_path / "folder", images=20, kind="folder", segm=False)
    text = made.read_text(encoding="utf-8")
    found = pages.gallery_in(text)
    assert {reason for picture in found["pictures"] for reason in picture["why"]} == {"many", "sure", "faint", "differ"}
    assert len(found["pictures"]) >= gallery.LEAST
    first = [picture["rows"][0] for picture in found["pictures"]]
    assert sum(row[1] >= gallery.SURE for row in first[0]) == max(
        sum(row[1] >= gallery.SURE for row in rows) for rows in first
    )
    assert (found["judged"], found["tasks"], set(found["scores"])) == (False, ["bbox"], {gallery.SURE})
    assert json.loads(made.with_suffix(".json").read_text())["verdict"] == "NOT MEASURED"
    assert words.texts()["verdict_not_measured"]["en"] in text


def test_what_masks_share_is_exact():
    """Of a crowd it is the part of the detection that lies in it."""
    box = {"bbox": [0, 0, 10, 10], "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    half = {"bbox": [0, 0, 5, 10], "segmentation": [[0, 0, 5, 0, 5, 10, 0, 10]]}
    aside = {"bbox": [15, 0, 5, 5], "segmentation": [[15, 0, 20, 0, 20, 5, 15, 5]]}
    image = matching.Image(1, [box, aside], [box], [half], (20, 20))
    assert gallery.mask_overlaps(image, image.rows) == [[[0, 0.5], [2, 1.0]]]
    assert gallery.mask_overlaps(image._replace(objects=[], crowds=[]), image.rows) == [[]]


def test_the_parity_of_the_stages_is_shown_where_it_was_measured(report):
    content = json.loads(report.with_suffix(".json").read_text())
    changes = {"before": 41, "lost": 3, "new": 0, "flips": 1, "least_iou": 0.75}
    changes |= {"score_shift": {"largest": 0.25, "p99": 0.125}, "box_shift": None}
    rungs = [{"rung": "exported", "previous": None}, {"rung": "simplified", "previous": {"detections": changes}}]
    content["backends"]["onnxruntime"]["parity"] = {"rungs": rungs}
    content["parity"] = [
        {"backend": "onnxruntime", "rung": "simplified", "verdict": "FAIL", "told": "3 of 41 detections <lost>"}
    ]
    content["backends"]["onnxruntime"]["intervals"] = {"bbox.AP": {"low": 0.125, "high": 0.5, "confidence": 0.95}}
    reader = Reader()
    reader.feed(render.page(content, None))
    shown = {tuple(json.loads(each["data-from"])): text for each, text in reader.figures}
    place = ("backends", "onnxruntime", "parity", "rungs", 1, "previous", "detections")
    assert (shown[(*place, "lost")], shown[(*place, "score_shift", "largest")]) == ("3", "0.250000")
    assert (*place, "box_shift", "largest") not in shown
    assert shown["backends", "onnxruntime", "intervals", "bbox.AP", "high"] == "0.500"
    assert "3 of 41 detections &lt;lost&gt;" in render.page(content, None)


def test_what_the_text_has_no_room_for_is_on_the_page(report):
    """Patches and what they cost, calibration, cards with several devices, what published figures alone say."""
    content = json.loads(report.with_suffix(".json").read_text())
    backend = content["backends"]["onnxruntime"]
    lossy = {"name": "pad_maxpool_with_zero", "matches": 34, "effect": {"logits": {"largest": 5.0, "mean": 0.5}}}
    backend["patches"] = [{"canvas": "800x1216", "patches": [lossy]}]
    settings, excluded = {"method": "minmax"}, {"node": "it is the head"}
    backend["calibration"] = [{"settings": settings, "images": [{"file": "<i>.jpg"}], "of": 80, "excluded": excluded}]
    card = {"devices_per_card": 4, "fps_per_device": 4.48, "fps_card_measured": 17.25}
    backend["performance"] |= card | {"fps_per_device_is": "as printed", "fps_card_measured_is": "all at work"}
    backend["performance"]["other_canvases"] = [{"canvas": "1216x800", "fps": 9.5, "latency_ms": {"mean": 105.0}}]
    published = {"name": "310P against T4", "measure": "fps", "published": 34.49, "compared_with": 9.4, "ratio": 3.67}
    content["published"] = [
        published | {"published_by": "guide", "compared_with_name": "T4", "required": 15.04, "verdict": "PASS"}
    ]
    page = render.page(content, None)
    reader = Reader()
    reader.feed(page)
    shown = {tuple(json.loads(each["data-from"])): text for each, text in reader.figures}
    own = ("backends", "onnxruntime")
    assert shown[*own, "patches", 0, "patches", 0, "matches"] == "34" and "logits differs by up to 5, mean 0.5" in page
    assert shown[*own, "calibration", 0, "of"] == "80" and "&lt;i&gt;.jpg" in page
    assert (shown[*own, "performance", "fps_card_measured"], shown["published", 0, "ratio"]) == ("17.25", "3.67")
    assert shown[*own, "performance", "other_canvases", 0, "fps"] == "9.50"


LICENCES = [
    {"id": 1, "name": "Attribution-NonCommercial-ShareAlike License", "url": "http://creativecommons.org/licenses/by-nc-sa/2.0/"},
    {"id": 3, "name": "Attribution-NonCommercial-NoDerivs License", "url": "http://creativecommons.org/licenses/by-nc-nd/2.0/"},
    {"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"},
    {"id": 6, "name": "", "url": "http://creativecommons.org/licenses/by-nd/2.0/"},
    {"id": 7, "name": "No known copyright restrictions", "url": "http://flickr.com/commons/usage/"},
    {"id": 9, "name": "All rights reserved", "url": ""},
]  # fmt: skip


def test_licences_that_forbid_copies():
    """COCO's, but for two that are like the others."""
    shown = [each["id"] for each in LICENCES if pictures.may_be_shown({"license": each["id"]}, LICENCES, "licensed")]
    assert shown == [1, 4, 7]
    assert pictures.may_be_shown({}, LICENCES, "licensed"), "an image without a licence"
    assert pictures.may_be_shown({"license": 3}, LICENCES, "all")
    assert not pictures.may_be_shown({"license": 1}, LICENCES, "none")


@pytest.mark.parametrize(("choice", "expected"), [("all", 4), ("licensed", 2), ("none", 0)])
def test_images_that_may_not_be_shown_are_blank(tmp_path, choice, expected):
    page = read(pages.made(tmp_path / "page", images=4, segm=False, images_shown=choice))
    assert len([tag for tag, _ in page.elements if tag == "img"]) == expected
    assert len([1 for _, each in page.elements if each.get("class") == "blank"]) == 4 - expected


def test_images_are_made_smaller_until_they_fit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    found, side = pictures.embedded([tmp_path / "noise.png", None, tmp_path / "none.jpg"], False)
    assert side == pictures.STEPS[0][0] and found[1:] == [None, None]
    budget = len(found[0]) // 4
    found, side = pictures.embedded([tmp_path / "noise.png"], False, budget)
    assert len(found[0]) <= budget and side < pictures.SIDE


def test_what_is_drawn_shrinks_with_the_images(tmp_path, monkeypatch):
    """Boxes stay where they are on the image, whatever room there is."""
    monkeypatch.setattr(pages, "SIZE", (600, 500))
    found = []
    for budget in (pictures.BUDGET, 1):
        monkeypatch.setattr(pictures, "BUDGET", budget)
        text = pages.made(tmp_path / f"{budget}", images=2, segm=False).read_text(encoding="utf-8")
        (picture, *_) = pages.gallery_in(text)["pictures"]
        found.append((picture["size"], [value / picture["size"][0] for value in picture["objects"][0][2:6]]))
    assert [size for size, _ in found] == [[512, 427], [256, 213]]
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-3)


def test_the_outline_of_a_mask():
    square = {
        "size": [20, 20],
        "counts": pages.masks.encode(np.pad(np.ones((10, 8), np.uint8), ((5, 5), (6, 6))))["counts"],
    }
    corners = {
        tuple(map(int, each.split(","))) for each in re.findall(r"\d+,\d+", pictures.outline(square, (20, 20), 1.0))
    }
    xs, ys = zip(*corners, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (6, 14, 6, 14)
    assert pictures.outline({"size": [20, 20], "counts": [400]}, (20, 20), 1.0) == ""


def test_the_script_is_short():
    assert (templates.FOLDER / "script.js").stat().st_size < 100_000
    assert all("</" not in (templates.FOLDER / name).read_text() for name in ("script.js", "styles.css"))
