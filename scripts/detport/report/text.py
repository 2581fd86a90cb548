"""The report as text."""

import pandas as pd

from detport import metrics
from detport.graph import compare
from detport.report import ladder, statistics

WIDTH = 110
HEADLINES = ("AP", "AP50", "AP75", "mAP", "mean", "p99")  # of a metric's figures and of latencies, shown side by side
DIGITS = 9  # that a figure takes
LISTED = 20  # files in one list; the report's JSON has all


def render(report: dict, metric: dict) -> str:
    """The whole text of reports/MODEL.txt."""
    blocks = [head(report), warning_lines(report["warnings"]), gate_lines(report)]
    blocks.append(side_by_side_lines(report["backends"]))
    for name, backend in report["backends"].items():
        blocks.append(accuracy_lines(name, backend, metric))
        blocks.append(statistics.lines(name, backend["intervals"]))
        blocks.append(patch_lines(name, backend["patches"]))
        blocks.append(parity_lines(name, backend["parity"], report["parity"]))
        blocks.append(calibration_lines(name, backend["calibration"], backend["images"]["scored"]))
        blocks.append(performance_lines(name, backend["title"], backend["performance"]))
        blocks.append(skipped_lines(backend["images"]))
        blocks.append(too_large_lines(backend["too_large"], backend["images"]["indexed"]))
    blocks.append(comparison_lines(report))
    blocks.append(published_lines(report))
    blocks.append(provenance_lines(report["provenance"]))
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def head(report: dict) -> list[str]:
    lines = [f"{report['model']}: {report['title']}", f"VERDICT: {report['verdict']}"]
    sample = next((backend["sample"] for backend in report["backends"].values() if backend["sample"]), None)
    if sample:
        lines.append(
            f"!! A SAMPLE: {sample['images']} OF {sample['of']} IMAGES; ONLY INTERVALS DECIDE GATES ON ACCURACY"
        )
    simulated = [name for name, backend in report["backends"].items() if any(backend["simulator"].values())]
    if simulated:
        lines.append(f"!! FIGURES OF {', '.join(simulated)} COME FROM A SIMULATOR, NOT FROM A DEVICE")
    return ["=" * WIDTH, *lines, "=" * WIDTH]


def warning_lines(warnings: list[str]) -> list[str]:
    """What may be wrong although all went well."""
    return ["WARNINGS", *(f"  {line}" for line in warnings)] if warnings else []


def gate_lines(report: dict) -> list[str]:
    lines = ["GATES"]
    widest = max([14, *(len(gate["backend"]) for gate in report["gates"])])
    for gate in report["gates"]:
        measured, required = ("-" if gate[key] is None else f"{gate[key]:.4f}" for key in ("measured", "required"))
        as_much = gate["against"] is not None and gate["ratio"] is not None and gate["margin"] is None
        ratio = f", {gate['ratio']:.2f} times as much" if as_much else ""
        lines.append(
            f"  {gate['verdict']:<13}{gate['name']:<24}{gate['backend']:<{widest}} {gate['measure']:<10}"
            f"{measured:>9} >= {required}  from {gate['against'] or gate['reference']}{ratio}"
        )
        if gate["note"]:
            lines.append(f"               {gate['note']}")
    for gate in report["gates_not_asked"]:
        against = f" against {gate['against']}" if gate["against"] else ""
        lines.append(f"  not asked    {gate['name']}: for {', '.join(gate['backends'])}{against}, not in this run")
    declared = lines if len(lines) > 1 else [*lines, "  none declared"]
    return declared + ladder.gate_lines(report["parity"])


def side_by_side_lines(backends: dict[str, dict]) -> list[str]:
    """The figures of several backends, a column for each; below one another where a line would be too long."""
    if len(backends) < 2:
        return []
    figures = dict.fromkeys(figure for backend in backends.values() for figure in backend["figures"])
    chosen = [figure for figure in figures if "." not in figure or figure.split(".")[1] in HEADLINES]
    lines, rest = ["BACKENDS SIDE BY SIDE"], list(backends)
    first = max(map(len, chosen), default=0)
    while rest:
        names, width = [], 2 + first
        while rest and (not names or width + 2 + max(len(rest[0]), DIGITS) <= WIDTH):
            width += 2 + max(len(rest[0]), DIGITS)
            names.append(rest.pop(0))
        rows = [[figure, *(backends[name]["figures"].get(figure) for name in names)] for figure in chosen]
        _, *table = table_lines({"title": "", "columns": ["", *names], "rows": rows, "digits": 4})
        lines += table
    return lines


def accuracy_lines(name: str, backend: dict, metric: dict) -> list[str]:
    images, module = backend["images"], metrics.load(metric["kind"])
    if not backend["accuracy"]:
        found = f"{backend['detections']} detections in {images['scored']} of {images['indexed']} images"
        return [f"ACCURACY on {name}: NOT MEASURED, the dataset has no ground truth; {found}"]
    return [
        f"ACCURACY on {name}: {images['scored']} of {images['indexed']} images scored;"
        f" {module.evaluators(backend['cross_checked'])}",
        f"  images that count: {backend['images_counted']}, {module.which_images(metric)}",
        *(f"  {line}" for table in module.tables(backend["accuracy"], metric) for line in table_lines(table)),
        *unscored_lines(backend["unscored"]),
        *(["  !! FROM A SIMULATOR, NOT FROM A DEVICE: this accuracy"] if backend["simulator"]["accuracy"] else []),
    ]


def unscored_lines(unscored: dict[str, int]) -> list[str]:
    """Detections of classes that the model names and the dataset does not have."""
    counts = ", ".join(f"{name} {count}" for name, count in unscored.items())
    return [f"  not scored, because the dataset has no such category: {counts}"] if unscored else []


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
    return [table["title"], *(f"  {line}" for line in lines), *table.get("notes", [])]


def cell(value: str | int | float | None, digits: int) -> str:
    """A word, a count or a figure as it is shown."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


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
    return [f"PARITY on {name}, each rung beside the one before", *(f"  {line}" for line in table_lines(found))]


def calibration_lines(name: str, graphs: list[dict], scored: int) -> list[str]:
    """What the graphs of a backend were quantised by, and how many of these images the accuracy is measured on."""
    lines = []
    for graph in graphs:
        settings, files = graph["settings"], [image["file"] for image in graph["images"]]
        how = f"{settings['percentile']:g} {settings['method']}" * (settings["method"] == "percentile")
        more = f", … (+{len(files) - LISTED})" if len(files) > LISTED else ""
        lines += [
            f"  {how or settings['method']} of {len(files)} of {graph['of']} images by seed {settings['seed']}"
            f" (canvas {graph['canvas']}); {len(graph['excluded'])} nodes kept in float32 by pattern",
            f"  the images, which are scored too: {', '.join(map(repr, files[:LISTED]))}{more}",
        ]
    return [f"CALIBRATION of {name}; {scored} images are scored", *lines] if lines else []


def performance_lines(name: str, title: str, performance: dict) -> list[str]:
    machine = performance["machine"]
    place = f"chip {machine['chip']}" if "chip" in machine else machine.get("device")
    chip = f"{place}; host " if place else ""
    load = f", load before {machine['load_before']}" if "load_before" in machine else ""
    lines = [
        f"PERFORMANCE on {name} ({title}): {performance['fps']:.2f} fps ({performance['fps_is']})",
        f"  latency in ms: {percentiles(performance['latency_ms'])}",
        *card_lines(performance),
        f"  {runs_line(performance)}",
        *other_canvas_lines(performance),
        f"  timed: {performance['timed']}; input: {performance['input']}",
        f"  on {chip}{machine['processor']}, {machine['cores']} cores{load}; {versions_line(performance['versions'])}",
    ]
    lines += [f"  line of {performance['tool']}: {line}" for line in performance.get("lines", [])]
    if performance.get("simulator"):
        lines.append("  !! FROM A SIMULATOR, NOT FROM A DEVICE: this speed")
    return lines


def card_lines(performance: dict) -> list[str]:
    """Speed of a card with several devices: one device, arithmetic and measurement apart."""
    if performance.get("devices_per_card", 1) == 1:
        return []
    measured = "-" if performance["fps_card_measured"] is None else f"{performance['fps_card_measured']:.2f} fps"
    return [
        f"  one device: {performance['fps_per_device']:.2f} fps ({performance['fps_per_device_is']})",
        f"  card, measured: {measured} ({performance['fps_card_measured_is']})",
    ]


def runs_line(performance: dict) -> str:
    """How much was run, as far as it is known."""
    parts = [f"{performance['runs']} runs" if performance["runs"] else "number of runs not stated"]
    if "seconds" in performance:
        parts[0] += f" in {performance['seconds']:.1f} s after {performance['warmup_runs']} warm-up runs"
    parts.append(f"batch {performance['batch']}")
    if "threads" in performance:
        parts.append(f"{performance['threads']} threads")
    return ", ".join(parts)


def versions_line(versions: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in versions.items()) or "versions not stated"


def percentiles(latency: dict) -> str:
    """Those that are known: a tool's log may state the mean alone."""
    return ", ".join(f"{name} {latency[name]:.2f}" for name in ("mean", "p50", "p90", "p99") if name in latency)


def other_canvas_lines(performance: dict) -> list[str]:
    """What the figures are of where a model has several canvases, and those of the others."""
    lines = [
        f"  canvas {other['canvas']}: {other['fps']:.2f} fps, latency in ms: {percentiles(other['latency_ms'])}"
        for other in performance["other_canvases"]
    ]
    return [f"  all this on canvas {performance['canvas']}", *lines] if lines else []


def skipped_lines(images: dict) -> list[str]:
    if not images["skipped"]:
        return ["SKIPPED IMAGES: none"]
    lines = [f"SKIPPED IMAGES: {len(images['skipped'])} of {images['indexed']}"]
    return lines + [f"  {image['image_id']} {image['file']!r}: {image['reason']}" for image in images["skipped"]]


def too_large_lines(images: list[dict], indexed: int) -> list[str]:
    """Images that the short side's scale would make larger than the network input."""
    if not images:
        return ["IMAGES TOO LARGE FOR THE NETWORK INPUT: none"]
    done = {"fit": "made smaller to fit it", "crop": "cropped to it, so that objects may be lost"}
    found = {how: [image["file"] for image in images if image["too_large"] == how] for how in done}
    lines = [f"IMAGES TOO LARGE FOR THE NETWORK INPUT: {len(images)} of {indexed}"]
    for how, files in found.items():
        if files:
            more = f", … (+{len(files) - LISTED})" if len(files) > LISTED else ""
            lines.append(f"  {done[how]}: {', '.join(map(repr, files[:LISTED]))}{more}")
    return lines


def comparison_lines(report: dict) -> list[str]:
    """Measured figures beside those of the references, with the ratio measured / reference."""
    if not report["comparison"]:
        return []
    columns = {"figure": "", "backend": "", "measured": ".4f", "reference": ".4f", "ratio": ".3f", "of": ""}
    rows = [
        ["-" if row[key] is None else f"{row[key]:{form}}" for key, form in columns.items()]
        for row in report["comparison"]
    ]
    table = pd.DataFrame(rows, columns=list(columns)).to_string(index=False, justify="left")
    sources = [f"  {reference['name']}: {reference['source']}" for reference in report["references"]]
    return ["COMPARISON", *(f"  {line}" for line in table.splitlines()), *sources]


def published_lines(report: dict) -> list[str]:
    """The fps that follow from published speeds, and the gates that published numbers decide by themselves."""
    lines = []
    for reference in report["references"]:
        if reference["arithmetic"]:
            devices = reference["speed"]["devices"]
            note = f"  (the factor {devices} is arithmetic: one of {devices} devices was timed)" if devices > 1 else ""
            lines.append(
                f"  {reference['name']}: {reference['figures']['fps']:.2f} fps = {reference['arithmetic']}{note}"
            )
        elif "fps" in reference["figures"]:
            lines.append(f"  {reference['name']}: {reference['figures']['fps']:g} fps, as published")
    for gate in report["published"]:
        less = f" less {gate['minus']:g}" if gate["minus"] else ""
        lines.append(
            f"  {gate['verdict']} (published)  {gate['name']}: {gate['measure']}"
            f" {shown(gate['published'])}/{shown(gate['compared_with'])} = {gate['ratio']:.2f},"
            f" at least {gate['times']:g}{less}; {gate['published_by']} against {gate['compared_with_name']}"
        )
    return (
        ["PUBLISHED FIGURES, computed; nothing of this was measured here or has a part in the verdict", *lines]
        if lines
        else []
    )


def shown(value: float) -> str:
    """Two decimals, as the guides print; less where less was published."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def provenance_lines(provenance: dict) -> list[str]:
    lines = ["PROVENANCE"]
    lines += [f"  {digest}  {name}" for name, digest in provenance["sha256"].items()]
    lines += [
        f"  BROUGHT from another machine: {name}, {told['files']} files, {told['sha256']}"
        for name, told in provenance["brought"].items()
    ]
    for step in provenance["stages"]:
        versions = ", ".join(f"{package} {version}" for package, version in step["versions"].items())
        threads = f", threads {step['threads']}" if step["threads"] else ""
        device = f"{step['device']}, by " if "device" in step else ""
        lines.append(f"  {step['stage']}: {device}{step['processor']}{threads}; {versions}")
    lines.append(f"  command: {provenance['command']}")
    lines.append(f"  date: {provenance['date']}")
    return lines
