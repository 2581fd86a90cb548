"""RetinaMask against the upstream code: network, exported graph, preprocessing, decoding."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from cases import difference, generated_state, image_file, random_input, read_case
from detport import config, decoders, placing, tensors
from detport.decoders import after_nms
from detport.networks import retinamask
from detport.networks.roi_align import RoIAlign, roi_align
from graphs import RUNNERS, export, run_onnx

MODEL_YAML = config.ROOT / "config" / "models" / "retinamask.yaml"
LIMIT = 1e-4  # largest difference, relative to the tensor's scale
LEVELS = ("p3", "p4", "p5", "p6", "p7")
OUTPUTS = ("bboxs", "labels", "scores", "masks")


@pytest.fixture(scope="module")
def folder(case_folder) -> Path:
    return case_folder("retinamask")


@pytest.fixture(scope="module")
def case(folder) -> tuple[dict, dict]:
    return read_case(folder, "network")


@pytest.fixture(scope="module")
def network(folder, case) -> retinamask.RetinaMask:
    """The published sizes on the canvas of the case, with the case's generated weights."""
    settings = config.load_model(MODEL_YAML, "export")["network"]
    options = {key: value for key, value in settings.items() if key != "architecture"}
    model = retinamask.build(options, tuple(case[0]["input"]["shape"][2:])).eval()
    state = generated_state(folder)
    report = model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert all("cell_anchors" in key for key in report.missing_keys)
    return model


class Everything(nn.Module):
    """The network with its intermediate tensors as outputs, to be exported."""

    def __init__(self, network: retinamask.RetinaMask) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.network.backbone(image)
        logits, codes = self.network.rpn.head(features)
        boxes, labels, scores, index = self.network.select(logits, codes)
        masks = self.network.masks(features, boxes, labels)
        kept = self.network.survivors(boxes, labels, scores)
        kept = (*kept, self.network.masks(features, *kept[:2]))
        return (*features, *logits, *codes, boxes, labels, scores, index, masks, *kept)

    names = (
        *LEVELS,
        *(f"cls_logits_{level}" for level in LEVELS),
        *(f"bbox_pred_{level}" for level in LEVELS),
        *("bboxs", "labels", "scores", "topk_index", "masks"),
        *(f"kept_{name}" for name in OUTPUTS),
    )


def in_golden_order(index: np.ndarray, golden: dict) -> np.ndarray:
    """Rows of our list in the order of the golden one: neighbours of nearly equal score may have changed places."""
    assert set(index.tolist()) == set(golden["topk_index"].tolist())
    row = {flat: i for i, flat in enumerate(index.tolist())}
    return np.array([row[flat] for flat in golden["topk_index"].tolist()])


def test_published_keys_are_the_networks_keys(folder, network):
    expected = {key: tuple(value.shape) for key, value in generated_state(folder).items()}
    own = {key: tuple(value.shape) for key, value in network.state_dict().items() if "cell_anchors" not in key}
    assert own == expected


def test_stages_in_pytorch(case, network):
    spec, golden = case
    image = random_input(spec["input"])
    with torch.no_grad():
        body = network.backbone.body
        found = {"stem": body.stem(image)} | dict(zip(("c2", "c3", "c4", "c5"), body(image), strict=True))
        features = network.backbone(image)
        logits, codes = network.rpn.head(features)
    found |= dict(zip(LEVELS, features, strict=True))
    found |= {f"cls_logits_{level}": tensor for level, tensor in zip(LEVELS, logits, strict=True)}
    found |= {f"bbox_pred_{level}": tensor for level, tensor in zip(LEVELS, codes, strict=True)}
    found["anchors"] = network.anchors()
    found["probs"] = torch.cat([retinamask.per_anchor(x, network.classes) for x in logits]).sigmoid()
    found["decoded"] = retinamask.decode_boxes(
        network.anchors(), torch.cat([retinamask.per_anchor(x, 4) for x in codes])
    )
    for i, anchors in enumerate(network.rpn.anchor_generator.cell_anchors):
        np.testing.assert_array_equal(anchors.numpy(), golden["cell_anchors"][i])
    differences = {name: difference(golden, name, tensor) for name, tensor in found.items()}
    assert max(differences.values()) < LIMIT, differences


def test_detections_and_masks_in_pytorch(case, network):
    spec, golden = case
    image = random_input(spec["input"])
    with torch.no_grad():
        features = network.backbone(image)
        boxes, labels, scores, index = network.select(*network.rpn.head(features))
        rows = in_golden_order(index.numpy(), golden)
        boxes, labels, scores = boxes[rows], labels[rows], scores[rows]
        chosen = torch.from_numpy(golden["mask_rois"]).long()
        pooled = network.pool(features, boxes[chosen])
        found = {
            "bboxs": boxes,
            "scores": scores,
            "pooled_sel": pooled,
            "mask_feature_sel": network.mask.features(pooled),
            "mask_logits_sel": network.mask.logits(pooled),
            "masks_sel": network.masks(features, boxes[chosen], labels[chosen]),
        }
    np.testing.assert_array_equal(labels.numpy(), golden["labels"])
    np.testing.assert_array_equal(retinamask.roi_level(boxes).numpy(), golden["roi_level"])
    differences = {name: difference(golden, name, tensor) for name, tensor in found.items()}
    assert max(differences.values()) < LIMIT, differences


def test_everything_in_every_runner(case, network):
    image = random_input(case[0]["input"])
    graph = export(Everything(network), [image], Everything.names, opset=11)
    for run in RUNNERS:
        check_everything(case[1], run(graph, [image]), image.shape)


def check_everything(golden, found, shape):
    compact = {name: found.pop(f"kept_{name}") for name in OUTPUTS}
    assert_same_detections({name: found[name] for name in OUTPUTS}, compact, shape)
    rows = in_golden_order(found.pop("topk_index"), golden)
    np.testing.assert_array_equal(found.pop("labels")[rows], golden["labels"])
    masks = found.pop("masks")[rows]
    found |= {"bboxs": found["bboxs"][rows], "scores": found["scores"][rows]}
    found["masks_sel"] = masks[golden["mask_rois"]]
    found["masks_mean"] = masks.reshape(len(masks), -1).mean(1)
    differences = {name: difference(golden, name, tensor) for name, tensor in found.items()}
    assert max(differences.values()) < LIMIT, differences


def assert_same_detections(guide: dict, compact: dict, shape: tuple) -> None:
    """Those of the compact contract beside those of the guide's: all equal, masks but for float32's noise."""
    image = {"image_id": 1, "file": "1.jpg", "width": shape[3], "height": shape[2], "scale": 1.0}
    settings = config.load_model(MODEL_YAML, "decode")["decode"]
    assert {len(value) for value in compact.values()} == {settings["max_detections"]}
    known = decoders.categories(settings["categories"])
    rows, expected = (after_nms.decode(each, image, settings, known) for each in (compact, guide))
    assert rows
    for a, b in zip(rows, expected, strict=True):
        masks = [each.pop("segmentation") for each in (a, b)]
        assert a == b
        assert coco_mask.iou(masks[:1], masks[1:], [0])[0, 0] > 0.999 or not any(coco_mask.area(masks))


def test_unit_box_decoding(case):
    _, golden = case
    anchors, codes = (torch.from_numpy(golden[f"unit_decode_{name}"]) for name in ("anchors", "codes"))
    assert difference(golden, "unit_decode_boxes", retinamask.decode_boxes(anchors, codes)) < LIMIT


def test_unit_roi_level(case):
    _, golden = case
    levels = retinamask.roi_level(torch.from_numpy(golden["unit_level_boxes"]))
    np.testing.assert_array_equal(levels.numpy(), golden["unit_level"])


def test_unit_roi_align_in_pytorch(case):
    _, golden = case
    rois = torch.from_numpy(golden["unit_roi_rois"])
    pooled = torch.empty(golden["unit_roi_pooled"].shape)
    for i, features in enumerate(torch.from_numpy(golden["unit_roi_feature"])):
        rows = rois[:, 0] == i
        pooled[rows] = roi_align(features[None], rois[rows, 1:], 0.125, pooled.shape[2], retinamask.SAMPLES)
    assert difference(golden, "unit_roi_pooled", pooled) < LIMIT


@pytest.mark.parametrize("opset", [11, 13, 16, 17])
def test_unit_roi_align_in_onnxruntime(case, opset):
    _, golden = case
    bins = golden["unit_roi_pooled"].shape[2]

    class Pool(nn.Module):
        def forward(self, features: Tensor, rois: Tensor) -> Tensor:
            return RoIAlign.apply(features, rois, 0.125, bins, retinamask.SAMPLES)

    inputs = [torch.from_numpy(golden[f"unit_roi_{name}"]) for name in ("feature", "rois")]
    found = run_onnx(export(Pool(), inputs, ["pooled"], opset), inputs)
    assert difference(golden, "unit_roi_pooled", found["pooled"]) < LIMIT


def test_preprocess_is_bit_identical(folder, case_images):
    spec, golden = read_case(folder, "preprocess")
    model = config.load_model(MODEL_YAML, "preprocess")
    assert spec["images"]
    for stem, expected in spec["images"].items():
        tensor, placement = tensors.preprocess(image_file(case_images("retinamask"), stem), model)
        np.testing.assert_array_equal(tensor.reshape(-1)[golden["idx"]], golden[f"{stem}_val"], err_msg=stem)
        assert hashlib.sha256(tensor.tobytes()).hexdigest() == expected["sha256"], stem
        assert [placement["width"], placement["height"]] == expected["original_wh"], stem
        assert placement["resized"] == expected["resized_wh"], stem


def kept_by(network: retinamask.RetinaMask, outputs: dict) -> dict:
    """The outputs of the compact contract, where those of the guide's are given."""
    boxes, labels, scores = network.survivors(*(torch.from_numpy(outputs[name]) for name in OUTPUTS[:3]))
    row = {score: i for i, score in enumerate(outputs["scores"].tolist())}
    assert len(row) == len(outputs["scores"]), "a score tells a row"
    masks = np.stack([outputs["masks"][row.get(score, 0)] for score in scores.tolist()])
    return dict(zip(OUTPUTS, (boxes.numpy(), labels.numpy(), scores.numpy(), masks), strict=True))


@pytest.mark.parametrize("contract", ["guide", "compact"])
def test_decode(folder, network, contract):
    spec, golden = read_case(folder, "postprocess")
    model = config.load_model(MODEL_YAML, "preprocess")
    settings = config.load_model(MODEL_YAML, "decode")["decode"]
    rows = []
    assert spec["image_order"]
    for image_id in spec["image_order"]:
        size = spec["images"][str(image_id)]
        _, _, scale = placing.fit(size["width"], size["height"], model["input"]["width"], model["input"]["height"])
        image = {
            "image_id": image_id,
            "file": f"{image_id}.jpg",
            "width": size["width"],
            "height": size["height"],
            "scale": scale,
        }
        outputs = {name: golden[f"{image_id}_{name}"] for name in ("bboxs", "labels", "scores")}
        outputs["masks"] = ((golden[f"{image_id}_masks_u8"].astype(np.float32) + 0.5) / 256)[:, None]
        if contract == "compact":
            outputs = kept_by(network, outputs)
        rows += after_nms.decode(outputs, image, settings, decoders.categories(settings["categories"]))

    def column(key: str) -> np.ndarray:
        return np.array([row[key] for row in rows])

    np.testing.assert_array_equal(column("image_id"), golden["det_image_id"])
    np.testing.assert_array_equal(column("category_id"), golden["det_category_id"])
    np.testing.assert_array_equal(column("score"), golden["det_score"])
    # Coordinates of a few float32 steps' noise, which are larger where the images are.
    noise = max(1e-3, 8 * np.spacing(np.float32(golden["det_bbox"].max())))
    np.testing.assert_allclose(column("bbox"), golden["det_bbox"], rtol=0, atol=noise)
    assert [row["segmentation"]["size"] for row in rows] == golden["det_rle_size"].tolist()
    assert [row["segmentation"]["counts"] for row in rows] == golden["det_rle_counts"].tolist()
