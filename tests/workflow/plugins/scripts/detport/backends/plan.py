"""A family whose compiled models begin with a word of their own."""

import io
import time
from pathlib import Path

import onnx
from onnx.reference import ReferenceEvaluator

from detport import inputs as feeds
from detport import timing
from detport.backends import local


def infer(
    compiled: Path, model: dict, backend: dict, inputs: local.Inputs, write: local.Write, place: Path, threads: int
) -> bool:
    local.infer(open_model(compiled, model, backend), model, inputs, write)
    return False


def measure(compiled: Path, model: dict, backend: dict, threads: int) -> dict:
    run, begin = open_model(compiled, model, backend), time.perf_counter()
    run(feeds.random(model["input"], 0))
    seconds = time.perf_counter() - begin
    known = {"fps": 1 / seconds, "fps_is": "of one run", "latency_ms": {"mean": 1000 * seconds}, "batch": 1, "runs": 1}
    return known | {"timed": "a run", "input": "random", "machine": timing.machine()}


def open_model(compiled: Path, model: dict, backend: dict) -> local.Run:
    content = compiled.read_bytes()
    assert content.startswith(backend["word"].encode())
    graph = onnx.load(io.BytesIO(content.removeprefix(backend["word"].encode())))
    return lambda fed: ReferenceEvaluator(graph).run(None, fed)


def versions(compiled: Path) -> dict[str, str]:
    return {"plan": "1"}
