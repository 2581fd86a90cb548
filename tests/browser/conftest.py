"""A headless Chromium for the tests of pages."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import compare
import pages
import summary
from test_comparing import run

FORMS = {"text": "txt", "json": "json", "csv": "csv", "html": "html"}
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """The installed browser, or a skip that says what to do."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("pages were not opened in a browser: there is no chromium here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # In a container root may not use the sandbox; the pages are our own.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser) -> Iterator[Callable]:
    """opened(path, width=…, …): the page in a window of its own, which fails the test if it complains or asks for
    anything from elsewhere."""
    contexts, complaints = [], []

    def open_page(path: Path, width: int = 800, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: complaints.append(f"console: {message.text}"))
        shown.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        shown.on("request", lambda request: complaints.append(request.url) if strange(request.url, path) else None)
        shown.goto(path.as_uri())
        return shown

    def strange(url: str, path: Path) -> bool:
        return not url.startswith("data:") and url.split("#")[0] != path.as_uri()

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    """A page of two backends with masks."""
    return pages.made(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def summary_page(report) -> Path:
    """The summary of three models, of which two are the first with other names and figures."""
    content = json.loads(report.with_suffix(".json").read_text())
    files = []
    for i, name in enumerate(("first", "a_second", "third")):
        for backend in content["backends"].values():
            backend["performance"]["fps"] *= 1 + i
            backend["accuracy"]["bbox"]["AP"] /= 1 + i
        files.append(report.with_name(f"{name}.json"))
        files[-1].write_text(json.dumps(content | {"model": name}))
    outputs = [f"--output-{key}={report.with_name('summary')}.{form}" for key, form in FORMS.items()]
    summary.main(["--reports", *map(str, files), *outputs])
    return report.with_name("summary.html")


@pytest.fixture(scope="session")
def comparison(tmp_path_factory) -> Path:
    """The page of two runs, of which the second is worse; its data is beside it."""
    folder = tmp_path_factory.mktemp("compared")
    before, after = run(folder / "before", {}), run(folder / "after", dict.fromkeys(range(1, 21), 12), fps=7.5)
    changed = json.loads((after / "reports" / "m.json").read_text())
    changed["gates"][0]["verdict"] = changed["verdict"] = "FAIL"
    changed["provenance"]["sha256"]["a folder/truth.json"] = "2" * 64
    (after / "reports" / "m.json").write_text(json.dumps(changed))
    compare.main(
        [str(before), str(after), *(f"--output-{form}={folder / 'compared'}.{form}" for form in ("html", "json"))]
    )
    return folder / "compared.html"
