"""Normalisation on the device: the AIPP file, the same in a graph for ONNX Runtime, and the same detections."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from sim import device
from tiny import SIDE, tiny_graph

import words
from detport import config, disk, tensors
from detport.ascend import aipp
from detport.backends import ascend as backend_ascend
from detport.backends import local
from detport.compilers import ascend as compiler
from detport.errors import UsageError
from detport.graph import normalise

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "channels": "RGB"}
DETECTRON = {"mean": [102.9801, 115.9465, 122.7717], "std": [1, 1, 1], "channels": "BGR"}


def test_the_file_for_imagenets_normalisation():
    text = aipp.config({"width": 64, "height": 32}, IMAGENET)
    for line in (
        *("aipp_mode: static", "input_format: RGB888_U8", "src_image_size_w: 64", "src_image_size_h: 32"),
        *("rbuv_swap_switch: false", "mean_chn_0: 0", "min_chn_0: 123.675", "min_chn_2: 103.53"),
        *("var_reci_chn_0: 0.01712475383", "var_reci_chn_1: 0.0175070028", "var_reci_chn_2: 0.01742919390"[:-1]),
    ):
        assert f"    {line}\n" in text
    assert text.startswith("aipp_op {\n") and text.endswith("}\n")
    assert "rbuv_swap_switch: true" in aipp.config({"width": 64, "height": 32}, DETECTRON)


def settings(own: dict) -> dict:
    own = {key: own[key] for key in ("mean", "std", "channels")}
    made = words.model((SIDE, SIDE), {"library": "pillow", "rule": "fit"}, own)
    return {"input": made["input"] | {"name": "x"}, "preprocess": made["preprocess"]}


@pytest.mark.parametrize("own", [IMAGENET, DETECTRON])
def test_all_ways_to_normalise_agree(own):
    """Host, ONNX graph and AIPP, over the part that the image covers."""
    model = settings(own)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE - 2, 3), np.uint8)
    tensor, placement = tensors.to_tensor(pixels, model)
    canvas, again = tensors.to_pixels(pixels, model)
    assert placement == again
    assert disk.tensor_bytes(model) == tensor.nbytes
    assert disk.tensor_bytes({"input": model["input"] | {"on_device": True}}) == canvas.nbytes
    assert (canvas.dtype, canvas.shape, canvas.nbytes * 4) == (np.uint8, (SIDE, SIDE, 3), tensor.nbytes)
    graph = tiny_graph()
    graph.graph.output.append(onnx.helper.make_tensor_value_info("x_normalised", 1, [1, 3, SIDE, SIDE]))
    normalise.fold(graph, model["input"], model["preprocess"])
    onnx.checker.check_model(graph)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    folded = session.run(["x_normalised"], {"x": canvas[None]})[0][0]
    swapped = {"rbuv_swap_switch": own["channels"] == "BGR", "mean": [0, 0, 0], "min": own["mean"]}
    on_device = device.image_preprocessing(canvas[None], swapped | {"var_reci": [1 / std for std in own["std"]]})[0]
    for found in (folded, on_device):
        np.testing.assert_allclose(found[:, :, : SIDE - 2], tensor[:, :, : SIDE - 2], atol=2e-5)
        # The padding is the colour next to the mean: up to half a grey level from the zero that the host writes.
        limit = 0.5 / np.array(own["std"]) + 1e-5
        assert (np.abs(found[:, :, SIDE - 2 :]).max((1, 2)) <= limit).all()


def test_a_given_colour_pads_exactly():
    """EfficientDet's padding is a colour before the normalisation, so nothing is rounded."""
    model = settings(IMAGENET)
    model["preprocess"]["fill"] = [124, 116, 104]
    pixels = np.zeros((SIDE, SIDE - 2, 3), np.uint8)
    canvas, _ = tensors.to_pixels(pixels, model)
    assert canvas[0, -1].tolist() == [124, 116, 104]
    tensor, _ = tensors.to_tensor(pixels, model)
    mean, std = np.array(IMAGENET["mean"], np.float32), np.array(IMAGENET["std"], np.float32)
    np.testing.assert_allclose((canvas[0, -1] - mean) / std, tensor[:, 0, -1], atol=1e-6)


def test_pixels_lie_where_the_tensor_lies():
    """Centred, on a canvas of its own colour: normalised they are the host's tensor."""
    model = settings(IMAGENET)
    model["preprocess"] |= {"fill": 114, "place": "centre"}
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE - 3, 3), np.uint8)
    canvas, placement = tensors.to_pixels(pixels, model)
    tensor, again = tensors.to_tensor(pixels, model)
    assert placement == again and (placement["left"], placement["pad"]) == (1, [2, 0])
    assert canvas[:, [0, -2, -1]].tolist() == [[[114] * 3] * 3] * SIDE
    mean, std = (np.array(IMAGENET[key], np.float32) for key in ("mean", "std"))
    np.testing.assert_array_equal(((canvas - mean) / std).transpose(2, 0, 1), tensor)


def test_atc_gets_the_file_and_the_om_takes_pixels(tools, graph, model, backend, tmp_path):
    own = model | settings(DETECTRON)
    own["input"]["on_device"] = True
    output = tmp_path / "model.om"
    compiler.compile_model(graph, own, backend(), output)
    assert "--insert_op_conf=./aipp.cfg" in (tmp_path / "model.atc.log").read_text()
    assert "min_chn_0: 102.9801" in (tmp_path / "model.atc.log").read_text()
    stated = json.loads(output.read_bytes().split(b"\n", 2)[1])["inputs"]
    assert stated == [{"name": "x", "shape": [1, SIDE, SIDE, 3], "dtype": "uint8"}]
    pixels = np.full((SIDE, SIDE, 3), 7, np.uint8)
    pixels.tofile(tmp_path / "a.bin")
    image = {"file": "a.jpg", "bin": "a.bin", "bytes": pixels.nbytes}
    found = []
    write = lambda _, arrays: found.append(arrays)  # noqa: E731
    backend_ascend.infer(output, own, backend(), [(image, tmp_path / "a.bin")], write, tmp_path, 1)
    tensor, _ = tensors.to_tensor(pixels, own)
    weights = onnx.numpy_helper.to_array(tiny_graph().graph.initializer[0])
    centre = np.einsum("chw,kchw->k", tensor[:, 2:5, 2:5], weights)
    np.testing.assert_allclose(found[0][2][0, :, 3, 3], centre, rtol=2e-3)


def test_an_own_aipp_file_and_on_device_exclude_each_other(tools, graph, model, backend, tmp_path):
    own = model | settings(DETECTRON)
    own["input"]["on_device"] = True
    with pytest.raises(UsageError, match="remove insert_op_conf"):
        compiler.compile_model(graph, own, backend(atc={"insert_op_conf": "my.cfg"}), tmp_path / "model.om")


def test_a_shard_of_another_form_is_refused(tmp_path):
    np.zeros((3, SIDE, SIDE), np.float32).tofile(tmp_path / "a.bin")
    size = {"height": SIDE, "width": SIDE, "on_device": True}
    with pytest.raises(Exception, match=r"'a\.jpg'.*768 bytes, the model's input takes 192"):
        local.read_tensor(tmp_path / "a.bin", {"file": "a.jpg"}, size)


def test_normalising_before_the_resize_cannot_be_left_to_the_device(tmp_path):
    text = (config.ROOT / "config" / "models" / "rfcn.yaml").read_text()
    path = tmp_path / "rfcn.yaml"
    path.write_text(text.replace("  name: im_data\n", "  name: im_data\n  on_device: true\n"))
    with pytest.raises(UsageError, match=r"input\.on_device: this model normalises before the resize"):
        config.load(path, "model")
