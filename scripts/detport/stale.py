"""Which files on disk are stale, why, and what becomes of them.

A file is current if its record tells the settings, code and versions in force, if it is as it was written, if what a
person brought for it has not changed, and if all that it was made from is current and has the same content. All else is
stale: it is made again, and from the first moment of the run that does so it is gone, or says that it is stale.
"""

import glob
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from detport import lineage, made
from detport.files import atomic, remove
from detport.lineage import Product, Source

SHOWN = 60  # characters of a setting in a reason
AGAIN = "what it was made from is made again"
# Of a setting that looks as if less would follow from it, what is used again and why not more.
REUSED = {
    ("index_dataset", "sample"): "; weights, graphs and compiled models are used again, shards and detections are not,"
    " because each is of a part of the whole index"
}
REPORTS = Path("reports")
STALE = "STALE"


def find(products: Sequence[Product], threads: int | None = None) -> dict[str, str]:
    """What is on disk and stale, by path, with the reason. `threads` is how many the speed is to be measured with, if
    that is known."""
    expected, by_path = lineage.identities(products), {product.path: product for product in products}
    records = {product.path: made.read(Path(product.path)) for product in products}
    found: dict[str, str] = {}
    for product in products:
        if Path(product.path).exists():
            record = records[product.path]
            reason = (
                other_recipe(product, record, expected[product.path], by_path)
                or changed(product, record, by_path)
                or other_inputs(product, record, by_path, records, found)
                or other_threads(record, threads)
            )
            if reason:
                found[product.path] = reason
    return found


def behind(product: Product, by_path: Mapping[str, Product]) -> Iterator[Product]:
    """The product and the folders that it was made from, which may be gone: its record speaks for them too."""
    yield product
    for paths in product.inputs.values():
        for path in paths:
            if path in by_path and by_path[path].folder:
                yield from behind(by_path[path], by_path)


def other_recipe(product: Product, record: dict | None, expected: str, by_path: Mapping[str, Product]) -> str | None:
    """The reason if the record is not that of the configuration in force."""
    if record is None:
        return "nothing tells what made it"
    if record["identity"] == expected:
        return None
    for each in behind(product, by_path):
        before = record["recipes"].get(each.recipe["stage"])
        if before and before != each.recipe:
            return difference(before, each.recipe)
    return AGAIN


def difference(before: dict, now: dict) -> str:
    """What changed between two recipes of a stage, in a few words."""
    stage = now["stage"]
    for key in dict.fromkeys((*before["settings"], *now["settings"])):
        old, new = before["settings"].get(key), now["settings"].get(key)
        if old != new:
            return f"{stage}: {changed_setting(key, old, new)}{REUSED.get((stage, key), '')}"
    if before["code"] != now["code"]:
        return f"{stage}: its code changed"
    package = next(
        key
        for key in (*now["versions"], *before["versions"])
        if before["versions"].get(key) != now["versions"].get(key)
    )
    return f"{stage}: {package} {before['versions'].get(package)} -> {now['versions'].get(package)}"


def changed_setting(key: str, old: object, new: object) -> str:
    """A setting before and now, as deep as only one of a section's differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        inner = [each for each in dict.fromkeys((*old, *new)) if old.get(each) != new.get(each)]
        if len(inner) == 1:
            return changed_setting(f"{key}.{inner[0]}", old.get(inner[0]), new.get(inner[0]))
    texts = [str(each) for each in (old, new)]
    return f"{key} {texts[0]} -> {texts[1]}" if max(map(len, texts)) <= SHOWN else f"{key} changed"


def changed(product: Product, record: dict, by_path: Mapping[str, Product]) -> str | None:
    """The reason if the file was changed after it was made, or what a person brought for it."""
    path = Path(product.path)
    name = made.changed_file(path if record["folder"] else path.parent, record["files"])
    if name:
        return f"{name} was changed after it was made"
    for each in behind(product, by_path):
        for role, source in each.sources.items():
            if reason := changed_source(source, record["sources"].get(role)):
                return reason
    return None


def changed_source(source: Source, recorded: dict | None) -> str | None:
    """The reason if files that a person brought are not those on record."""
    if recorded is None:
        return f"it was made from something else than {source.folder}"
    names = recorded["files"].keys() if source.names is None else set(source.names)
    name = min(names ^ recorded["files"].keys(), default=None) or made.changed_file(source.folder, recorded["files"])
    if name is None and recorded.get("listing") in (None, made.listing(source.folder)):
        return None
    if source.signature is not None and source.signature() == recorded["signature"]:
        return None
    return f"{source.folder / (name or '')} changed"


def other_inputs(
    product: Product,
    record: dict,
    by_path: Mapping[str, Product],
    records: Mapping[str, dict | None],
    stale_ones: Mapping[str, str],
) -> str | None:
    """The reason if something that it was made from is stale, missing, or not what it was then."""
    for each in behind(product, by_path):
        for role, paths in each.inputs.items():
            there = [path for path in paths if not by_path[path].folder or Path(path).exists()]
            if any(path in stale_ones for path in there):
                return AGAIN
            missing = next((path for path in there if not Path(path).exists()), None)
            if missing:
                return f"{missing} is missing"
            if there and record["inputs"].get(role) != made.content([records[path] for path in there]):
                return f"it was made from another {paths[0]}"
    return None


def other_threads(record: dict, threads: int | None) -> str | None:
    """The reason if a speed was measured with another number of threads."""
    before = record["trail"][-1].get("threads")
    if record["stage"] != "benchmark" or threads in (None, before) or before is None:
        return None
    return f"benchmark: threads {before} -> {threads}"


def summary(found: Mapping[str, str]) -> list[str]:
    """One line for files of a folder that are stale for the same reason; what follows from others is not told."""
    named = {made.told_by(path): reason for path, reason in found.items() if reason != AGAIN}
    told = Counter((str(Path(path).parent), reason) for path, reason in named.items())
    first = {(str(Path(path).parent), reason): path for path, reason in reversed(named.items())}
    return [
        f"stale: {first[folder, reason] if count == 1 else f'{count} files in {folder}'}: {reason}"
        for (folder, reason), count in told.items()
    ]


def invalidate(paths: Iterable[str]) -> None:
    """Remove files that are about to be made again, in this order; a report says instead that it is stale."""
    for path in map(Path, paths):
        if path.parent == REPORTS and path.suffix == ".txt" and path.exists():
            mark(path)
        else:
            remove(path)
            remove(made.record_file(path))


def mark(report: Path) -> None:
    """Say on the first line of a report's text that it is stale, and leave no other form of it."""
    for other in REPORTS.glob(f"{glob.escape(report.stem)}.*"):
        if other not in (report, made.record_file(report)):
            remove(other)
    text = report.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(STALE):
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"{STALE}: since {now} this is being made again, because something behind it changed or failed.\n"
        with atomic(report) as partial:
            partial.write_text(line + text, encoding="utf-8")
    remove(made.record_file(report))
