"""Take the README's pictures of the demo's pages with Chromium.

snakemake --cores 2 --directory demo     # makes the pages
python docs/screenshots.py               # or: make screenshots, which does both
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "demo" / "reports"
PICTURES = Path(__file__).with_name("images")
SIZES = {"retinamask": (1200, 1010), "summary": (1200, 760)}


def main() -> None:
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("screenshots.py: error: there is no chromium here; apt-get install chromium")
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, locale="en-GB")
            page.goto((REPORTS / f"{name}.html").as_uri())
            page.screenshot(path=PICTURES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
