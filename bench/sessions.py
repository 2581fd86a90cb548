"""ONNX Runtime's settings side by side on one compiled model: how much faster or slower each is than the default.

    PYTHONPATH=scripts python bench/sessions.py results/MODEL/onnxruntime/model.onnx     # of CPU providers
    make sessions COMPILED=results/MODEL/onnxruntime/model.onnx

Every setting has a process of its own (of "N x 1 thread", N of them) that has loaded the model. They take turns: in a
round each runs some images, beside all else that the machine does, and the ratio to the default is of the same round.
Seconds are of the clock where threads or processes differ, of the processor else. Memory is the peak of a process.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnxruntime

import full_size
from detport import config
from detport.backends.onnxruntime import open_session
from side_by_side import own_peak_mb

ROUNDS, SHORTEST = 7, 0.5  # seconds of a round at least
CORES = len(os.sched_getaffinity(0))
NUMPY = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16}


class Setting(NamedTuple):
    """A setting beside the default one; `clock` says that seconds are of the clock."""

    name: str
    session: Mapping = MappingProxyType({})
    threads: int = 1
    processes: int = 1
    binding: bool = False
    clock: bool = False


DEFAULT = Setting("as it is")
SETTINGS = [
    Setting("memory_pattern: true", {"memory_pattern": True}),
    Setting("arena: false", {"arena": False}),
    Setting("arena: false, memory_pattern: true", {"arena": False, "memory_pattern": True}),
    Setting("graph_optimization: extended", {"graph_optimization": "extended"}),
    Setting("graph_optimization: basic", {"graph_optimization": "basic"}),
    Setting("graph_optimization: disabled", {"graph_optimization": "disabled"}),
    Setting("I/O binding", binding=True),
]
SIDE_BY_SIDE = Setting(f"{CORES} processes x 1 thread", processes=CORES, clock=True)
TOGETHER = [
    Setting(f"1 process x {CORES} threads", threads=CORES, clock=True),
    Setting(f"1 process x {CORES} threads, spinning: false", {"spinning": False}, threads=CORES, clock=True),
]


def main() -> None:
    path = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    print(f"{path}: {CORES} cores, medians of {rounds} rounds (quartiles); more than 1 is faster")
    for first, others in ((DEFAULT, SETTINGS), (SIDE_BY_SIDE, TOGETHER)):
        compare(path, first, others, rounds)


def compare(path: str, first: Setting, others: list[Setting], rounds: int) -> None:
    """Run a setting and others in turns, and print a line for each."""
    taken, peaks = in_turns(path, [first, *others], rounds)
    for name, found in taken.items():
        ratios = [ours / theirs for ours, theirs in zip(taken[first.name], found, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        times = f"{statistics.median(found):9.4f} s{middle:7.2f} ({low:.2f} - {high:.2f})"
        print(f"{name:<48}{times}{peaks[name]:8.0f} MB", flush=True)


def in_turns(path: str, settings: list[Setting], rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of an image in every round with each setting, by its name, and the peaks of its processes together, in
    megabytes."""
    every = {setting.name: setting for setting in settings}
    workers = {name: [start(path, setting) for _ in range(setting.processes)] for name, setting in every.items()}
    once = {name: each_image(found, 1, every[name].clock) for name, found in workers.items()}  # not counted
    images = max(1, math.ceil(SHORTEST / once[settings[0].name]))
    taken = {name: [] for name in every}
    for i in range(rounds):
        for name in every if i % 2 else reversed(every):
            taken[name].append(each_image(workers[name], images, every[name].clock))
    peaks = {name: sum(answer["peak_mb"] for answer in ask(found, 0)) for name, found in workers.items()}
    for worker in (each for found in workers.values() for each in found):
        worker.stdin.close()
        worker.wait()
    return taken, peaks


def start(path: str, setting: Setting) -> subprocess.Popen:
    """A process that has loaded the model."""
    told = json.dumps([path, dict(setting.session), setting.threads, setting.binding])
    command = [sys.executable, __file__, "--worker", told]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, encoding="utf-8", env=full_size.environment())


def each_image(workers: list[subprocess.Popen], images: int, clock: bool) -> float:
    """Seconds per image where each worker runs so many of them, by the clock or by the processor."""
    begin = time.perf_counter()
    answers = ask(workers, images)
    seconds = time.perf_counter() - begin if clock else sum(answer["seconds"] for answer in answers)
    return seconds / images / len(workers)


def ask(workers: list[subprocess.Popen], images: int) -> list[dict]:
    """What all workers say who run so many images at the same time."""
    for worker in workers:
        print(images, file=worker.stdin, flush=True)
    return [json.loads(worker.stdout.readline()) for worker in workers]


def work(path: str, session: dict, threads: int, binding: bool) -> None:
    """Run as many images as each line says, and answer with the processor's seconds and the peak of memory."""
    backend = config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")
    opened = open_session(Path(path), backend | {"session": session}, threads)
    run = runner(opened, binding)
    for line in sys.stdin:
        begin = time.process_time()
        for _ in range(int(line)):
            run()
        print(json.dumps({"seconds": time.process_time() - begin, "peak_mb": own_peak_mb()}), flush=True)


def runner(session: onnxruntime.InferenceSession, binding: bool) -> Callable[[], object]:
    """A function that runs the model once on random numbers; with I/O binding, from and to memory of ONNX Runtime, into
    which every image has to be copied."""
    rng = np.random.default_rng(0)
    feeds = {each.name: rng.random(each.shape).astype(NUMPY[each.type]) for each in session.get_inputs()}
    if not binding:
        return lambda: session.run(None, feeds)
    bound = session.io_binding()
    own = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
    for name, value in own.items():
        bound.bind_ortvalue_input(name, value)
    for each in session.get_outputs():
        bound.bind_output(each.name)

    def run() -> None:
        for name, array in feeds.items():
            own[name].update_inplace(array)
        session.run_with_iobinding(bound)
        bound.copy_outputs_to_cpu()

    return run


if __name__ == "__main__":
    work(*json.loads(sys.argv[2])) if sys.argv[1] == "--worker" else main()
