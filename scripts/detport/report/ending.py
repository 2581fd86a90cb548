"""What the end of a run says of a model."""

from detport.report import gates

SHOWN = 3  # warnings


def lines(report: dict, path: str) -> list[str]:
    """The first warnings; then, in one line, verdict, figures, how many warnings, and where the rest is."""
    found = [f"{report['model']}: warning: {line}" for line in report["warnings"][:SHOWN]]
    return [*found, line(report, path)]


def line(report: dict, path: str) -> str:
    """Verdict, figures, warnings, and where the rest is."""
    lost = [f"{row['rung']} on {row['backend']}" for row in report["parity"] if row["verdict"] == gates.FAIL]
    found = [f"{report['model']}: {report['verdict']}" + f" (parity: {', '.join(lost)})" * bool(lost)]
    for name, backend in report["backends"].items():
        numbers = gates.headline(backend["accuracy"]).items()
        figures = [f"{key} {value:.4f}" for key, value in numbers if value is not None]
        simulated = " (FROM A SIMULATOR)" if any(backend["simulator"].values()) else ""
        speed = f"{backend['performance']['fps']:.2f} fps"
        found.append(f"{name}{simulated} {', '.join([*figures, speed])}")
    count = len(report["warnings"])
    if count:
        found.append(f"{count} warning{'s' * (count > 1)}")
    return f"{'; '.join(found)}: {path}"
