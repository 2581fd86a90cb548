"""A comparison as text."""

from detport.comparing import worth

LISTED = 10
MARKS = {worth.BETTER: "better", worth.WORSE: "WORSE", worth.NOISE: "noise", worth.SAME: "", worth.CHANGED: "changed"}
DIGEST = 12  # characters of a digest that are shown


def render(found: dict) -> str:
    """The whole text."""
    lines = [f"{found['worse']} worse, {found['better']} better, beyond noise"]
    lines += [f"only in A: {name}" for name in found["only_before"]]
    lines += [f"only in B: {name}" for name in found["only_after"]]
    for name, model in found["models"].items():
        lines += ["", *model_lines(name, model)]
    return "\n".join(lines)


def model_lines(name: str, model: dict) -> list[str]:
    was, now = model["verdict"]
    dates = " and ".join(model["date"])
    lines = [f"{name}: {was}{'' if was == now else f' -> {now}'}  ({dates})"]
    lines += [f"  backend only in A: {each}" for each in model["only_before"]]
    lines += [f"  backend only in B: {each}" for each in model["only_after"]]
    for gate in model["gates"]:
        told = " -> ".join(gate[key] or "not asked" for key in ("before", "after"))
        lines.append(f"  {MARKS[gate['change']]:<8}gate {gate['name']} on {gate['backend']}: {told}")
    for backend, each in model["backends"].items():
        lines += backend_lines(backend, each)
    reasons = [f"  no intervals: {side}: {why}" for side, why in zip("AB", model["without"], strict=True) if why]
    lines += reasons
    lines += origin_lines(model["provenance"])
    return lines


def backend_lines(name: str, found: dict) -> list[str]:
    """Figures that differ, classes and images that changed most."""
    lines = [f"  {name}"]
    changed = [row for row in found["figures"] if row["change"] != worth.SAME]
    for row in changed:
        lines.append(f"    {MARKS[row['change']]:<8}{row['measure']:<20}{numbers(row)}")
    if not changed:
        lines.append(f"    {'':<8}accuracy is the same, to the last digit")
    for row in found["speed"]:
        lines.append(
            f"    {MARKS[row['change']]:<8}{row['measure']:<20}{row['before']:.2f} -> {row['after']:.2f}"
            f"  x {row['ratio']:.3f}, noise {row['noise']:.0%}"
        )
        for key, both in row["latency_ms"].items():
            lines.append(f"    {'':<8}{f'latency_ms.{key}':<20}{both['before']:.2f} -> {both['after']:.2f}")
    for row in found["classes"][:LISTED]:
        lines.append(f"    class {row['class']} ({row['group']}): {numbers(row)}")
    lines += more(found["classes"], "classes")
    for row in found["images"]:
        lines.append(
            f"    image {row['image_id']}: {row['lost']} lost, {row['new']} new, {row['flips']} of another class,"
            f" scores by {row['score_shift']:.4f}, boxes by {row['box_shift']:.1f} pixels"
        )
    return lines


def numbers(row: dict) -> str:
    """A figure before and after, with the interval of the difference."""
    was, now = ("-" if row[key] is None else f"{row[key]:.4f}" for key in ("before", "after"))
    if row["difference"] is None:
        return f"{was} -> {now}"
    interval = row.get("interval")
    around = f"  {100 * worth.CONFIDENCE:g} % interval {interval[0]:+.4f} to {interval[1]:+.4f}" if interval else ""
    return f"{was} -> {now}  {row['difference']:+.4f}{around}"


def more(rows: list, what: str) -> list[str]:
    return [f"    … and {len(rows) - LISTED} further {what}"] if len(rows) > LISTED else []


def origin_lines(rows: list[dict]) -> list[str]:
    """What the runs were made with, where that differs."""
    if not rows:
        return ["  made with the same files, packages, processor and command"]
    lines = ["  made with"]
    for row in rows:
        digest = row["what"].startswith("sha256")
        was, now = (
            "-" if row[key] is None else row[key][:DIGEST] if digest else row[key] for key in ("before", "after")
        )
        lines.append(f"    {row['what']}: {was} -> {now}")
    return lines
