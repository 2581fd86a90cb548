"""From a report and a gallery to the text of the page."""

import json

import jinja2
from markupsafe import Markup

from detport.page import sections, words
from detport.page.templates import FOLDER


def page(report: dict, gallery: dict | None) -> str:
    """The whole page."""
    written = words.of(report)
    shown = [(section.__name__, section(report, written)) for section in sections.SECTIONS]
    return (
        environment(report, written)
        .get_template("page.html")
        .render(
            sections=[(name, values) for name, values in shown if values is not None],
            name=report["model"],
            gallery=gallery,
            data=for_script(gallery),
        )
    )


def preview(report: dict, gallery: dict) -> str:
    """A page of a few images."""
    template = environment(report, words.of(report)).get_template("preview.html")
    return template.render(gallery=gallery, data=for_script(gallery))


def summary(report: dict) -> str:
    """The page of all models."""
    written = words.of(report)
    return (
        environment(report, written)
        .get_template("summary.html")
        .render(
            name="detport",
            models=len({row["model"] for row in report["rows"]}),
            plot=sections.pareto(report["rows"], written),
            data=for_script(None),
        )
    )


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
