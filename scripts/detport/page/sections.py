"""The sections of the page: from a report's JSON what a part of templates/sections shows.

A section is a function that takes the report and the page's words and gives the values for the template of its name, or
None where there is nothing to show. One more is one function, one entry of SECTIONS and one template.
"""

from collections.abc import Callable, Iterator

from markupsafe import Markup

from detport.analysis.matching import KINDS
from detport.graph import compare
from detport.page import charts
from detport.page.charts import Series
from detport.page.words import Words

MANY = 12  # classes of which a table shows every pair
CONFUSED = 20  # pairs otherwise
SIZES = ("small", "medium", "large")
TINY = 1e-9


def accuracy(report: dict, words: Words) -> dict | None:
    """Precision over recall of every backend, and all figures of the metric."""
    found = []
    for name, backend in analysed(report):
        for group, curve in backend["analysis"]["curves"].items():
            chosen = [i for i, iou in enumerate(curve["iou"]) if iou in (0.5, 0.75, 0.9) or len(curve["iou"]) == 1]
            x, y = charts.unit("recall"), charts.unit("precision")
            lines = [
                charts.line(Series(points(curve["precision"][i]), style(chosen, i), f"IoU {iou:g}"), x, y)
                for i, iou in enumerate(curve["iou"])
            ]
            found.append(
                {
                    "backend": name,
                    "group": group,
                    "chart": charts.frame(x, y, words.svg, words.label("chart_curves"), lines),
                    "legend": [{"style": style(chosen, i), "name": f"IoU {curve['iou'][i]:g}"} for i in chosen],
                }
            )
    if not any(backend["accuracy"] for backend in report["backends"].values()):
        return None
    notes = dict.fromkeys(note for backend in report["backends"].values() for note in backend["notes"])
    return {"curves": found, "tables": groups(report), "notes": list(notes)}


def points(precision: list[float]) -> list[tuple[float, float]]:
    """Precision at recalls 0, 0.01 … 1."""
    return [(i / (len(precision) - 1), value) for i, value in enumerate(precision)]


def style(chosen: list[int], i: int) -> str:
    return f"series-{chosen.index(i) + 1}" if i in chosen else "faint"


def analysed(report: dict) -> list[tuple[str, dict]]:
    return [(name, backend) for name, backend in report["backends"].items() if backend["analysis"]]


def groups(report: dict) -> list[tuple[str, str]]:
    """Every backend with every group of its figures, as bbox or segm."""
    return [(name, group) for name, backend in report["backends"].items() for group in backend["accuracy"]]


def classes(report: dict, words: Words) -> dict | None:
    """AP of every class, one column for each backend and group, with the class's objects."""
    columns = groups(report)
    if not columns:
        return None
    first, group = columns[0]
    names = list(report["backends"][first]["accuracy"][group]["per_class"])
    analysis = report["backends"][first]["analysis"]
    objects = {row["name"]: i for i, row in enumerate(analysis["classes"])} if analysis else {}
    return {"columns": columns, "names": names, "objects": objects, "first": first}


def sizes(report: dict, words: Words) -> dict | None:
    """AP and AR of small, medium and large objects, where the metric tells them."""
    columns = [(name, group) for name, group in groups(report) if "APs" in report["backends"][name]["accuracy"][group]]
    return {"columns": columns, "sizes": [(size, size[0]) for size in SIZES]} if columns else None


def errors(report: dict, words: Words) -> dict | None:
    """The six kinds of errors, and the AP50 that fixing each would give."""
    columns = [(name, group) for name, backend in analysed(report) for group in backend["analysis"]["errors"]]
    if not columns:
        return None
    gains = [
        report["backends"][name]["analysis"]["errors"][group]["kinds"][kind]["gain"]
        for name, group in columns
        for kind in KINDS
    ]
    return {"columns": columns, "kinds": KINDS, "largest": max([*gains, TINY])}


def scores(report: dict, words: Words) -> dict | None:
    """How many detections are true at which score, and whether the score says so."""
    found = [
        {
            "backend": name,
            "histogram": histogram(backend["analysis"], words),
            "calibration": calibration(backend["analysis"], words),
        }
        for name, backend in analysed(report)
    ]
    return {"parts": found} if found else None


def histogram(analysis: dict, words: Words) -> Markup:
    """The true and the false detections of every bin, one above the other; the height is the square root of the number,
    so that the few good ones are seen beside thousands of poor ones."""
    edges, true, false = (analysis["scores"][key] for key in ("edges", "true", "false"))
    most = max([a + b for a, b in zip(true, false, strict=True)] + [1])
    x, y = charts.unit("score_axis"), charts.axis([most**0.5], "detections_root")
    y = y._replace(ticks=[])
    bars = []
    for i, (right, wrong) in enumerate(zip(true, false, strict=True)):
        sides, whole = (edges[i], edges[i + 1]), (right + wrong) ** 0.5
        part = whole * right / max(right + wrong, 1)
        said = f"{edges[i]:g}–{edges[i + 1]:g}: ✓ {right}, ✕ {wrong}"
        bars.append(charts.column(x, y, sides, (0, part), "is-true", said))
        bars.append(charts.column(x, y, sides, (part, whole), "is-false", said))
    return charts.frame(x, y, words.svg, words.label("chart_scores"), bars)


def calibration(analysis: dict, words: Words) -> Markup:
    """The part of detections that are true over their mean score; on the diagonal the score tells it."""
    x, y = charts.unit("mean_score"), charts.unit("part_true")
    bins = analysis["calibration"]["bins"]
    drawn = [charts.line(Series([(0, 0), (1, 1)], "ideal"), x, y)]
    drawn.append(charts.line(Series([(each["score"], each["right"]) for each in bins], "series-1"), x, y))
    for each in bins:
        said = f"{each['score']:.2f} → {each['right']:.2f} ({each['detections']})"
        drawn += charts.circles(Series([(each["score"], each["right"])], "series-1", said), x, y)
    return charts.frame(x, y, words.svg, words.label("chart_calibration"), drawn)


def confusion(report: dict, words: Words) -> dict | None:
    """What objects of one class are taken for: every pair of a few classes, of many the most frequent."""
    found = []
    for name, backend in analysed(report):
        analysis = backend["analysis"]
        names = [row["name"] for row in analysis["classes"]]
        pairs = {(each["truth"], each["as"]): i for i, each in enumerate(analysis["confusion"])}
        wrong = [
            i
            for i, each in enumerate(analysis["confusion"])
            if each["truth"] != each["as"] and None not in (each["truth"], each["as"])
        ]
        wrong.sort(key=lambda i: -analysis["confusion"][i]["count"])
        totals = [max(row["objects"], 1) for row in analysis["classes"]]
        shades = {
            pair: analysis["confusion"][i]["count"] / totals[pair[0]]
            for pair, i in pairs.items()
            if pair[0] is not None
        }
        found.append(
            {
                "backend": name,
                "names": names,
                "pairs": pairs,
                "shades": shades,
                "whole": 1 < len(names) <= MANY,
                "worst": wrong[:CONFUSED],
            }
        )
    return {"parts": found} if found else None


def speed(report: dict, words: Words) -> dict | None:
    """Frames per second and latencies of every backend; where that is known, their spread and their course."""
    charted = []
    for name, backend in report["backends"].items():
        spread = backend["performance"].get("latency_histogram")
        trace = backend["performance"].get("latency_trace")
        if spread and trace:
            charted.append({"backend": name, "histogram": latencies(spread, words), "trace": over_time(trace, words)})
    cards = [
        name for name, backend in report["backends"].items() if backend["performance"].get("devices_per_card", 1) > 1
    ]
    return {"charts": charted, "plot": speed_accuracy(report, words), "cards": cards}


def latencies(spread: dict, words: Words) -> Markup:
    edges, runs = spread["edges_ms"], spread["runs"]
    x, y = charts.axis(edges, "latency_ms", zero=False), charts.axis(runs, "runs")
    bars = [
        charts.column(
            x, y, (edges[i], edges[i + 1]), (0, count), "bar-1", f"{edges[i]:.3g}–{edges[i + 1]:.3g} ms: {count}"
        )
        for i, count in enumerate(runs)
        if count
    ]
    return charts.frame(x, y, words.svg, words.label("chart_latencies"), bars)


def over_time(trace: dict, words: Words) -> Markup:
    x, y = charts.axis(trace["seconds"], "seconds"), charts.axis(trace["ms"], "latency_ms")
    line = Series(list(zip(trace["seconds"], trace["ms"], strict=True)), "series-1")
    return charts.frame(x, y, words.svg, words.label("chart_trace"), [charts.line(line, x, y)])


def speed_accuracy(report: dict, words: Words) -> Markup | None:
    """Accuracy over frames per second, of several backends and of references that publish both."""
    headline = report["headline"]
    measured = [(name, backend["figures"], "series-1") for name, backend in report["backends"].items()]
    published = [(reference["name"], reference["figures"], "series-2") for reference in report["references"]]
    known = [each for each in measured + published if {"fps", headline} <= each[1].keys()]
    if len([each for each in measured if each in known]) < 2:
        return None
    x = charts.axis([figures["fps"] for _, figures, _ in known], "fps")
    y = charts.axis([figures[headline] for _, figures, _ in known], "AP", zero=False)
    drawn = charts.named(
        [Series([(figures["fps"], figures[headline])], kind, name) for name, figures, kind in known], x, y
    )
    return charts.frame(x, y, words.svg, words.label("chart_speed_accuracy"), drawn)


def pareto(rows: list[dict], words: Words) -> Markup | None:
    """The first figure of every row over its frames per second, and the line of those that no other beats in both."""
    firsts = ((row, next(iter(row["accuracy"].values()), None)) for row in rows)
    known = [(row["fps"], figure, f"{row['model']}, {row['backend']}") for row, figure in firsts if figure is not None]
    if len(known) < 2:
        return None
    x = charts.axis([fps for fps, *_ in known], "fps")
    y = charts.axis([figure for _, figure, _ in known], "AP", zero=False)
    front = [
        each for each in known if not any(a >= each[0] and b >= each[1] and (a, b) != each[:2] for a, b, _ in known)
    ]
    drawn = [charts.line(Series(sorted(each[:2] for each in front), "series-2"), x, y)]
    styles = ["series-2" if each in front else "series-1" for each in known]
    drawn += charts.named([Series([each[:2]], style, each[2]) for each, style in zip(known, styles, strict=True)], x, y)
    return charts.frame(x, y, words.svg, words.label("chart_speed_accuracy"), drawn)


def graph(report: dict, words: Words) -> dict | None:
    """What patches did to the graphs that backends open, what the lossy ones cost, and what int8 was calibrated on."""
    patched = [
        {"backend": name, "canvas": own["canvas"], "graph": i, "patch": k, "name": patch["name"]}
        | {"effects": list(effects(patch))}
        for name, backend in report["backends"].items()
        for i, own in enumerate(backend["patches"])
        for k, patch in enumerate(own["patches"])
    ]
    calibrated = [
        {"backend": name, "graph": i, "method": own["settings"]["method"], "excluded": len(own["excluded"])}
        | {"files": [image["file"] for image in own["images"]]}
        for name, backend in report["backends"].items()
        for i, own in enumerate(backend["calibration"])
    ]
    return {"patched": patched, "calibrated": calibrated} if patched or calibrated else None


def effects(patch: dict) -> Iterator[str]:
    """What a lossy patch does to the outputs, in words."""
    if patch.get("unmeasured"):
        yield patch["unmeasured"]
    for output, change in (patch["effect"] or {}).items():
        yield compare.described(output, change)


def comparison(report: dict, words: Words) -> dict | None:
    """Measured figures beside those of the references."""
    return {} if report["comparison"] else None


def parity(report: dict, words: Words) -> dict | None:
    """What each step from the checkpoint to the compiled model changed, where that was measured."""
    judged = {(row["backend"], row["rung"]): row for row in report.get("parity", [])}
    found = []
    for name, backend in report["backends"].items():
        if backend["parity"]:
            rows = [(each["rung"], judged.get((name, each["rung"]), {})) for each in backend["parity"]["rungs"]]
            rungs = [{"name": rung, "verdict": row.get("verdict"), "told": row.get("told")} for rung, row in rows]
            found.append({"backend": name, "rungs": rungs})
    return {"parts": found} if found else None


def stages(report: dict, words: Words) -> dict | None:
    """What each stage took."""
    took = report["provenance"]["took"]
    return {"largest": max([each["seconds"] for each in took] + [TINY])} if took else None


def provenance(report: dict, words: Words) -> dict | None:
    return {}


def skipped(report: dict, words: Words) -> dict | None:
    """Images that were not scored."""
    found = [name for name, backend in report["backends"].items() if backend["images"]["skipped"]]
    return {"backends": found} if found else None


Section = Callable[[dict, Words], dict | None]
SECTIONS: list[Section] = [
    *(accuracy, classes, sizes, errors, scores, confusion, parity, graph, speed, comparison),
    *(skipped, stages, provenance),
]
