"""Measure every claim about speed and memory side by side: a table of ratios with their spread.

    make bench          # the quick ones: prints them, writes bench/measured.json and the table of docs/performance.md
    make bench-full     # the others as well
    make bench-check    # the quick ones against the table that is committed; fails where more than a fifth is lost

A claim is a `side_by_side.Row` in the list ROWS of a file bench/rows_*.py; nothing else names it.
"""

import argparse
import importlib
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import cv2

from detport.errors import UsageError
from detport.files import write_json
from detport.processes import processor
from side_by_side import Measured, Row

BENCH = Path(__file__).resolve().parent
MEASURED = BENCH / "measured.json"
PAGES = {  # the table's heads on each of them, and what its cells say there in other words
    BENCH.parent / "docs" / "performance.md": (
        ("ours / the other", "times", "quartiles", "ours", "the other", "required", "holds"),
        {},
    ),
    BENCH.parent / "docs" / "performance.zh-CN.md": (
        ("我们 / 对照", "倍数", "四分位数", "我们", "对照", "要求", "是否达到"),
        {"yes": "是", "no": "否", "NOT MEASURED": "未测量"},
    ),
}
MARKED = re.compile(r"(<!-- table: measured -->\n).*?(<!-- end -->)", re.DOTALL)
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "pycocotools", "hotcoco", "onnxruntime", "openvino")
LOSS = 0.2  # of a ratio, which is more than what differs from run to run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the slow claims as well")
    parser.add_argument("--only", default="", metavar="REGEX", help="claims whose name or other side matches")
    parser.add_argument("--check", action="store_true", help="compare with bench/measured.json, write nothing")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    chosen = [row for row in rows() if re.search(args.only, label(row)) and (args.full or not row.slow)]
    if not chosen:
        sys.exit(f"--only {args.only}: no claim matches; there are {', '.join(map(label, rows()))}")
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    if args.check:
        sys.exit(check(chosen, measured))
    known = measured["claims"] if measured["processor"] == processor() else {}  # a table is of one processor
    for row in chosen:
        known[label(row)] = outcome(row)
        print(line(label(row), known[label(row)]), flush=True)
    save({label(row): known[label(row)] for row in rows() if label(row) in known})


def rows() -> list[Row]:
    """Every claim of every bench/rows_*.py."""
    names = sorted(path.stem for path in BENCH.glob("rows_*.py"))
    return [row for name in names for row in importlib.import_module(name).ROWS]


def label(row: Row) -> str:
    """What a claim is called, in measured.json as well."""
    return f"{row.name} / {row.against}"


def measure(row: Row) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        return row.measure(Path(folder))


def outcome(row: Row) -> dict:
    """What is kept of a claim; of one that this machine has no units for, why not."""
    try:
        return entry(row, measure(row))
    except UsageError as error:
        return {"not_measured": str(error), "slow": row.slow}


def entry(row: Row, measured: Measured) -> dict:
    """What is kept of a claim: the median of the ratios, and their quartiles."""
    ratios = sorted(measured.ratios)
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    figures = {"ratio": statistics.median(ratios), "low": low, "high": high}
    figures |= {"ours": measured.ours, "other": measured.other}
    return {
        **{key: float(f"{figure:.4g}") for key, figure in figures.items()},
        **{"unit": measured.unit, "rounds": len(ratios), "required": row.required, "most": row.most, "slow": row.slow},
    }


def cells(name: str, kept: dict) -> tuple[str, ...]:
    """Claim, ratio, spread, both sides, what is required, and whether that holds."""
    if "not_measured" in kept:
        return name, "NOT MEASURED", kept["not_measured"], "", "", "", ""
    ours, other = (f"{kept[side]:.4g} {kept['unit']}" for side in ("ours", "other"))
    bounds = [(kept["required"], "≥ {:g} times"), (kept["most"], f"≤ {{:g}} {kept['unit']}")]
    wanted = ", ".join(text.format(bound) for bound, text in bounds if bound is not None)
    spread = f"{kept['low']:.3g} – {kept['high']:.3g}"
    return name, f"{kept['ratio']:.3g}", spread, ours, other, wanted, ("yes" if holds(kept) else "no") if wanted else ""


def holds(kept: dict) -> bool:
    """Whether a claim is what it is required to be."""
    enough = kept["required"] is None or kept["ratio"] >= kept["required"]
    return enough and (kept["most"] is None or kept["ours"] <= kept["most"])


def line(name: str, kept: dict) -> str:
    """A claim as it is printed."""
    if "not_measured" in kept:
        return f"{name}: NOT MEASURED: {kept['not_measured']}"
    name, ratio, spread, ours, other, wanted, held = cells(name, kept)
    verdict = f"   {wanted}: {held}" if wanted else ""
    return f"{name:<72}{ratio:>8} times ({spread}) {ours:>12} {other:>12}{verdict}"


def save(known: dict) -> None:
    """Write the figures, and the pages' tables of them."""
    versions = {package: version(package) for package in PACKAGES}
    write_json(MEASURED, {"processor": processor(), "versions": versions, "claims": known})
    for path in PAGES:
        path.write_text(page(path), encoding="utf-8")


def page(path: Path) -> str:
    """A page with the figures of measured.json."""
    text = path.read_text(encoding="utf-8")
    return MARKED.sub(lambda mark: f"{mark[1]}\n{table(*PAGES[path])}\n\n{mark[2]}", text)


def table(heads: tuple[str, ...], words: dict[str, str]) -> str:
    """Markdown of what was measured, and on what."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    found = [cells(f"{name} (full)" if kept["slow"] else name, kept) for name, kept in measured["claims"].items()]
    said = [[words.get(cell, cell) for cell in each] for each in found]
    lines = [f"| {' | '.join(line)} |" for line in (heads, ("---",) * len(heads), *said)]
    versions = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    return "\n".join(lines) + f"\n\n{measured['processor']}; {versions}"


def check(chosen: list[Row], measured: dict) -> str | None:
    """What has become slower than the committed table says; what seems to be is measured a second time."""
    losses = list(lost(chosen, measured["claims"]))
    there, here = measured["processor"], processor()
    other = "" if here == there else f" (of {there}, this is {here}: ratios differ between processors)"
    return f"slower than {MEASURED.name}{other}: {'; '.join(losses)}" if losses else None


def lost(chosen: list[Row], known: dict) -> Iterator[str]:
    """A text for every claim that has lost more than LOSS of its ratio, twice."""
    for row in chosen:
        name = label(row)
        if name not in known:
            print(f"{name}: not in {MEASURED.name} yet; make bench measures it")
            continue
        if "not_measured" in known[name]:
            continue
        bar = known[name]["ratio"] * (1 - LOSS)
        for _ in range(2):
            now = outcome(row)
            print(line(name, now), flush=True)
            if "not_measured" in now or now["ratio"] >= bar:
                break
        else:
            yield f"{name} {now['ratio']:.3g} times, was {known[name]['ratio']:.3g}"


if __name__ == "__main__":
    main()
