"""From a report and a gallery to the text of the page."""

import json
import math

import jinja2
from markupsafe import Markup

from detport.page import sections, words
from detport.page.templates import FOLDER

NODES = 1000  # rows of a table that a browser still sorts at once


def page(report: dict, gallery: dict | None) -> str:
    """The whole page."""
    written = words.of(report)
    shown = [(section.__name__, section(report, written)) for section in sections.SECTIONS]
    there = [(name, values) for name, values in shown if values is not None]
    return filled("page.html", report, gallery, sections=there, name=report["model"])


def preview(report: dict, gallery: dict) -> str:
    """A page of a few images."""
    return filled("preview.html", report, gallery)


def summary(report: dict) -> str:
    """The page of all models."""
    models = len({row["model"] for row in report["rows"]})
    plot = sections.pareto(report["rows"], words.of(report))
    return filled("summary.html", report, name="detport", models=models, plot=plot)


def comparison(found: dict) -> str:
    """The page of two runs."""
    return filled("compare.html", found, name="detport")


def layers(name: str, head: list[str], rows: list[dict]) -> str:
    """The page of the nodes where error enters, those first that add most."""
    finite = [row["own_error"] for row in rows if row["own_error"] < math.inf]
    values = {"name": name, "shown": NODES, "infinity": math.inf, "largest": max(finite, default=0) or 1}
    return filled("layers.html", {"head": head, "rows": rows}, **values)


def filled(template: str, report: dict, gallery: dict | None = None, **values: object) -> str:
    """A template with its values, those of the report and those that the script reads."""
    found = environment(report, words.of(report)).get_template(template)
    return found.render(gallery=gallery, data=for_script(gallery), **values)


def environment(report: dict, written: words.Words) -> jinja2.Environment:
    """Jinja with the page's templates, in which everything is escaped that is not marked as HTML, and a name that is
    not there is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"report": report, "t": written.text, "label": written.label}
    found.globals |= {"number": written.number, "value": written.value, "inlined": inlined}
    return found


def inlined(name: str) -> Markup:
    """A file of the folder as it is: styles and script, which hold no `</`."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def for_script(gallery: dict | None) -> Markup:
    """All that the script is given."""
    return in_script({"gallery": without_images(gallery), "texts": words.for_script(), "languages": words.LANGUAGES})


def without_images(gallery: dict | None) -> dict | None:
    """What the script reads; the images are in the page itself."""
    if gallery is None:
        return None
    pictures = [{key: each for key, each in picture.items() if key != "image"} for picture in gallery["pictures"]]
    return gallery | {"pictures": pictures}


def in_script(content: dict) -> Markup:
    """JSON that ends no script element, whatever names are in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
