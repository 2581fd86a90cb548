"""docs/configuration.md is in step with the schemas."""

import pytest

import tables
from detport import schemas


def test_the_tables_are_those_of_the_schemas():
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text) == text, "make docs writes them"


def test_every_plugin_has_its_table():
    text = tables.PAGE.read_text(encoding="utf-8")
    for room in ("networks", "decoders", "metrics", "backends", "compilers", "graph/patches"):
        for kind in schemas.kinds(room):
            assert f"\n`{kind}`: {schemas.plugin(room, kind)['title']}" in text


def test_a_table_has_key_value_default_and_meaning():
    schema = {
        "required": ["a"],
        "properties": {
            "a": {"type": "integer", "minimum": 1, "description": "how many", "details": "More is slower"},
            "b": {
                "type": "object",
                "names": "WHO",
                "additionalProperties": {"properties": {"c": {"enum": ["x", "y"], "default": "x"}}},
            },
            "d": {"type": "array", "items": {"properties": {"e": {"type": ["number", "null"], "default": None}}}},
        },
    }
    assert list(tables.rows(schema, "")) == [
        ("`a`", "integer ≥ 1", "required", "how many. More is slower"),
        ("`b.WHO.c`", "`x`, `y`", "`x`", ""),
        ("`d[].e`", "number or null", "`null`", ""),
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number > 0, ≤ 1"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}, "3 × number"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "integer by name"),
        ({"oneOf": [{"enum": ["all"]}, {"type": "array", "items": {"type": "integer"}}]}, "`all`, or list of integer"),
        ({"const": 5}, "`5`"),
        ({"type": "boolean"}, "true, false"),
    ],
)
def test_a_value_in_words(part, words):
    assert tables.value(part) == words
