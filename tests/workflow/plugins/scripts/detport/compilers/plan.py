"""A word and the graph."""

from pathlib import Path

from detport.files import atomic


def compile_model(onnx: Path, model: dict, backend: dict, output: Path) -> None:
    with atomic(output) as partial:
        assert model["compile"]["level"] == 3
        partial.write_bytes(backend["word"].encode() + onnx.read_bytes())
