"""Names of classes: where they stand, and which category of a dataset each of them is."""

from collections import Counter
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path

from detport import yamlfile
from detport.errors import UsageError


def text_of(path: Path) -> str:
    """A small text file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; put it there or correct the path") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path}: not a text file in UTF-8 ({error}); replace it") from error


def read_yaml(path: Path) -> dict:
    """A data.yaml as YOLO's tools have it."""
    content, _ = yamlfile.read_yaml(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected the keys of a data.yaml, above all names")
    return content


def read_names(path: Path) -> list[str]:
    """Names of the classes in their order: of a data.yaml the list or the table under `names`, else one per line."""
    if path.suffix in (".yaml", ".yml"):
        names = read_yaml(path).get("names")
        if isinstance(names, dict):
            numbered = {str(key): name for key, name in names.items()}
            if missing := [i for i in range(len(numbered)) if str(i) not in numbered]:
                raise UsageError(f"{path}: names: there is no class {missing[0]}; number them from 0 without gaps")
            names = [numbered[str(i)] for i in range(len(numbered))]
    else:
        names = [line.strip() for line in text_of(path).rstrip().split("\n")]
    if not isinstance(names, list) or not names:
        raise UsageError(f"{path}: names: expected a list of names, or a table of number: name")
    for i, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            raise UsageError(f"{path}: names: class {i} is {name!r}, which is no name for YAML; put it in quotes")
    texts = [one_line(f"{path}: names: class {i}", str(name).strip()) for i, name in enumerate(names)]
    if twice := [name for name, times in Counter(texts).items() if times > 1]:
        raise UsageError(f"{path}: names: two classes are called {twice[0]!r}; rename one")
    return texts


def one_line(where: str, name: str) -> str:
    """A name that takes one line wherever it is printed: in a report, no other may look like a line of it."""
    if len(name.splitlines()) > 1:
        raise UsageError(f"{where}: {name[:40]!r} has several lines; rename it")
    return name


def by_name(categories: Iterable[dict]) -> dict[str, int | str]:
    """Id of every category that has its name alone."""
    categories = list(categories)
    shared = Counter(category["name"] for category in categories)
    return {category["name"]: category["id"] for category in categories if shared[category["name"]] == 1}


def unpaired(classes: Iterable, categories: list[dict], source: str) -> list[str]:
    """What of a model's classes, given by name, no category of the dataset is, and which categories no class is; one
    line each. UsageError if no class has a partner, or one has two."""
    classes, known = [each for each in classes if each is not None], by_name(categories)
    names, ids = {category["name"] for category in categories}, {category["id"] for category in categories}
    named = [each for each in classes if isinstance(each, str) and each not in ids]
    if ambiguous := [name for name in named if name in names - known.keys()]:
        raise UsageError(
            f"{source}: several categories are called {ambiguous[0]!r}; give ids in decode.categories, not names"
        )
    alone = [name for name in named if name not in known]
    if classes and len(alone) == len(classes):
        raise UsageError(
            f"{source}: has none of the model's classes by name, the first is {alone[0]!r};"
            f" {yamlfile.expectation(alone[0], list(known))}. Correct decode.categories"
        )
    taken = {known.get(each, each) for each in classes}
    missed = [category["name"] for category in categories if category["id"] not in taken]
    lines = []
    if alone:
        lines.append(f"classes that are no category of {source}, whose detections are not scored: {', '.join(alone)}")
    if missed:
        lines.append(f"categories of {source} that no class is, whose objects are never found: {', '.join(missed)}")
    return lines


def ids_of(found: Iterable, categories: list[dict]) -> dict:
    """The id of each of the categories that detections have, given by name or by id; without those that a name gives
    and that no category is."""
    known, ids = by_name(categories), {category["id"] for category in categories}
    numbered = {each: each for each in found if not isinstance(each, str) or each in ids}
    return numbered | {each: known[each] for each in found if each not in numbered and each in known}


def with_ids(rows: list[dict], categories: list[dict]) -> tuple[list[dict], dict[str, int]]:
    """The detections with ids in place of names; and how many there are of classes that no category is, which cannot be
    scored and are left out."""
    count = Counter(map(itemgetter("category_id"), rows))
    if str not in {*map(type, count)}:
        return rows, {}
    known = ids_of(count, categories)
    found = [row | {"category_id": known[row["category_id"]]} for row in rows if row["category_id"] in known]
    return found, {name: count[name] for name in sorted(count.keys() - known.keys())}
