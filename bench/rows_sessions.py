"""ONNX Runtime's settings: what is the default beside what was left. All others are in `make sessions`."""

import functools
from collections.abc import Callable
from pathlib import Path

import full_size
import sessions
from detport import config
from sessions import DEFAULT, SETTINGS, SIDE_BY_SIDE, TOGETHER, Setting
from side_by_side import Measured, Row, of_pairs

ROUNDS = 5
OTHERS = {setting.name: setting for setting in (*SETTINGS, *TOGETHER)}


@functools.cache
def small() -> Path:
    """The demo's RetinaMask with its trained weights, exported."""
    folder = Path(full_size.place().name) / "small"
    folder.mkdir()
    demo = config.ROOT / "demo"
    model = ("--model", demo / "config" / "models" / "retinamask.yaml")
    weights = ("--weights", demo / "weights" / "retinamask.pth", "--output", folder / "w.safetensors")
    full_size.run({}, "convert_checkpoint", *model, *weights)
    graph = folder / "exported.onnx"
    full_size.run({}, "export", *model, "--weights", weights[-1], "--output", graph)
    return graph


def large() -> Path:
    """GFocalV2 at full size."""
    return full_size.prepare("gfocalv2", "").folder / "simplified.onnx"


def worth(graph: Callable[[], Path], ours: Setting, other: str, of_memory: bool = False) -> Callable[[Path], Measured]:
    """Seconds of an image, or the peak of the processes in the end, with either setting."""

    def measure(folder: Path) -> Measured:
        taken, peaks = sessions.in_turns(str(graph()), [ours, OTHERS[other]], ROUNDS)
        if of_memory:
            return of_pairs([(peaks[ours.name], peaks[other])], "MB")
        return of_pairs([(a * 1000, b * 1000) for a, b in zip(taken[ours.name], taken[other], strict=True)], "ms")

    return measure


def row(name: str, against: str, measure: Callable[[Path], Measured]) -> Row:
    return Row(name, against, measure, required=1, slow=True)


ROWS = [
    row(f"{SIDE_BY_SIDE.name}, demo's RetinaMask", TOGETHER[0].name, worth(small, SIDE_BY_SIDE, TOGETHER[0].name)),
    row("arena: true, demo's RetinaMask", "arena: false", worth(small, DEFAULT, "arena: false")),
    row(
        "memory with memory_pattern: false, GFocalV2",
        "memory_pattern: true",
        worth(large, DEFAULT, "memory_pattern: true", of_memory=True),
    ),
    row(
        "graph_optimization: all, demo's RetinaMask",
        "graph_optimization: extended",
        worth(small, DEFAULT, "graph_optimization: extended"),
    ),
]
