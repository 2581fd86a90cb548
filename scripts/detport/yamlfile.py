"""YAML files with the place of every key, so that a complaint can name file and line; nothing that YAML can trick with.

A model's yaml may name another one as its `base`, whose sections it changes.
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from detport.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a model
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


def read_places(path: Path) -> tuple[object, Places]:
    """The value of a yaml file, and where each of its keys is."""
    value, lines = read_yaml(path)
    return value, {key: (str(path), line) for key, line in lines.items()}


def read_with_base(path: Path, above: tuple[Path, ...] = ()) -> tuple[object, Places]:
    """A model's yaml over the one that it names as its `base`: sections are merged key by key, all other values and
    lists replace those of the base. `above` are the files that led here."""
    value, places = read_places(path)
    if not isinstance(value, dict) or "base" not in value:
        return value, places
    base = base_file(path, value["base"], position(str(path), places, ("base",)), (*above, path))
    base_value, base_places = read_with_base(base, (*above, path))
    if not isinstance(base_value, dict):
        raise UsageError(f"{base}: expected the sections of a model, because it is the base of {path}")
    return over(base_value, base_places, value, places)


def read_overlaid(paths: list[Path]) -> tuple[object, Places]:
    """The first of some yaml files with the others over it, as Snakemake puts those of --configfile over its own."""
    value, places = read_places(paths[0])
    for path in paths[1:]:
        own, own_places = read_places(path)
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


def read_yaml(path: Path) -> tuple[object, dict[tuple, int]]:
    """The value of a yaml file and the line of every key in it; the same key twice is refused."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; expected a configuration in YAML") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path}: not a text file in UTF-8 ({error})") from error
    value, node = parse_yaml(text, str(path))
    lines: dict[tuple, int] = {}
    for key_path, line in walk(node, ()):
        if key_path in lines:
            first = lines[key_path]
            raise UsageError(f"{path}:{line}: {dotted(key_path)}: the key is there twice (first at line {first})")
        lines[key_path] = line
    return value, lines


def parse_yaml(text: str, source: str) -> tuple[object, yaml.Node | None]:
    """The value of YAML text, and the node that it was made from."""
    try:
        refuse_tricks(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        require_values(node, source)
        return None if node is None else yaml.SafeLoader("").construct_document(node), node
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UsageError(
            f"{where}: not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from error


def refuse_tricks(text: str, source: str) -> None:
    """Refuse what costs far more than it says: aliases, which can stand for gigabytes, and nesting without end."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise UsageError(f"{source}:{line}: *{event.anchor}: aliases are not allowed here; write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UsageError(
                f"{source}:{event.start_mark.line + 1}: nested more than {DEEPEST} deep; this is no setting"
            )


def require_values(node: yaml.Node | None, source: str) -> None:
    """Refuse values that look like a number, a date or a truth value and are none."""
    if isinstance(node, yaml.ScalarNode):
        try:
            yaml.SafeLoader("").construct_object(node)
        except (ValueError, KeyError, AttributeError, IndexError, OverflowError, TypeError) as error:
            shown = node.value if len(node.value) <= 60 else f"{node.value[:60]}…"
            kind = node.tag.rpartition(":")[2]
            where = f"{source}:{node.start_mark.line + 1}"
            raise UsageError(f"{where}: {shown!r} looks like {kind} to YAML and is none; quote it") from error
    elif node is not None:
        for part in node.value:
            for each in part if isinstance(part, tuple) else (part,):
                require_values(each, source)


def require_text_keys(value: object, source: str, places: Places, path: tuple = ()) -> None:
    """Refuse keys that YAML does not take for text, such as 2017 and null."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict) and not isinstance(key, str):
            where = position(source, places, (*path, str(key)))
            raise UsageError(f"{where}: {dotted((*path, key))}: the key {key!r} is not text for YAML; quote it")
        require_text_keys(part, source, places, (*path, key))


def walk(node: yaml.Node | None, path: tuple) -> Iterator[tuple[tuple, int]]:
    """Path and line (from 1) of every key and list entry below a YAML node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from walk(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*path, i), value.start_mark.line + 1
            yield from walk(value, (*path, i))
