"""Write the tables of docs/configuration.md from the schemas, each between two marks.

    python docs/tables.py        # or: make docs

Before a table stands <!-- table: WHAT -->, behind it <!-- end -->. WHAT is a schema of config/schemas, for all of its
keys, or with names behind it, as in `model export,simplify`, for these; a room, as decoders, for every plugin in it; or
stages, for what each stage reads.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from detport import config, schemas

PAGE = Path(__file__).with_name("configuration.md")
MARKED = re.compile(r"(<!-- table: ([^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)
TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true, false", "null": "null"}


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page with every table made again."""
    return MARKED.sub(lambda mark: f"{mark[1]}\n{made(mark[2])}\n\n{mark[3]}", text)


def made(what: str) -> str:
    """The table, or tables, of a mark."""
    name, *chosen = what.split()
    if name == "stages":
        return stages()
    if (schemas.LIBRARY / name).is_dir():
        return "\n\n".join(plugin_table(name, kind) for kind in schemas.kinds(name))
    if "/" in name:
        return plugin_table(*name.rsplit("/", 1))
    schema = schemas.schema_of(name)
    if chosen:
        schema = schema | {"properties": {key: schema["properties"][key] for key in chosen[0].split(",")}}
    return table(list(rows(schema, "")))


def plugin_table(room: str, kind: str) -> str:
    """What a plugin is, and the keys of its own."""
    schema = schemas.plugin(room, kind)
    keys = schemas.described(room, kind).get("properties", {})  # those of parts have tables of their own
    own = schema | {"properties": {key: schema["properties"][key] for key in keys}}
    found = [row for row in rows(own, "") if row[1] != f"`{kind}`"]  # the one that names it
    only = f", for {', '.join(schema['families'])} alone: {schema['elsewhere']}" if "families" in schema else ""
    parts = f" Its further keys are {' and '.join(schema['parts'])}, below." if "parts" in schema else ""
    return f"`{kind}`: {schema['title']}{only}.{parts}" + (f"\n\n{table(found)}" if found else "")


def table(lines: list[tuple[str, ...]]) -> str:
    """Markdown of rows."""
    head = [("key", "value", "default", "meaning"), ("---",) * 4]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in [*head, *lines])


def rows(schema: dict, prefix: str) -> Iterator[tuple[str, ...]]:
    """Key, value, default and meaning of every key of a section, those of its sections included."""
    # An empty part is a key that plugins share, described where their section is.
    for key, part in ((key, part) for key, part in schema.get("properties", {}).items() if part):
        name = f"{prefix}{key}"
        if "null" in part.get("type", "") or not list(inner(part, name)):
            default = "required" if key in schema.get("required", []) else shown(part)
            yield f"`{name}`", value(part), default, meaning(part)
        yield from inner(part, name)


def inner(part: dict, name: str) -> Iterator[tuple[str, ...]]:
    """The rows of a section, of a list of sections or of sections under names of the user's."""
    yield from rows(part, f"{name}.")
    for form, key in (("items", f"{name}[]"), ("additionalProperties", f"{name}.{part.get('names', 'NAME')}")):
        if isinstance(part.get(form), dict):
            yield from inner(part[form], key)


def shown(part: dict) -> str:
    """A default, if there is one."""
    default = part.get("default")
    if default is None or default == "":
        return f"`{json.dumps(default)}`" if "default" in part else ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def meaning(part: dict) -> str:
    """What a key means, and what there is to say of it besides."""
    return ". ".join(part[key] for key in ("description", "details") if key in part)


def value(part: dict) -> str:
    """What a key may be, in words."""
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{each if isinstance(each, str) else json.dumps(each)}`" for each in part["enum"])
    if "oneOf" in part and "type" not in part:
        return ", or ".join(value(form) for form in part["oneOf"])
    kinds = part.get("type", "object")
    kind, *others = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join([one_kind(kind, part), *(TYPES[each] for each in others)])


def one_kind(kind: str, part: dict) -> str:
    """A kind of value with its limits."""
    if kind == "array":
        count, items = part.get("minItems"), value(part["items"])
        return f"{count} × {items}" if count and count == part.get("maxItems") else f"list of {items}"
    if kind == "object":
        return f"{value(part['additionalProperties'])} by name" if part.get("additionalProperties") else "section"
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}" if kind == "integer" else f"{low}..{high}"
    above = f" > {part['exclusiveMinimum']}" if "exclusiveMinimum" in part else ""
    least = f" ≥ {low}" if low is not None else ""
    most = f", ≤ {high}" if high is not None else ""
    return f"{TYPES[kind]}{above}{least}{most}"


def stages() -> str:
    """What each stage reads."""
    own = {family: schemas.plugin("backends", family)["properties"] for family in schemas.kinds("backends")}
    lines = ["| stage | sections of the model's yaml | keys of the backend's yaml |", "| --- | --- | --- |"]
    for name, stage in config.STAGES.items():
        keys = [key for keys in own.values() for key, part in keys.items() if name in part.get("stages", [])]
        parts = (stage.sections, dict.fromkeys([*stage.backend, *keys]))
        cells = [", ".join(f"`{each}`" for each in part) for part in parts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
