"""The report as text: what one reads in a terminal or a mail. All of it, and all else, is in the report's JSON."""

import shlex
import textwrap
from collections.abc import Iterable

from detport.graph import compare
from detport.report import gates, ladder
from detport.report.fitting import Block, fitted

WIDTH = 110
LINES = 59  # of the text: 60 with the one that says that it is stale
HEADLINES = 6  # figures of a group that are shown, and names in the head
SHOWN = 4  # files in one list
FEW = 5  # lines of warnings, and of what was skipped, which leave the room to figures
LATENCIES = ("mean", "p50", "p99")
WORST_FIRST = (gates.FAIL, gates.UNDECIDED, gates.NOT_MEASURED, gates.PASS)


def render(report: dict) -> str:
    """The whole text of reports/MODEL.txt."""
    rest, backends = f"reports/{report['model']}.json", report["backends"]
    blocks = [
        Block(head(report), []),
        few("WARNINGS", report["warnings"]),
        gate_block(report),
        accuracy_block(backends),
        speed_block(backends),
        comparison_block(report),
        skipped_block(backends),
        origin_block(report),
    ]
    extras = [patch_lines(name, backend["patches"]) for name, backend in backends.items()]
    extras += [parity_lines(name, backend["parity"], report["parity"]) for name, backend in backends.items()]
    extras += [
        calibration_lines(name, each["calibration"], each["images"]["scored"]) for name, each in backends.items()
    ]
    return "\n\n".join("\n".join(lines) for lines in fitted(blocks, extras, LINES, rest)) + "\n"


def head(report: dict) -> list[str]:
    lines = [f"{report['model']}: {report['title']}", f"VERDICT: {report['verdict']}"]
    sample = next((backend["sample"] for backend in report["backends"].values() if backend["sample"]), None)
    if sample:
        lines.append(
            f"!! A SAMPLE: {sample['images']} OF {sample['of']} IMAGES; ONLY INTERVALS DECIDE GATES ON ACCURACY"
        )
    simulated = [name for name, backend in report["backends"].items() if any(backend["simulator"].values())]
    if simulated:
        more = f" AND {len(simulated) - HEADLINES} MORE" if len(simulated) > HEADLINES else ""
        named = f"{', '.join(simulated[:HEADLINES])}{more}"
        lines += wrapped(f"!! FIGURES OF {named} COME FROM A SIMULATOR, NOT FROM A DEVICE", 0, 3)
    return ["=" * WIDTH, *lines, "=" * WIDTH]


def few(heading: str, lines: list[str]) -> Block:
    """Sentences below a heading, of which few are shown; nothing without any."""
    return Block([heading] if lines else [], [wrapped(line) for line in lines], FEW)


def wrapped(line: str, indent: int = 2, hang: int = 4) -> list[str]:
    """A sentence in lines of the text's width, indented, the second and later ones by `hang`; no word is cut."""
    layout = {"initial_indent": " " * indent, "subsequent_indent": " " * hang}
    return textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False, **layout)


def gate_block(report: dict) -> Block:
    """All gates, the worst first, then the rungs of parity, which are gates too, and what was not asked."""
    widest = max([14, *map(len, report["backends"])])
    judged = [(gate["verdict"], gate_lines(gate, widest)) for gate in report["gates"]]
    judged += [(verdict, wrapped(line, hang=15)) for verdict, line in ladder.gate_lines(report["parity"], widest)]
    judged.sort(key=lambda each: WORST_FIRST.index(each[0]))
    items = [lines for _, lines in judged]
    for gate in report["gates_not_asked"]:
        against = f" against {gate['against']}" if gate["against"] else ""
        told = f"not asked    {gate['name']}: for {', '.join(gate['backends'])}{against}, not in this run"
        items.append(wrapped(told))
    none = [] if report["gates"] or report["gates_not_asked"] else [["  none declared"]]
    return Block(["GATES"], [*none, *items])


def gate_lines(gate: dict, widest: int) -> list[str]:
    """A gate with what was measured and what is asked for."""
    measured, required = ("-" if gate[key] is None else f"{gate[key]:.4f}" for key in ("measured", "required"))
    as_much = gate["against"] is not None and gate["ratio"] is not None and gate["margin"] is None
    ratio = f", {gate['ratio']:.2f} times as much" if as_much else ""
    line = (
        f"  {gate['verdict']:<13}{gate['name']:<24}{gate['backend']:<{widest}} {gate['measure']:<10}"
        f"{measured:>9} >= {required}  from {gate['against'] or gate['reference']}{ratio}"
    )
    return [line, *(wrapped(gate["note"], 15, 15) if gate["note"] else [])]


def table_block(heading: str, columns: list[str], rows: list[list], digits: int, notes: Iterable[str] = ()) -> Block:
    """A table whose heading is the name of its first column, and sentences below it."""
    cells = [[f"  {row[0]}", *row[1:]] for row in rows]
    _, *lines = table_lines({"title": "", "columns": [heading, *columns], "rows": cells, "digits": digits})
    first, *others = (line[2:] for line in lines)
    return Block([first], [*([line] for line in others), *map(wrapped, notes)])


def accuracy_block(backends: dict[str, dict]) -> Block:
    """The first figures of every group, with the interval of the very first."""
    measured = {name: backend for name, backend in backends.items() if backend["accuracy"]}
    notes = [
        f"{name}: NOT MEASURED, the dataset has no ground truth; {backend['detections']} detections in"
        f" {scored(backend['images'])} images"
        for name, backend in backends.items()
        if name not in measured
    ]
    if not measured:
        return Block(["ACCURACY"], [wrapped(note) for note in notes])
    notes += [note for backend in measured.values() for note in backend["notes"]]
    names = headlines(next(iter(measured.values()))["accuracy"])
    rows = [
        accuracy_row(group, names, name, backend)
        for group in dict.fromkeys(group for backend in measured.values() for group in backend["accuracy"])
        for name, backend in measured.items()
        if group in backend["accuracy"]
    ]
    around = [each for backend in measured.values() for each in backend["intervals"].values() if each]
    columns = ["", "images", *names]
    if around:
        columns.append(f"{100 * around[0]['confidence']:g} % interval of {names[0]}")
    else:
        rows = [row[:-1] for row in rows]
    return table_block("ACCURACY", columns, rows, 4, dict.fromkeys(notes))


def headlines(accuracy: dict[str, dict]) -> list[str]:
    """Names of the figures that say most: those that a group begins with."""
    names = [name for name, value in next(iter(accuracy.values())).items() if not isinstance(value, dict)]
    return names[:HEADLINES]


def accuracy_row(group: str, names: list[str], name: str, backend: dict) -> list:
    around = backend["intervals"].get(f"{group}.{names[0]}")
    interval = f"{around['low']:.4f} to {around['high']:.4f}" if around else "-"
    figures = [backend["figures"].get(f"{group}.{each}") for each in names]
    return [marked(name, backend, "accuracy"), group, scored(backend["images"]), *figures, interval]


def marked(name: str, backend: dict, what: str) -> str:
    """A backend's name, with a mark where its accuracy or performance is no device's."""
    return f"{name} (SIMULATOR)" if backend["simulator"][what] else name


def scored(images: dict) -> str:
    return f"{images['scored']} of {images['indexed']}"


def speed_block(backends: dict[str, dict]) -> Block:
    """Images per second of every backend, latencies in ms as far as they are known, and what the figures are of."""
    rows, notes = [], []
    for name, backend in backends.items():
        performance = backend["performance"]
        notes += card_notes(name, performance)
        latencies = [performance["latency_ms"].get(key) for key in LATENCIES]
        rows.append([marked(name, backend, "performance"), float(performance["fps"]), *latencies])
        rows[-1].append(performance["fps_is"])
    return table_block("SPEED", ["fps", *(f"{key} ms" for key in LATENCIES), ""], rows, 2, notes)


def card_notes(name: str, performance: dict) -> list[str]:
    """Speed of a card with several devices: one device, and what was measured of all at once, apart from arithmetic."""
    if performance.get("devices_per_card", 1) == 1:
        return []
    one, card = performance["fps_per_device"], performance["fps_card_measured"]
    return [
        f"{name}: one device {one:.2f} fps ({performance['fps_per_device_is']}); card, measured:"
        f" {'-' if card is None else f'{card:.2f} fps'} ({performance['fps_card_measured_is']})"
    ]


def comparison_block(report: dict) -> Block:
    """The first figure of every group and the fps beside those of references, what was measured before what was not;
    and what published figures alone say."""
    first = {name for backend in report["backends"].values() for name in gates.headline(backend["accuracy"])} | {"fps"}
    columns = {"backend": "", "measured": ".4f", "reference": ".4f", "ratio": ".3f", "of": ""}
    rows = [
        [row["figure"], *("-" if row[key] is None else f"{row[key]:{form}}" for key, form in columns.items())]
        for row in sorted(report["comparison"], key=lambda row: row["measured"] is None)
        if row["figure"] in first
    ]
    published = published_lines(report)
    if not rows:
        return Block(["COMPARISON"] if published else [], [wrapped(line) for line in published])
    return table_block("COMPARISON", list(columns), rows, 4, published)


def published_lines(report: dict) -> list[str]:
    """The fps that follow from published speeds, and the gates that published numbers decide by themselves: nothing of
    it was measured here or has a part in the verdict."""
    lines = []
    for reference in report["references"]:
        if reference["arithmetic"]:
            fps, devices = reference["figures"]["fps"], reference["speed"]["devices"]
            note = f" (the factor {devices} is arithmetic: one of {devices} devices was timed)" if devices > 1 else ""
            lines.append(f"published, {reference['name']}: {fps:.2f} fps = {reference['arithmetic']}{note}")
        elif "fps" in reference["figures"]:
            lines.append(f"published, {reference['name']}: {reference['figures']['fps']:g} fps")
    for gate in report["published"]:
        less = f" less {gate['minus']:g}" if gate["minus"] else ""
        lines.append(
            f"{gate['verdict']} (published)  {gate['name']}: {gate['measure']}"
            f" {shown(gate['published'])}/{shown(gate['compared_with'])} = {gate['ratio']:.2f},"
            f" at least {gate['times']:g}{less}; {gate['published_by']} against {gate['compared_with_name']}"
        )
    return lines


def shown(value: float) -> str:
    """Two decimals, as the guides print; less where less was published."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def skipped_block(backends: dict[str, dict]) -> Block:
    """Images that were not scored or not shown whole, and detections that nothing could be said of."""
    lines = []
    for name, backend in backends.items():
        images = backend["images"]
        where = f"{name}: " if len(backends) > 1 else ""
        lines += [f"{where}{image['image_id']} {image['file']!r}: {image['reason']}" for image in images["skipped"]]
        lines += [f"{where}{line}" for line in too_large_lines(backend["too_large"], images["indexed"])]
        counts = ", ".join(f"{category} {count}" for category, count in backend["unscored"].items())
        lines += [f"{where}not scored, because the dataset has no such category: {counts}"] if counts else []
    return few("SKIPPED", lines) if lines else Block(["SKIPPED: nothing"], [])


def too_large_lines(images: list[dict], indexed: int) -> list[str]:
    """Images that the short side's scale would make larger than the network input."""
    done = {"fit": "made smaller to fit it", "crop": "cropped to it, so that objects may be lost"}
    found = {how: [image["file"] for image in images if image["too_large"] == how] for how in done}
    return [
        f"TOO LARGE FOR THE NETWORK INPUT: {len(files)} of {indexed}, {done[how]}: {some(files)}"
        for how, files in found.items()
        if files
    ]


def some(files: list[str]) -> str:
    """The first of some names."""
    return ", ".join(map(repr, files[:SHOWN])) + (f", … (+{len(files) - SHOWN})" if len(files) > SHOWN else "")


def origin_block(report: dict) -> Block:
    """How the same comes out again: the command, what it was given, what it ran on."""
    provenance, name = report["provenance"], report["model"]
    lines = [f"{role} sha256 {digest}" for role, digest in provenance["measured_with"].items()]
    lines.append(f"{provenance['date']}; {', '.join(runners(report['backends']))}")
    if provenance["brought"]:
        lines.append(f"BROUGHT from another machine: {'; '.join(provenance['brought'])}")
    heading = f"REPRODUCE; every figure, class, digest and version: reports/{name}.json, pictures: reports/{name}.html"
    return Block([heading], [command_lines(provenance["command"]), *map(wrapped, lines)])


def command_lines(command: str) -> list[str]:
    """A command line as it can be copied into a shell, also where it takes several lines."""
    try:
        words = map(shlex.quote, shlex.split(command))
    except ValueError:  # no command line, but what somebody has told report.py
        words = command.split()
    lines = wrapped(" ".join(word.replace(" ", "\0") for word in words).strip() or "-")
    return [line.replace("\0", " ") + " \\" * (line is not lines[-1]) for line in lines]


def runners(backends: dict[str, dict]) -> list[str]:
    """What timed the backends: the processor or chip, the tool and its versions."""
    found = []
    for backend in backends.values():
        machine, performance = backend["performance"]["machine"], backend["performance"]
        found += [str(machine[key]) for key in ("chip", "device", "processor") if key in machine]
        found += [f"{key} {value}" for key, value in performance["versions"].items()]
    return list(dict.fromkeys(found))


def patch_lines(name: str, graphs: list[dict]) -> list[str]:
    """Which patches the graphs of a backend have, and what the lossy ones do to the outputs."""
    lines = []
    for graph in graphs:
        for patch in graph["patches"]:
            counts = "".join(f", {count} {kind}" for kind, count in patch["changed"].items())
            lines.append(f"  {patch['name']} in {patch['matches']} places{counts} (canvas {graph['canvas']})")
            if patch.get("unmeasured"):
                lines.append(f"    lossy: NOT MEASURED, {patch['unmeasured']}")
            for output, change in (patch["effect"] or {}).items():
                lines.append(
                    f"    lossy: {compare.described(output, change)} (random image, ONNX Runtime, optimisations off)"
                )
    return [f"PATCHES of the graph for {name}", *lines] if lines else []


def parity_lines(name: str, parity: dict | None, rows: list[dict]) -> list[str]:
    """What every step from the image to the compiled model changes, where that was asked for."""
    if parity is None:
        return []
    found = ladder.table(parity, [row for row in rows if row["backend"] == name])
    notes = [line for note in found.pop("notes") for line in wrapped(note)]
    return [f"PARITY on {name}, each rung beside the one before", *(f"  {line}" for line in table_lines(found)), *notes]


def calibration_lines(name: str, graphs: list[dict], scored: int) -> list[str]:
    """What the graphs of a backend were quantised by, and how many of these images the accuracy is measured on."""
    lines = []
    for graph in graphs:
        settings, files = graph["settings"], [image["file"] for image in graph["images"]]
        how = f"{settings['percentile']:g} {settings['method']}" * (settings["method"] == "percentile")
        lines += [
            f"  {how or settings['method']} of {len(files)} of {graph['of']} images by seed {settings['seed']}"
            f" (canvas {graph['canvas']}); {len(graph['excluded'])} nodes kept in float32 by pattern",
            f"  the images, which are scored too: {some(files)}",
        ]
    return [f"CALIBRATION of {name}; {scored} images are scored", *lines] if lines else []


def table_lines(table: dict) -> list[str]:
    """A metric's table: words to the left, numbers to the right."""
    cells = [table["columns"], *([cell(value, table.get("digits", 3)) for value in row] for row in table["rows"])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    words = [any(isinstance(row[i], str) for row in table["rows"]) for i in range(len(widths))]
    lines = [
        "  ".join(
            f"{each:<{width}}" if word else f"{each:>{width}}"
            for each, width, word in zip(row, widths, words, strict=True)
        ).rstrip()
        for row in cells
    ]
    return [table["title"], *(f"  {line}" for line in lines)]


def cell(value: str | int | float | None, digits: int) -> str:
    """A word, a count or a figure as it is shown."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
