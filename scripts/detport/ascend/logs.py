"""Speed from the lines that tools print, of Ascend's tools and of the GPU runs that the guides compare with.

Spaces around colons and the prefixes of lines differ between versions, so both are optional here.
"""

import re
from collections import Counter, deque
from typing import NamedTuple

from detport.errors import UsageError

# A speed or duration of nothing is none, and neither is what another country's or a program's way of writing begins
# with: 5,882.2 and 61k and 12:30:15.
NUMBER = r"(?=[0-9.]*[1-9])(\d{1,12}(?:\.\d*)?(?:[eE][+-]?\d{1,2})?)(?![\d.eE:%kK]|,\d)"
SLOWEST, FASTEST = 1e-5, 1e7  # images per second that somebody may have measured
LONGEST = 2000  # characters of a line that a tool prints; searching a longer one takes quadratic time
SIZE = r"\d{1,6}(?:\.\d{1,6})?"
AIS_BENCH = re.compile(
    rf"throughput\s*\(?1000\*batchsize(?:(?:\.mean)?\((?P<batch>{SIZE})\))?[^:\n]*:\s*(?P<fps>{NUMBER})"
)
AIS_BENCH_SUM = re.compile(rf"summary throughput:\s*{NUMBER}")
AIS_BENCH_DEVICE = re.compile(
    rf"device_(\d{{1,6}})\s+throughput:\s*{NUMBER}\s+start_time:\s*(\d{{1,12}}(?:\.\d{{1,9}})?)\s+end_time:\s*(\d{{1,12}}(?:\.\d{{1,9}})?)"
)
AIS_BENCH_TIMES = re.compile(r"NPU_compute_time \(ms\):\s*(.*)")
TIME = re.compile(rf"(min|max|mean|median|percentile\(99%\)) = {NUMBER}")
PURE = re.compile(rf"ave_throughputRate\s*[:=]\s*{NUMBER}\s*samples/s,\s*ave_latency\s*[:=]\s*{NUMBER}\s*ms")
PURE_RUN = re.compile(r"Dataset number: \d+ finished cost")
DATASET = re.compile(rf"\[infer(?:ence)?\].*Interface throughputRate\s*:\s*{NUMBER}")
MSAME = re.compile(rf"Inference average time\s*:\s*{NUMBER}\s*ms")
MSAME_LATER = re.compile(rf"Inference average time without first time\s*:\s*{NUMBER}\s*ms")
MSAME_RUN = re.compile(r"model execute success")
GPU = re.compile(rf"Test: \[\s*(\d{{1,9}})/\d{{1,9}}\]\s+Time: {NUMBER}s \({NUMBER}s,\s*{NUMBER}/s\)")
SIMULATOR = re.compile(r"^\[SIMULATOR\].*$", re.MULTILINE)
AIS_BENCH_TIMED = "the model's run on the device, without copies (ais_bench NPU_compute_time)"
BATCH = 1
ON_GPU = "validate.py on a GPU"
NAMES = {"median": "p50", "percentile(99%)": "p99"}


class Run(NamedTuple):
    """What a device did while others were at work; begin and end are seconds of one clock."""

    fps: float
    device: int
    card: int
    begin: float
    end: float


def parse(text: str, batch: int) -> dict | None:
    """What a log says of speed: tool, fps of one device, latency in ms per batch, batch, number of runs, what was
    timed, the literal lines. None if it says nothing.
    """
    text = printed(text)
    for tool, reader in READERS.items():
        found = reader(text, batch)
        if found and SLOWEST <= found["fps"] <= FASTEST:
            return {"tool": tool, "batch": batch} | found | {"simulator": simulated(text)}
    return None


def printed(text: str) -> str:
    """The lines that a tool may have printed."""
    return "".join(line for line in text.splitlines(keepends=True) if len(line) <= LONGEST)


def simulated(text: str) -> bool:
    """Whether a simulated tool printed this."""
    return bool(SIMULATOR.search(text))


def performance(text: str, backend: dict) -> dict | None:
    """The speed that a log states, with the figures of a card; None if it states none."""
    text = printed(text)
    first = parse(text, BATCH)
    if first is None:
        return None
    stated = {"input": "not stated in the log"}
    if first["tool"] != ON_GPU:
        return with_card(first, runs_of_devices(text, backend.get("devices_per_card", 1)), backend) | stated
    if backend["family"] == "ascend":
        raise UsageError(
            f"the log is of {ON_GPU}, backend {backend['name']} is an Ascend: bring it for a backend of its own, a yaml"
            " with title: GPU, family: pytorch, runs: checkpoint"
        )
    return first | {"fps_is": "of one GPU"} | stated


def runs_of_devices(text: str, chips: int) -> list[Run]:
    """What an ais_bench with several devices says of each."""
    return [
        Run(float(line[2]), int(line[1]), int(line[1]) // chips, float(line[3]), float(line[4]))
        for line in AIS_BENCH_DEVICE.finditer(text)
    ]


def with_card(first: dict, together: list[Run], backend: dict) -> dict:
    """Figures of one device and of a card. `fps` is the card's by the guides' multiplication, so that it compares with
    theirs; what was measured with all devices of a card at work stands beside it.
    """
    chips = backend.get("devices_per_card", 1)
    measured, how = (first["fps"], "a card is one device") if chips == 1 else card_measured(together, chips)
    return (
        {"fps_per_device_is": "as the tool prints it"}
        | first
        | {
            "fps": round(chips * first["fps"], 4),
            "fps_is": "of one device"
            if chips == 1
            else f"of a card: {chips} x one device, arithmetic as in the guides",
            "fps_per_device": first["fps"],
            "devices_per_card": chips,
            "fps_card_measured": measured,
            "fps_card_measured_is": how,
        }
    )


def card_measured(together: list[Run], chips: int) -> tuple[float | None, str]:
    """Speed of a card with all its devices at work, and how that was measured; None, and why it was not."""
    devices = Counter(run.device for run in together)
    cards = Counter(run.card for run in together)
    shown = ", ".join(map(str, sorted(devices)))
    if len(together) < 2:
        return None, "not measured: that takes all devices of a card under devices"
    if max(devices.values()) > 1 or set(cards.values()) != {chips}:
        return None, f"not measured: devices {shown} are not all {chips} devices of a card, or of several"
    common = min(run.end for run in together) - max(run.begin for run in together)
    if common <= 0:
        return None, f"not measured: devices {shown} were not at work at the same time"
    share = common / max(run.end - run.begin for run in together)
    return round(sum(run.fps for run in together) / len(cards), 4), (
        f"sum of {len(together)} devices at work at the same time, over {len(cards)} card(s);"
        f" all of them for {share:.0%} of the longest run"
    )


def ais_bench(text: str, batch: int) -> dict | None:
    """The throughput line and the times beside it; of several devices at once the mean of their sum."""
    match = last(AIS_BENCH, text)
    if not match:
        return None
    if match["batch"]:
        size = float(match["batch"])
        batch = int(size) if size.is_integer() else size
    several, total = list(AIS_BENCH_DEVICE.finditer(text)), last(AIS_BENCH_SUM, text)
    if total and several:
        fps = float(total[1]) / len(several)
        return {
            "fps": fps,
            "fps_per_device_is": f"summary throughput / {len(several)} devices, all at work at the same time",
            "latency_ms": {"mean": 1000 * batch / fps},
            "batch": batch,
            "runs": None,
            "timed": AIS_BENCH_TIMED,
            "lines": lines(*several, total),
        }
    times = last(AIS_BENCH_TIMES, text)
    latency = {NAMES.get(name, name): float(value) for name, value in TIME.findall(times[1] if times else "")}
    latency.setdefault("mean", 1000 * batch / float(match["fps"]))
    return {
        "fps": float(match["fps"]),
        "latency_ms": latency,
        "batch": batch,
        "runs": None,
        "timed": AIS_BENCH_TIMED,
        "lines": lines(times, match),
    }


def benchmark_pure(text: str, batch: int) -> dict | None:
    """benchmark -round; its latency is per sample."""
    match = last(PURE, text)
    return match and {
        "fps": float(match[1]),
        "latency_ms": {"mean": float(match[2]) * batch},
        "runs": len(PURE_RUN.findall(text)) or None,
        "timed": "the model's run on the device (benchmark -round)",
        "lines": lines(match),
    }


def benchmark_dataset(text: str, batch: int) -> dict | None:
    """benchmark over a dataset: the rate of the model's execution alone, which the guides quote."""
    match = last(DATASET, text)
    return match and {
        "fps": float(match[1]),
        "latency_ms": {"mean": 1000 * batch / float(match[1])},
        "runs": None,
        "timed": "the model's execution while a dataset runs through (benchmark Interface throughputRate)",
        "lines": lines(match),
    }


def msame(text: str, batch: int) -> dict | None:
    """The average time of a run, of a folder or of a loop; both have the first run in it."""
    match = last(MSAME, text)
    return match and {
        "fps": 1000 * batch / float(match[1]),
        "fps_per_device_is": "computed from the tool's average, which is in ms",
        "latency_ms": {"mean": float(match[1])},
        "runs": len(MSAME_RUN.findall(text)) or None,
        "timed": "the model's run on the device, without copies, first run included (msame average time)",
        "lines": lines(match, last(MSAME_LATER, text)),
    }


def gpu(text: str, batch: int) -> dict | None:
    """Progress lines of the EfficientDet authors' validate.py; the last line has the average over all runs."""
    match = last(GPU, text)
    return match and {
        "fps": float(match[4]),
        "latency_ms": {"mean": float(match[3]) * 1000},
        "runs": int(match[1]) + 1,
        "timed": "a batch of validate.py on a GPU, loading included",
        "lines": lines(match),
    }


READERS = {
    "ais_bench": ais_bench,
    "benchmark, pure inference": benchmark_pure,
    "benchmark, dataset": benchmark_dataset,
    "msame": msame,
    ON_GPU: gpu,
}


def last(pattern: re.Pattern, text: str) -> re.Match | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def lines(*matches: re.Match | None) -> list[str]:
    """The whole lines that the figures come from."""
    found = []
    for match in matches:
        if match:
            start = match.string.rfind("\n", 0, match.start()) + 1
            end = match.string.find("\n", match.end())
            found.append(match.string[start : end if end >= 0 else None].strip())
    return found


def errors(text: str) -> list[str]:
    """The lines in which a tool reports an error."""
    return [line.strip() for line in text.splitlines() if line.startswith(("[ERROR]", "ERROR", "RuntimeError"))]
