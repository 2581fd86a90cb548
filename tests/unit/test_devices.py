"""Providers of ONNX Runtime and devices of PyTorch: what was asked for, or an error that names what there is."""

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import parser

from detport import config, lineage, made
from detport.backends import local, onnxruntime, pytorch
from detport.errors import Failure, UsageError
from detport.report import text

CUDA = onnxruntime.CUDA


@pytest.fixture
def graph(tmp_path) -> Path:
    model = parser.parse_model('<ir_version: 7, opset_import: ["" : 13]> g (float[1] x) => (float[1] y) {y = Relu (x)}')
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def backend(*providers: str) -> dict:
    return {"session": {"graph_optimization": "all"}, "providers": list(providers), "tf32": False}


def test_the_cpu_is_asked_for_and_had(graph):
    session = onnxruntime.open_session(graph, backend(onnxruntime.CPU), 1)
    assert session.get_providers() == [onnxruntime.CPU]


def test_a_provider_that_this_build_lacks_is_told_with_those_it_has(graph):
    with pytest.raises(UsageError) as raised:
        onnxruntime.open_session(graph, backend("TensorrtExecutionProvider", onnxruntime.CPU), 1)
    assert "has no TensorrtExecutionProvider; it has " in str(raised.value)
    assert onnxruntime.CPU in str(raised.value)


class Session:
    """What onnxruntime-gpu gives on a machine without a usable GPU: a session on the CPU, and a line on stderr."""

    found = (onnxruntime.CPU,)

    def __init__(self, path: str, options: object, providers: list) -> None:
        self.asked = providers

    def disable_fallback(self) -> None: ...

    def get_providers(self) -> list[str]:
        return list(self.found)


def test_a_silent_fall_back_to_the_cpu_is_refused(graph, monkeypatch):
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, onnxruntime.CPU])
    with pytest.raises(Failure, match=f"a session without {CUDA}, on {onnxruntime.CPU} instead"):
        onnxruntime.open_session(graph, backend(CUDA), 1)
    monkeypatch.setattr(Session, "found", (CUDA, onnxruntime.CPU))
    session = onnxruntime.open_session(graph, backend(CUDA), 1)
    assert session.asked == [(CUDA, {"use_tf32": "0"})], "it would round to 10 bits"


def test_nothing_goes_on_on_the_cpu_after_an_error(graph):
    assert not onnxruntime.open_session(graph, backend(onnxruntime.CPU), 1)._enable_fallback


@pytest.mark.parametrize(("count", "has"), [(0, "no GPU that it can use"), (2, "GPUs cuda:0 to cuda:1")])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, count, has):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(UsageError, match=f"device: cuda:2: PyTorch .* has {has} here"):
        pytorch.require_device("cuda:2")


def test_a_gpu_that_is_there_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(pytorch.require_device(name)) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA"])
def test_a_device_of_another_form_is_refused(tmp_path, device):
    path = tmp_path / "mine.yaml"
    path.write_text(f'title: x\nfamily: pytorch\ndevice: "{device}"\n')
    with pytest.raises(UsageError, match=r"mine\.yaml:3: device: "):
        config.load_backend(path)


def test_a_report_tells_the_device():
    """In the line of the speed and in the provenance of inference, and nothing for the CPU."""
    told = {local.device(each) for each in (backend(onnxruntime.CPU), {"device": "cpu"}, {"family": "ascend"})}
    assert told == {""}
    assert local.device(backend(CUDA, onnxruntime.CPU)) == f"{CUDA}, {onnxruntime.CPU}"
    speed = {
        **{"fps": 1.0, "fps_is": "x", "latency_ms": {"mean": 1.0}, "runs": 1, "batch": 1, "other_canvases": []},
        **{"timed": "all", "input": "zeros", "versions": {}},
        "machine": {"device": "cuda:0 (Tesla T4)", "processor": "a processor", "cores": 2},
    }
    assert text.runners({"m": {"performance": speed}}) == ["cuda:0 (Tesla T4)", "a processor"]
    recipe = made.recipe("infer", {})
    trail = made.begin(recipe, {}, device="cuda:0")["trail"]
    assert trail[-1]["device"] == "cuda:0"


def test_another_device_runs_inference_and_speed_again():
    model = config.load(config.ROOT / "demo" / "config" / "models" / "retinamask.yaml", "model")
    one = config.load_backend(config.ROOT / "config" / "backends" / "pytorch.yaml")
    for stage in ("infer", "benchmark"):
        seen = config.visible(model, stage, one)
        before, after = (lineage.stage_recipe(stage, seen, one | {"device": name}) for name in ("cpu", "cuda"))
        assert before != after
