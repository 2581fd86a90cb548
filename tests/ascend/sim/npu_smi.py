"""npu-smi info: the table of the simulated machine's chips."""

import os
import sys

from sim import machine

RULE = "+-------------------+-----------------+------------------------------------------------------+"
DOUBLE = RULE.replace("-", "=")


def main(arguments: list[str]) -> int:
    if machine.failure("no_driver") is not None:
        print("DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8005")
        return 1
    if arguments[:1] != ["info"] or len(arguments) > 1:
        print("Usage: npu-smi info", file=sys.stderr)
        return 1
    machine.announce()
    names = machine.chips()
    old = os.environ.get("ASCEND_SIM_DRIVER", "21.0.3.1" if set(names) == {"310"} else "22.0.0").startswith("21")
    print(RULE)
    if old:
        print(f"| {'npu-smi 21.0.3.1   Version: 21.0.3.1':<89} |\n{RULE}")
    pages = "" if old else "Hugepages-Usage(page)"
    print(row("NPU     Name", "Health", f"Power(W)     Temp(C)           {pages}"))
    print(row("Chip    Device", "Bus-Id", "AICore(%)    Memory-Usage(MB)"))
    print(DOUBLE)
    npu, chip = -1, 0
    for device, name in enumerate(names):
        chip += 1
        if device == 0 or name != names[device - 1] or chip >= machine.MOST_DEVICES_PER_CARD.get(name, 1):
            npu, chip = npu + 1, 0
        usage = "15.8         42" if old else "15.8         42                0    / 0"
        print(row(f"{npu}       {name}", "OK", usage))
        print(row(f"{chip}       {device}", f"0000:{0x82 + device:02X}:00.0", "0            1074 / 21534"))
        last = device + 1 == len(names) or chip + 1 >= machine.MOST_DEVICES_PER_CARD.get(name, 1)
        print(DOUBLE if last else RULE)
    return 0


def row(first: str, second: str, third: str) -> str:
    return f"| {first:<17} | {second:<15} | {third:<52} |"
