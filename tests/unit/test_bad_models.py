"""Models that are not what they say: each is refused by name, and nothing outside its folder is read."""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import simplify
from detport import config, outputs
from detport.backends import onnxruntime
from detport.errors import Failure
from detport.graph import contract
from detport.graph.export import import_onnx

MODEL = {
    "name": "tiny",
    "input": {"name": "input", "height": 4, "width": 4, "canvases": []},
    "outputs": [{"name": "boxes", "shape": [1, 3, 4, 4], "dtype": "float32"}],
}
BACKEND = {"session": {"graph_optimization": "all"}}


def graph(path: Path, weight: onnx.TensorProto | None = None, output: str = "boxes", opset: int = 11) -> Path:
    """A graph that adds one weight to its input."""
    weight = weight or numpy_helper.from_array(np.ones((1, 3, 4, 4), np.float32), "weight")
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Add", ["input", "weight"], [output])]
    shape = [1, 3, 4, 4]
    body = helper.make_graph(
        nodes, "g", [value("input", TensorProto.FLOAT, shape)], [value(output, TensorProto.FLOAT, shape)], [weight]
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def elsewhere(location: str) -> onnx.TensorProto:
    """A weight whose values are in another file."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1, 3, 4, 4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "192")):
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "link", "missing", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(192))
    (folder / "link").symlink_to(tmp_path / "secret")
    path = graph(folder / "m.onnx", elsewhere(location))
    with pytest.raises(Failure, match=r"m\.onnx"):
        contract.read(path)
    with pytest.raises(Failure, match=r"m\.onnx"):
        onnxruntime.open_session(path, BACKEND, threads=1)


def test_external_data_in_the_folder_is_read(tmp_path):
    (tmp_path / "weights").write_bytes(np.full(48, 2, np.float32).tobytes())
    model = contract.read(graph(tmp_path / "m.onnx", elsewhere("weights")))
    assert numpy_helper.to_array(model.graph.initializer[0])[0, 0, 0, 0] == 2


def test_a_tensor_that_nobody_makes_is_named_before_it_is_simplified(tmp_path):
    path = tmp_path / "m.onnx"
    broken = onnx.load(graph(path))
    broken.graph.node[0].input[1] = "nowhere"
    onnx.save(broken, path)
    with pytest.raises(Failure, match=r"m\.onnx: not a valid graph \(.*nowhere"):
        import_onnx(path, MODEL, tmp_path / "exported.onnx")
    with pytest.raises(Failure, match=r"m\.onnx: ") as raised:
        simplify.require_same(broken, broken, MODEL | {"simplify": {"seed": 0, "tolerance": 1e-4}}, 1, str(path))
    assert "nowhere" in str(raised.value)
    assert "/graph.onnx" not in str(raised.value)


def test_other_outputs_than_declared(tmp_path):
    path = graph(tmp_path / "m.onnx", output="masks")
    with pytest.raises(
        Failure, match=r"outputs: the graph has masks \(float32 \[1, 3, 4, 4\]\), the model's yaml declares boxes"
    ):
        contract.check(contract.read(path), MODEL, str(path))


def test_an_archive_of_pytorch_is_no_graph(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.onnx", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(Failure, match=r"m\.onnx: an archive of PyTorch, not ONNX; .*checkpoint\.file"):
        contract.read(tmp_path / "m.onnx")


@pytest.mark.parametrize("cut", [0, 1, 10, 100])
def test_a_truncated_graph(tmp_path, cut):
    path = graph(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Failure, match=r"m\.onnx"):
        contract.check(contract.read(path), MODEL, str(path))
    with pytest.raises(Failure, match=r"m\.onnx"):
        onnxruntime.open_session(path, BACKEND, threads=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_without_numbers_name_the_image(tmp_path, value):
    array = np.zeros((1, 3, 4, 4), np.float32)
    array[0, 1, 2, 3] = value
    with pytest.raises(Failure, match=r"'it''?s\.jpg': output boxes holds NaN or infinity|\"it's\.jpg\": output boxes"):
        outputs.write(tmp_path, "stem", [array], MODEL["outputs"], "it's.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("array", [np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 4, 4), np.float64)])
def test_outputs_of_another_shape_or_type_name_the_image(tmp_path, array):
    with pytest.raises(Failure, match=r"'a\.jpg': output boxes is"):
        outputs.write(tmp_path, "stem", [array], MODEL["outputs"], "a.jpg")


def test_a_stage_names_the_image_with_nan(tmp_path):
    """The whole stage: a graph that divides by zero on one of two images."""
    settings = config.load(config.ROOT / "demo" / "config" / "models" / "efficientdet.yaml", "model")
    settings = {key: settings[key] for key in ("title", "dataset", "preprocess", "decode", "metric")}
    settings["preprocess"] = settings["preprocess"] | {"resize": {"library": "pillow", "rule": "fit"}}
    settings |= {"onnx": "m.onnx", "input": {"name": "input", "height": 4, "width": 4}, "outputs": MODEL["outputs"]}
    (tmp_path / "tiny.yaml").write_text(json.dumps(settings))
    shard = tmp_path / "shard"
    shard.mkdir()
    images = []
    for i, value in enumerate((1.0, np.nan)):
        np.full((3, 4, 4), value, np.float32).tofile(shard / f"{i}.bin")
        placement = {"width": 4, "height": 4, "canvas": "4x4", "resized": [4, 4], "scale": 1.0, "pad": [0, 0]}
        images.append({"image_id": i, "file": f"{i}.jpg", "bin": f"{i}.bin", "bytes": 192} | placement)
    (shard / "shard.json").write_text(json.dumps({"schema": 1, "images": images, "skipped": []}))
    result = subprocess.run(
        [
            *(sys.executable, config.ROOT / "scripts" / "infer.py", "--model", tmp_path / "tiny.yaml"),
            *("--backend", config.ROOT / "config" / "backends" / "onnxruntime.yaml"),
            *("--compiled", graph(tmp_path / "m.onnx"), "--shard", shard, "--output", tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "'1.jpg': output boxes holds NaN or infinity" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
