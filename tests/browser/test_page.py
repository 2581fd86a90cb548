"""Pages as people see them: in a browser, from a file."""

import json
import math

import pytest

import pages
from detport import analysis, classes, detections, metrics
from detport.analysis import matching
from detport.page import render, words

SETTINGS = {"kind": "coco", "iou_types": ["bbox"]}


def serious(results) -> list[tuple[str, list[str]]]:
    """Which rules are broken in earnest, and where."""
    found = [each for each in results.response["violations"] if each["impact"] in ("serious", "critical")]
    return [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize(
    ("width", "scheme", "language"), [(360, "light", "en"), (1600, "dark", "zh-CN"), (800, "light", "zh-CN")]
)
def test_axe_finds_nothing_serious(opened, report, width, scheme, language):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(report, width, color_scheme=scheme, locale=language)
    assert page.evaluate("document.documentElement.lang") == language
    assert serious(Axe().run(page)) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1600, "light")])
def test_the_summary_can_be_sorted_and_filtered(opened, summary_page, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(summary_page, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(Axe().run(page)) == []
    content = json.loads(summary_page.with_suffix(".json").read_text())
    assert [row[0] for row in table(page, "#table table")] == [row["model"] for row in content["rows"]]
    page.click("#table thead th:nth-child(1) button")
    assert table(page, "#table table")[0][0] == "a_second"
    page.fill("#filter", "THIRD pytorch")
    assert page.locator("#table tbody tr:visible").count() == 1
    page.fill("#filter", "")
    assert page.locator("#table tbody tr:visible").count() == 6


@pytest.mark.parametrize(
    ("width", "scheme", "language"), [(360, "dark", "en"), (800, "light", "zh-CN"), (1600, "dark", "en")]
)
def test_two_runs_compared(opened, comparison, width, scheme, language):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(comparison, width, color_scheme=scheme, locale=language)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(Axe().run(page)) == []
    texts = words.texts()
    key = "zh" if language == "zh-CN" else "en"
    marks = page.eval_on_selector_all("#model-1 tbody .verdict", "all => all.map(e => e.innerText.trim())")
    assert {texts["change_worse"][key], texts["change_same"][key]} <= {mark.strip("✕– \n") for mark in marks}
    content = json.loads(comparison.with_suffix(".json").read_text())["models"]["m"]["backends"]["onnxruntime"]
    rows = table(page, "#model-1 table.changes")
    assert [row[1] for row in rows] == [row["measure"] for row in content["figures"]]
    page.click("#model-1 table.changes thead th:nth-child(4) button")
    after = [float(row[3]) for row in table(page, "#model-1 table.changes")]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1600, "light")])
def test_the_nodes_where_error_enters(opened, tmp_path, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    rest = dict.fromkeys(("error_in", "error_out", "least", "largest", "overflow_fp16", "underflow_fp16"), 0.25)
    named = [("Mul", math.inf), ("Conv", 0.5), ("Add", 0.5), ("</script>", 0.0)]
    rows = [
        {"rank": i, "node": f"/level{i}/{kind}", "operator": kind, "tensor": f"t{i}", "own_error": error} | rest
        for i, (kind, error) in enumerate(named, start=1)
    ]
    rows = [row | {"saturated_int8": None} for row in rows]
    (tmp_path / "layers.html").write_text(render.layers("m on int8", ["one against the other"], rows))
    page = opened(tmp_path / "layers.html", width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(Axe().run(page)) == []
    page.click("#nodes thead th:nth-child(4) button")
    assert table(page, "#nodes table")[0][2] == "Mul", "what became infinite is the largest"
    page.click("#nodes thead th:nth-child(4) button")
    assert [row[2] for row in table(page, "#nodes table")] == ["</script>", "Conv", "Add", "Mul"]
    page.fill("#filter", "conv")
    assert page.locator("#nodes tbody tr:visible").count() == 1


def test_the_viewer_has_nothing_serious_either(opened, report):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(report, color_scheme="dark")
    page.click("[data-picture='0']")
    assert serious(Axe().run(page, context="#viewer")) == []


@pytest.mark.parametrize(("kind", "least"), [("report", 150), ("comparison", 80)])
def test_every_figure_is_that_of_the_json(opened, request, kind, least):
    path = request.getfixturevalue(kind)
    content = json.loads(path.with_suffix(".json").read_text())
    shown = opened(path).evaluate(
        "[...document.querySelectorAll('data')].map(e => [e.dataset.from, e.value, e.textContent])"
    )
    assert len(shown) > least
    for place, value, text in shown:
        figure = content
        for key in json.loads(place):
            figure = figure[key]
        assert float(value) == figure
        digits = len(text.partition(".")[2])
        assert float(text.replace("\N{MINUS SIGN}", "-").replace("\N{THIN SPACE}", "")) == round(figure, digits), place


def counts(page) -> list[str]:
    return page.eval_on_selector_all(".card .counts", "all => all.map(e => e.textContent)")


def test_true_false_and_missed_are_those_of_the_analysis(opened, report):
    """The script judges as the evaluation does, at every score."""
    page = opened(report)
    gallery = json.loads(page.text_content("#data"))["gallery"]
    content = json.loads((report.parents[1] / "truth.json").read_text()) | {"source": "truth.json"}
    truth = analysis.in_categories(content, metrics.load("coco").categories(content, SETTINGS))
    part = detections.read(report.parents[1] / gallery["backends"][0] / "0000.json.gz")
    rows, _ = classes.with_ids(part["detections"], truth["categories"])
    for score in (0.0, 0.6):
        set_slider(page, "score", score)
        kept = [row for row in rows if row["score"] >= max(score, gallery["least"])]
        found = {
            image.image_id: (image, matching.match(image))
            for image in matching.images(truth, part["images"], kept, 100)
        }
        expected = []
        for picture in gallery["pictures"]:
            image, matched = found[picture["id"]]
            true = int((matched.kinds == matching.TRUE).sum())
            false = int(((matched.kinds != matching.TRUE) & ~matched.ignored).sum())
            expected.append(f"{true} true · {false} false · {len(image.objects) - true} missed")
        assert counts(page) == expected


def set_slider(page, name: str, value: float) -> None:
    page.eval_on_selector(
        f"[name={name}]", "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_the_kinds_of_errors_are_those_of_the_analysis(opened, report, task):
    """In the table of the viewer, for each detection of an image, by boxes and by masks; and so is the overlap."""
    page = opened(report)
    gallery = json.loads(page.text_content("#data"))["gallery"]
    set_slider(page, "score", 0)
    page.check(f"[name=task][value={task}]")
    page.click("[data-picture='0']")
    shown = [row for row in table(page, "#facts") if row[0] == "Detection"]
    content = json.loads((report.parents[1] / "truth.json").read_text())
    part = detections.read(report.parents[1] / gallery["backends"][0] / "0000.json.gz")
    kept = [row for row in part["detections"] if row["score"] >= gallery["least"]]
    (image,) = matching.images(content, [gallery["pictures"][0]["id"]], kept, 100)
    matched = matching.match(image, task)
    texts = words.texts()
    kinds = [
        texts["js_ignored" if ignored else "js_true" if kind == matching.TRUE else f"js_{matching.KINDS[kind]}"]["en"]
        for kind, ignored in zip(matched.kinds, matched.ignored, strict=True)
    ]
    expected = sorted((f"{row['score']:.2f}", kind) for row, kind in zip(image.rows, kinds, strict=True))
    assert sorted((row[2], row[4]) for row in shown) == expected
    assert len(set(kinds)) > 2
    overlaps = [f"{value:.2f}" for value, about in zip(matched.overlaps, matched.objects, strict=True) if about >= 0]
    assert sorted(row[3] for row in shown if row[3] != "–") == pytest.approx(sorted(overlaps))
    name = {"bbox": "box IoU", "segm": "mask IoU"}[task]
    assert page.text_content("#iou-of") == name
    page.click("#facts tbody tr >> nth=0")
    assert name in page.text_content("#said")


def test_masks_and_boxes_are_judged_apart(opened, report):
    """The masks of the invented detections overlap less than their boxes."""
    page = opened(report)
    by_box = counts(page)
    page.check("[name=task][value=segm]")
    assert counts(page) != by_box
    assert page.locator(".card svg path.mask").count() > 0
    page.uncheck("[name=outlines]")
    assert page.locator(".card svg path.mask").count() == 0


def test_images_without_ground_truth(opened, tmp_path):
    """Detections with their names, and nothing that asks for objects."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(pages.made(tmp_path / "folder", images=20, kind="folder"), 360, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert serious(Axe().run(page)) == []
    assert page.locator("[name=truth], [name=iou], [name=task], .key").count() == 0
    gallery = json.loads(page.text_content("#data"))["gallery"]
    at_first = [sum(row[1] >= 0.3 for row in picture["rows"][0]) for picture in gallery["pictures"]]
    assert counts(page) == [f"{count} detections" for count in at_first]
    page.click("[data-picture='0']")
    assert serious(Axe().run(page, context="#viewer")) == []
    rows = table(page, "#facts")
    assert len(rows) == page.locator("#viewer text.name").count() == at_first[0]
    assert all(len(row) == 4 and row[0] == "Detection" for row in rows)
    page.click("#facts tbody tr >> nth=0")
    assert "IoU" not in page.text_content("#said")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.uncheck("[name=names]")
    page.check("[name=backend][value='1']")
    assert all(count.count("detections") == 2 for count in counts(page))


def table(page, selector: str) -> list[list[str]]:
    return page.eval_on_selector_all(
        f"{selector} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )


def test_toggles_keys_and_clicks(opened, report):
    page = opened(report)
    assert "rect" in page.inner_html(".card svg")
    before = page.locator(".card svg .shape").count()
    page.uncheck("[name=truth]")
    assert 0 < page.locator(".card svg .shape").count() < before
    page.check("[name=backend][value='1']")
    assert page.locator(".card svg .shape.other").count() > 0
    page.click("[data-picture='1']")
    first = page.text_content("#viewer-name")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#viewer-name") != first
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#viewer-name") == first
    page.click("#facts tbody tr >> nth=0")
    assert "IoU" in page.text_content("#said") or "score" in page.text_content("#said")
    assert page.locator("#viewer .shape.is-chosen").count() == 1
    page.keyboard.press("Escape")
    assert not page.evaluate("document.querySelector('#viewer').open")
    page.select_option("[name=class]", "0")
    assert all(" · " in count for count in counts(page))


def test_sorting(opened, report):
    page = opened(report)
    names = [row[0] for row in table(page, "#classes table")]
    page.click("#classes thead th:nth-child(3) button")
    figures = [row[2] for row in table(page, "#classes table")]
    known = [float(figure) for figure in figures if figure != "–"]
    assert known == sorted(known, reverse=True)
    assert figures[len(known) :] == ["–"] * (len(figures) - len(known)), "what has no figure is last"
    page.click("#classes thead th:nth-child(3) button")
    assert [float(row[2]) for row in table(page, "#classes table")[: len(known)]] == sorted(known)
    page.click("#classes thead th:nth-child(1) button")
    assert sorted(row[0] for row in table(page, "#classes table")) == sorted(names)


def test_the_language_is_remembered_and_printed_as_shown(opened, report):
    page = opened(report, locale="en-GB")
    assert page.inner_text("#errors h2") == words.texts()["section_errors"]["en"]
    page.click("#language")
    assert page.inner_text("#errors h2") == words.texts()["section_errors"]["zh"]
    assert page.get_attribute("#next", "aria-label") == words.texts()["label_next"]["zh"]
    page.reload()
    page.emulate_media(media="print")
    assert page.inner_text("#errors h2") == words.texts()["section_errors"]["zh"]
    assert not page.is_visible("#controls") and not page.is_visible(".bar")
    assert page.evaluate("document.documentElement.scrollWidth") <= 800, "nothing is cut off on paper"


@pytest.mark.parametrize(
    "odd",
    [
        {"images": 1, "classes": 1},
        {"noise": None},
        {"noise": None, "segm": True},
        {"classes": 80, "images": 12, "objects": 8},
        {"objects": 0},
        {"kind": "folder", "images": 1},
        {"kind": "folder", "noise": None},
    ],
    ids=[
        *("one image, one class", "no detections", "no detections, masks", "80 classes", "no objects"),
        *("one image alone", "images alone, no detections"),
    ],
)
def test_odd_runs(opened, tmp_path, odd):
    """Nothing is asked for, nothing complains (see `opened`), and no name becomes an element."""
    page = opened(pages.made(tmp_path / "odd", **{"segm": False} | odd), 360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#classes b, #gallery i, main script").count() == 0
    page.click("[data-picture='0']")
    assert page.is_visible("#facts")


@pytest.mark.parametrize(("width", "language"), [(360, "zh-CN"), (1600, "en")])
def test_a_preview(opened, report, tmp_path, width, language):
    """The gallery of a report without its images, under the head of a preview that has much to say."""
    from axe_playwright_python.sync_playwright import Axe

    gallery = pages.gallery_in(report.read_text(encoding="utf-8")) | {"lead": "preview"}
    gallery["pictures"] = [picture | {"image": None, "why": []} for picture in gallery["pictures"]]
    told = {"model": "m </title>", "title": "ONNX <Runtime>", "backend": "onnxruntime", "dataset": "قطة"}
    told |= {"images": 5, "detections": 0, "best": 0.123456, "score": 0.3, "simulator": True}
    told["skipped"] = [{"file": "a <b>.jpg", "reason": "is cut off"}]
    (tmp_path / "preview.html").write_text(render.preview(told, gallery), encoding="utf-8")
    page = opened(tmp_path / "preview.html", width, color_scheme="dark", locale=language)
    assert page.title() == "m </title> · onnxruntime"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(Axe().run(page)) == []
    notices = page.locator(".notice:visible").all_inner_texts()
    assert len(notices) == 3 and "0.123" in notices[1] and "a <b>.jpg" in notices[2]
    page.click("[data-picture='0']")
    assert page.locator("#facts tbody tr").count() > 0


@pytest.mark.parametrize("size", [(160, 240), (240, 120), (160, 120)], ids=["tall", "wide", "as the card"])
def test_an_image_of_any_shape_is_seen_whole(opened, tmp_path, monkeypatch, size):
    monkeypatch.setattr(pages, "SIZE", size)
    page = opened(pages.made(tmp_path / "page", images=1, segm=False))
    card, stage = (page.locator(f".card button{part}").bounding_box() for part in ("", " .stage"))
    for start, side in (("x", "width"), ("y", "height")):
        assert card[start] <= stage[start] + 1
        assert stage[start] + stage[side] <= card[start] + card[side] + 1
    assert stage["width"] / stage["height"] == pytest.approx(size[0] / size[1], rel=0.02)


def test_nothing_moves_while_it_loads(opened, report):
    page = opened(report)
    shift = """() => new Promise(done => { let sum = 0;
        new PerformanceObserver(list => list.getEntries().forEach(e => { sum += e.value; }))
            .observe({type: 'layout-shift', buffered: true});
        setTimeout(() => done(sum), 300); })"""
    assert page.evaluate(shift) < 0.01
