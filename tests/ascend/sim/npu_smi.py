"""npu-smi info: the table of the simulated machine's chips, and the shorter forms of it."""

import os
import sys
from typing import NamedTuple

from sim import flags, machine

RULE = "+-------------------+-----------------+------------------------------------------------------+"
DOUBLE = RULE.replace("-", "=")
USAGE = "Usage: npu-smi info [-l | -m | -t board -i NPU [-c CHIP] | -t usages -i NPU [-c CHIP]]"


class Place(NamedTuple):
    """Where a device is."""

    device: int
    name: str
    npu: int
    chip: int


def main(arguments: list[str]) -> int:
    if machine.failure("no_driver") is not None:
        print("DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8005")
        return 1
    if arguments[:1] != ["info"]:
        print(USAGE, file=sys.stderr)
        return 1
    try:
        options = flags.parse(arguments[1:], {"l", "m", "t", "i", "c"}, switches=("l", "m"))
        lines = answer(options)
    except flags.FlagError as error:
        print(f"{error}\n{USAGE}", file=sys.stderr)
        return 1
    machine.announce()
    print("\n".join(lines))
    return 0


def answer(options: dict[str, str]) -> list[str]:
    """The lines of one form of the command."""
    found = places()
    if not options:
        return table(found)
    if list(options) == ["l"]:
        npus = sorted({place.npu for place in found})
        lines = [detail("Total Count", len(npus)), ""]
        for npu in npus:
            lines += [detail("NPU ID", npu), detail("Chip Count", sum(place.npu == npu for place in found)), ""]
        return lines
    if list(options) == ["m"]:
        lines = [columns("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name")]
        for place in found:
            lines.append(columns(place.npu, place.chip, place.device, f"Ascend {place.name}"))
            if place == [other for other in found if other.npu == place.npu][-1]:
                lines.append(columns(place.npu, place.chip + 1, "-", "Mcu"))
        return lines
    if options.get("t") not in ("board", "usages") or "i" not in options or not options.keys() <= {"t", "i", "c"}:
        raise flags.FlagError("these options do not go together")
    wanted = [p for p in found if str(p.npu) == options["i"] and options.get("c", str(p.chip)) == str(p.chip)]
    if not wanted:
        raise flags.FlagError(f"no NPU {options['i']} with chip {options.get('c', 'any')}")
    lines = []
    for place in wanted:
        lines += [detail("NPU ID", place.npu), detail("Chip ID", place.chip)]
        if options["t"] == "board":
            lines += [detail("Chip Type", "Ascend"), detail("Chip Name", place.name)]
        else:
            lines += [detail("DDR Capacity(MB)", 21534), detail("Aicore Usage Rate(%)", 0)]
    return lines


def places() -> list[Place]:
    """Every device with its NPU and chip; the four chips of a 310 card are one NPU."""
    found, names = [], machine.chips()
    npu, chip = -1, 0
    for device, name in enumerate(names):
        chip += 1
        if device == 0 or name != names[device - 1] or chip >= machine.MOST_DEVICES_PER_CARD.get(name, 1):
            npu, chip = npu + 1, 0
        found.append(Place(device, name, npu, chip))
    return found


def table(found: list[Place]) -> list[str]:
    """The layout of the driver: 21 has neither Hugepages nor processes."""
    driver = os.environ.get("ASCEND_SIM_DRIVER", "21.0.3.1" if {p.name for p in found} == {"310"} else "22.0.4")
    old = driver.startswith("21")
    banner = f"npu-smi {driver}   Version: {driver}"
    lines = [RULE, f"| {banner:<89} |", RULE]
    pages = "" if old else "Hugepages-Usage(page)"
    lines.append(row("NPU     Name", "Health", f"Power(W)     Temp(C)           {pages}"))
    lines += [row("Chip    Device", "Bus-Id", "AICore(%)    Memory-Usage(MB)"), DOUBLE]
    for place in found:
        usage = "15.8         42" if old else "15.8         42                0    / 0"
        lines.append(row(f"{place.npu}       {place.name}", "OK", usage))
        bus = f"0000:{0x82 + place.device:02X}:00.0"
        lines.append(row(f"{place.chip}       {place.device}", bus, "0            1074 / 21534"))
        more = any(other.npu == place.npu and other.chip > place.chip for other in found)
        lines.append(RULE if more else DOUBLE)
    return lines if old else lines + processes(found)


def processes(found: list[Place]) -> list[str]:
    """What runs on each card, as the test asks for: ASCEND_SIM_BUSY holds device ids."""
    busy = [int(device) for device in os.environ.get("ASCEND_SIM_BUSY", "").split(",") if device]
    lines = [RULE, row("NPU     Chip", "Process id", "Process name             | Process memory(MB)"), DOUBLE]
    for npu in sorted({place.npu for place in found}):
        own = [place for place in found if place.npu == npu and place.device in busy]
        for place in own:
            lines.append(row(f"{npu}       {place.chip}", "1234", "python                   | 512"))
        if not own:
            lines.append(f"| {f'No running processes found in NPU {npu}':<89} |")
        lines.append(DOUBLE)
    return lines


def row(first: str, second: str, third: str) -> str:
    return f"| {first:<17} | {second:<15} | {third:<52} |"


def detail(name: str, value: object) -> str:
    return f"\t{name:<30} : {value}"


def columns(*cells: object) -> str:
    return "\t" + "".join(f"{cell!s:<31}" for cell in cells).rstrip()
