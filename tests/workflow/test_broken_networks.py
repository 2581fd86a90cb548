"""A network that computes NaN stops inference, although TopK and NMS inside the graph would leave NaN out unseen."""

import json
from pathlib import Path

import pytest

import convert_checkpoint
import infer
import preprocess
from detport import canvases, checkpoints, config, networks
from detport.errors import Failure
from detport.graph.export import export
from test_contracts import BACKENDS, DEMO, MODELS, stage

# One filter of a last convolution: of the classes, and of the boxes.
HEADS = {
    "retinamask": ("rpn.head.cls_logits.weight", "rpn.head.bbox_pred.weight"),
    "efficientdet": ("class_net.predict.conv_pw.weight", "box_net.predict.conv_pw.weight"),
    "rfcn": ("RCNN_rpn.RPN_cls_score.weight", "RCNN_rpn.RPN_bbox_pred.weight"),
    "gfocalv2": ("bbox_head.gfl_cls.weight", "bbox_head.gfl_reg.weight"),
}


@pytest.fixture(scope="module", params=HEADS)
def prepared(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A model of the demo: its weights and a shard of one image."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    image = json.loads((DEMO / "data" / "annotations" / "instances.json").read_text(encoding="utf-8"))["images"][0]
    row = f"{image['id']}\t{image['file_name']}\t{image['width']}\t{image['height']}\t1"
    (folder / "index.tsv").write_text(f"image_id\tfile\twidth\theight\tbytes\n{row}\n", encoding="utf-8")
    files = {"index": folder / "index.tsv", "images": DEMO / "data" / "images"}
    stage(preprocess, model=MODELS / f"{name}.yaml", **files, shard="0/1", output=folder / "shard")
    weights = {"weights": DEMO / "weights" / f"{name}.pth", "output": folder / "w.safetensors"}
    stage(convert_checkpoint, model=MODELS / f"{name}.yaml", **weights)
    return name, folder


@pytest.mark.parametrize("head", [0, 1], ids=["classes", "boxes"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_nan_in_one_filter_of_a_head_stops_inference(prepared, head, backend, tmp_path):
    name, folder = prepared
    model = canvases.select(config.load_model(MODELS / f"{name}.yaml", "export"), None)
    network = networks.build(model)
    checkpoints.load(network, folder / "w.safetensors")
    network.get_parameter(HEADS[name][head]).data[1] = float("nan")
    export(network, model, "standard", tmp_path / "broken.onnx")
    files = {"compiled": tmp_path / "broken.onnx", "shard": folder / "shard", "output": tmp_path / "outputs"}
    # ONNX Runtime's RoiAlign looks at its boxes by itself.
    said = r"jpg': (output \w+ holds NaN or infinity, first at .*earlier stages|.*'rois' values must be finite)"
    with pytest.raises(Failure, match=said):
        stage(infer, model=MODELS / f"{name}.yaml", backend=BACKENDS / f"{backend}.yaml", **files)
    assert not (tmp_path / "outputs").exists()
