"""YAML files with the place of every key, so that a complaint can name file and line; nothing that YAML can trick with.

A model's yaml may name another one as its `base`, whose sections it changes.
"""

import copy
import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.resolver import implicit_resolvers

from detport.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a model
AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+")
DEEPEST = 50  # sections within sections; the deepest of ours is below 10

Places = dict[tuple, tuple[str, int]]  # file and line of every key and list entry


def position(source: str, places: Places, path: tuple) -> str:
    """FILE:LINE of the key, or of the nearest parent that has a line."""
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            file, line = places[path[:length]]
            return f"{file}:{line}"
    return source


def dotted(path: tuple) -> str:
    return ".".join(str(part) for part in path)


def expectation(word: object, known: list[str]) -> str:
    """What was expected in place of an unknown word, the nearest first."""
    near = difflib.get_close_matches(str(word), known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}expected one of {listing(known) or 'nothing: there is none'}"


def listing(values: object) -> str:
    if isinstance(values, str):
        return values
    return ", ".join(str(value) for value in values)  # type: ignore[attr-defined]


def read_with_base(path: Path, above: tuple[Path, ...] = ()) -> tuple[object, Places]:
    """A model's yaml over the one that it names as its `base`: sections are merged key by key, all other values and
    lists replace those of the base. `above` are the files that led here."""
    value, places = read_yaml(path)
    if not isinstance(value, dict) or "base" not in value:
        return value, places
    base = base_file(path, value["base"], position(str(path), places, ("base",)), (*above, path))
    base_value, base_places = read_with_base(base, (*above, path))
    if not isinstance(base_value, dict):
        raise UsageError(f"{base}: expected the sections of a model, because it is the base of {path}")
    return over(base_value, base_places, value, places)


def with_bases(path: Path) -> list[Path]:
    """A model's yaml and all that it is based on."""
    value, places = read_yaml(path)
    if not isinstance(value, dict) or "base" not in value:
        return [path]
    return [path, *with_bases(base_file(path, value["base"], position(str(path), places, ("base",)), (path,)))]


def read_overlaid(paths: list[Path]) -> tuple[object, Places]:
    """The first of some yaml files with the others over it, as Snakemake puts those of --configfile over its own."""
    value, places = read_yaml(paths[0])
    for path in paths[1:]:
        own, own_places = read_yaml(path)
        for each, source in ((value, paths[0]), (own, path)):
            if not isinstance(each, dict):
                raise UsageError(f"{source}: expected keys of a configuration, such as datasets:")
        value, places = over(value, places, own, own_places)
    return value, places


def over(base: dict, base_places: Places, own: dict, places: Places) -> tuple[dict, Places]:
    """`own` over `base`, and where each key of the result is."""
    merged, replaced = merge(base, own)
    kept = {key: place for key, place in base_places.items() if not any(key[: len(top)] == top for top in replaced)}
    return merged, kept | places


def base_file(path: Path, base: object, where: str, chain: tuple[Path, ...]) -> Path:
    """The file of a base; refuse one that is not there or leads back to a file of the chain."""
    if not isinstance(base, str) or not NAME.fullmatch(base):
        raise UsageError(f"{where}: base: {base!r} is no name of a model")
    file = path.with_name(f"{base}.yaml")
    if file in chain:
        circle = " -> ".join(each.stem for each in (*chain, file))
        raise UsageError(f"{where}: base: {circle} goes round in a circle; one of them must stand alone")
    if not file.exists():
        known = sorted(each.stem for each in path.parent.glob("*.yaml") if each != path)
        raise UsageError(f"{where}: base: no model {base!r} in {path.parent}; {expectation(base, known)}")
    return file


def merge(base: dict, own: dict, path: tuple = ()) -> tuple[dict, list[tuple]]:
    """`own` over `base`, and the paths of the values that were taken from `own` as a whole."""
    result, replaced = dict(base), []
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key], deeper = merge(base[key], value, (*path, key))
            replaced += deeper
        else:
            result[key] = value
            replaced.append((*path, key))
    return result, replaced


def read_yaml(path: Path) -> tuple[object, Places]:
    """The value of a yaml file, and where each of its keys is."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; expected a configuration in YAML") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path}: not a text file in UTF-8 ({error})") from error


def read_own(path: Path) -> object:
    """The value of a yaml file of the repository itself, read by libyaml: every program reads a dozen, and that is
    fifteen times as fast. One that is no YAML is read again for the complaint."""
    try:
        return yaml.load(path.read_bytes(), Loader=Fast)
    except yaml.YAMLError:
        return read_yaml(path)[0]


class Fast(yaml.CSafeLoader):
    """With the words and numbers of YAML 1.2, as for all other files."""

    yaml_implicit_resolvers: ClassVar[dict] = {}


for versions, tag, regexp, first in implicit_resolvers:
    if (1, 2) in versions:
        Fast.add_implicit_resolver(tag, regexp, first)


def parse_yaml(text: str, source: str) -> tuple[object, Places]:
    """The value of YAML 1.2 text, and where each of its keys is."""
    value, places = parsed(text, source)
    return copy.deepcopy(value), places


@functools.cache
def parsed(text: str, source: str) -> tuple[object, Places]:
    """The same, once for each text; nobody may change the value."""
    reader = YAML(typ="safe", pure=True)
    reader.Composer, reader.Constructor = PlainComposer, PlainConstructor
    try:
        node = reader.compose(text)
        value = None if node is None else reader.constructor.construct_document(node)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = (getattr(error, "problem", None) or str(error)).splitlines()[0]
        raise UsageError(f"{where}: YAML: {problem.partition(' with value')[0]}") from error  # which may be long
    return value, {key: (source, line) for key, line in walk(node, ())}


class PlainComposer(Composer):
    """Refuses what is no plain value: aliases, which can stand for gigabytes, nesting without end, and tags."""

    depth = 0

    def compose_node(self, parent: Node | None, index: object) -> Node:
        event, problem = self.parser.peek_event(), None
        if isinstance(event, AliasEvent):
            problem = f"*{event.anchor}: aliases are not allowed here; write the value out"
        elif event.tag is not None:
            problem = f"{event.tag}: tags are not allowed here; leave it out"
        elif self.depth == DEEPEST:
            problem = f"nested more than {DEEPEST} deep; this is no setting"
        if problem:
            raise MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class PlainConstructor(SafeConstructor):
    """Refuses values that look like a number, a date or a truth value and are none."""

    def construct_object(self, node: Node, deep: bool = False) -> object:
        try:
            if node.tag.endswith(":int") and AMBIGUOUS.fullmatch(node.value):
                raise ValueError("octal in YAML 1.1, which Snakemake reads, and decimal in 1.2")
            return super().construct_object(node, deep)
        except ValueError as error:
            shown = node.value if len(node.value) <= 60 else f"{node.value[:60]}…"
            problem = f"{shown!r} looks like {str(node.tag).rpartition(':')[2]} to YAML and is none; quote it"
            raise MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def require_text_keys(value: object, source: str, places: Places, path: tuple = ()) -> None:
    """Refuse keys that YAML does not take for text, such as 2017 and null."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict) and not isinstance(key, str):
            where = position(source, places, (*path, str(key)))
            raise UsageError(f"{where}: {dotted((*path, key))}: the key {key!r} is not text for YAML; quote it")
        require_text_keys(part, source, places, (*path, key))


def walk(node: Node | None, path: tuple) -> Iterator[tuple[tuple, int]]:
    """Path and line (from 1) of every key and list entry below a YAML node."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = str(key.value)  # of a list that is a key, nobody's
            yield (*path, name), key.start_mark.line + 1
            yield from walk(value, (*path, name))
    elif isinstance(node, SequenceNode):
        for i, value in enumerate(node.value):
            yield (*path, i), value.start_mark.line + 1
            yield from walk(value, (*path, i))
