"""EfficientDet's parts against their definitions: padding, widths, selection, decoding and NMS."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from detport import config
from detport.decoders.efficientdet import anchors, best_pairs, decode, pair_maps
from detport.efficientdet import ANCHORS, STRIDES, anchor_count, outputs
from detport.errors import Failure, UsageError
from detport.graph.export import export
from detport.networks.bifpn import down
from detport.networks.efficientdet import EfficientDet, build
from detport.networks.efficientnet import same_padding, scaled

CANVAS = (128, 256)
CLASSES = 3
NARROW = {
    "contract": "compact",
    "width": 0.1,
    "depth": 0.1,
    "channels": 8,
    "cells": 1,
    "combine": "fastattn",
    "repeats": 1,
    "classes": CLASSES,
    "candidates": 50,
}
OPTIONS = {
    "anchor_scale": 4.0,
    "background": "none",
    "candidates": 50,
    "nms": "hard",
    "nms_iou": 0.5,
    "soft_sigma": 0.5,
    "max_detections": 10,
    "min_score": 0.001,
}
IMAGE = {
    "image_id": 9,
    "file": "9.jpg",
    "width": 512,
    "height": 200,
    "scale": 0.5,
    "resized": [256, 100],
    "pad": [0, 28],
}
CATEGORIES = [5, 7, 90]


def narrow(**changes) -> EfficientDet:
    torch.manual_seed(0)
    return build(NARROW | changes, CANVAS).eval()


def random_maps(seed: int, classes: int = CLASSES) -> dict[str, np.ndarray]:
    """The ten raw outputs of a network for CANVAS; no two logits are equal."""
    random = np.random.RandomState(seed)
    maps = {}
    for kind, values in (("class", classes), ("box", 4)):
        for i, stride in enumerate(STRIDES):
            shape = (1, ANCHORS * values, CANVAS[0] // stride, CANVAS[1] // stride)
            if kind == "class":
                ranks = random.permutation(np.prod(shape)) * len(STRIDES) + i
                maps[f"class_{i}"] = (ranks.reshape(shape) / 4096 - 8).astype(np.float32)
            else:
                maps[f"box_{i}"] = random.standard_normal(shape).astype(np.float32)
    return maps


def all_pairs(maps: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [anchor, class] and codes [anchor, 4] in the order that defines the flat index."""
    tables = []
    for kind, values in (("class", CLASSES), ("box", 4)):
        levels = [maps[f"{kind}_{i}"].transpose(0, 2, 3, 1).reshape(-1, values) for i in range(len(STRIDES))]
        tables.append(np.concatenate(levels))
    return tables[0], tables[1]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflows(kernel: int, stride: int) -> None:
    for n in range(2 * stride, 40 * stride, stride):
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        assert same_padding(kernel, stride) == (total // 2, total - total // 2)


def test_pool_ignores_what_is_outside() -> None:
    x = -torch.rand(1, 2, 4, 6) - 1
    expected = torch.stack([x[:, :, i : i + 3, j : j + 3].amax((2, 3)) for i in (0, 2) for j in (0, 2, 4)], dim=2)
    assert torch.equal(down(x).flatten(2), expected)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(32, 1.8, 56), (16, 1.8, 32), (24, 1.8, 40), (320, 1.8, 576), (16, 0.1, 8)]
)
def test_scaled_channels(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


def test_scaled_channels_lose_at_most_a_tenth() -> None:
    assert scaled(11, 1.0) == 16  # the nearest multiple, 8, is more than a tenth below


@pytest.mark.parametrize("canvas", [(100, 128), (128, 192)])
def test_build_refuses_a_canvas_that_the_pyramid_does_not_divide(canvas: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 128"):
        build(NARROW, canvas)


@pytest.mark.parametrize("combine", ["sum", "fastattn"])
def test_raw_contract_has_ten_maps(combine: str) -> None:
    with torch.no_grad():
        found = narrow(contract="raw", combine=combine)(torch.zeros(1, 3, *CANVAS))
    sizes = [(CANVAS[0] // stride, CANVAS[1] // stride) for stride in STRIDES]
    classes = [(1, ANCHORS * CLASSES, *size) for size in sizes]
    assert [tuple(x.shape) for x in found] == classes + [(1, ANCHORS * 4, *size) for size in sizes]


@pytest.mark.parametrize("contract", ["raw", "compact"])
@pytest.mark.parametrize("candidates", [50, 10**6])
def test_a_yaml_is_held_to_what_the_network_gives(contract: str, candidates: int) -> None:
    options = {"contract": contract, "candidates": candidates}
    with torch.no_grad():
        found = narrow(**options)(torch.zeros(1, 3, *CANVAS))
    expected = outputs(NARROW | options, *CANVAS)
    assert [(list(x.shape), str(x.dtype)) for x in found] == [
        (each["shape"], f"torch.{each['dtype']}") for each in expected
    ]


@pytest.mark.parametrize("contract", ["raw", "compact"])
def test_the_export_warns_of_nothing(tmp_path: Path, contract: str) -> None:
    found = outputs(NARROW | {"contract": contract}, *CANVAS)
    declared = [{"name": f"output_{i}"} | each for i, each in enumerate(found)]
    model = {"input": {"name": "image", "height": CANVAS[0], "width": CANVAS[1]}, "export": {"opset": 11}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(narrow(contract=contract), model | {"outputs": declared}, "standard", tmp_path / "exported.onnx")


def test_negative_edge_weights_count_as_zero() -> None:
    network = narrow(contract="raw")
    image = torch.rand(1, 3, *CANVAS)
    found = []
    with torch.no_grad():
        for weight in (-3.0, 0.0):
            for name, value in network.named_parameters():
                if name.endswith("edge_weights"):
                    value[0] = weight
            found.append(network(image))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_compact_contract_with_fewer_pairs_than_candidates() -> None:
    pairs = anchor_count(*CANVAS) * CLASSES
    with torch.no_grad():
        logits, codes, index = narrow(candidates=10**6)(torch.zeros(1, 3, *CANVAS))
    assert (logits.shape, codes.shape, index.shape) == ((1, pairs), (1, pairs, 4), (1, pairs))
    assert sorted(index[0].tolist()) == list(range(pairs))


@pytest.mark.parametrize("candidates", [1, 50, 10**6])
def test_selection_is_the_top_of_all_pairs(candidates: int) -> None:
    maps = random_maps(1)
    table, codes = all_pairs(maps)
    order = np.argsort(-table.reshape(-1), kind="stable")[:candidates]

    tensors = [torch.from_numpy(x) for x in maps.values()]
    with torch.no_grad():
        in_network = [x[0].numpy() for x in narrow(candidates=candidates).select(tensors[:5], tensors[5:])]
    on_host = best_pairs(*pair_maps(maps, CLASSES), candidates)
    for found_logits, found_codes, found in (in_network, on_host):
        ranked = np.argsort(-found_logits, kind="stable")
        assert (found[ranked] == order).all()
        assert (found_logits[ranked] == table.reshape(-1)[order]).all()
        assert (found_codes[ranked] == codes[order // CLASSES]).all()


def test_both_contracts_give_the_same_rows_in_any_order_of_the_outputs() -> None:
    maps = random_maps(2)
    names = list(maps)
    np.random.RandomState(0).shuffle(names)
    rows = decode({f"output_{i}": maps[name] for i, name in enumerate(names)}, IMAGE, OPTIONS, CATEGORIES)
    logits, codes, index = best_pairs(*pair_maps(maps, CLASSES), OPTIONS["candidates"])
    mixed = np.random.RandomState(0).permutation(len(index))
    compact = {
        "logits": logits[None, mixed],
        "box_codes": codes[None, mixed],
        "index": index[None, mixed].astype(np.int32),
    }
    assert rows == decode(compact, IMAGE, OPTIONS, CATEGORIES)
    assert len(rows) == OPTIONS["max_detections"]
    assert {row["category_id"] for row in rows} <= set(CATEGORIES)
    assert {row["image_id"] for row in rows} == {9}


@pytest.mark.parametrize("change", ["missing", "foreign", "twice"])
def test_raw_outputs_that_do_not_pair_are_refused(change: str) -> None:
    maps = random_maps(3)
    if change == "missing":
        del maps["box_2"]
    elif change == "foreign":
        maps["box_2"] = maps["box_2"][:, 1:]
    else:
        maps["again"] = maps["class_0"]
    with pytest.raises(UsageError, match="map"):
        decode(maps, IMAGE, OPTIONS, CATEGORIES)


def test_four_classes_cannot_be_told_from_boxes() -> None:
    with pytest.raises(UsageError, match="compact"):
        decode(random_maps(4, classes=4), IMAGE, OPTIONS, [1, 2, 3, 4])


def test_anchor_of_the_last_index_that_float32_cannot_hold() -> None:
    classes, canvas = 90, (1536, 1536)
    last = np.array([441_936 * classes - 1], np.int32)
    assert int(np.float32(last[0])) != last[0]
    (box,) = anchors(last // classes, canvas, 5.0)
    centre, size = 1536 - 64, 5.0 * 128 * 2 ** (2 / 3)
    expected = [centre - 0.7 * size, centre - 0.35 * size, centre + 0.7 * size, centre + 0.35 * size]
    assert np.allclose(box, expected, rtol=1e-6)


def one(logit: float, code: list[float], index: int = 0) -> dict[str, np.ndarray]:
    return {
        "logits": np.array([[logit]], np.float32),
        "box_codes": np.array([[code]], np.float32),
        "index": np.array([[index]], np.int32),
    }


def test_a_box_of_zero_codes_is_the_clipped_anchor() -> None:
    cell = 40  # row 1, column 8 of P3: centre (68, 12), a square of 32 pixels
    (row,) = decode(one(0.0, [0, 0, 0, 0], cell * ANCHORS * CLASSES + 1), IMAGE, OPTIONS, CATEGORIES)
    # x 52..84, y clipped from -4..28 to 0..28; twice as large in the original image
    assert row == {"image_id": 9, "category_id": 7, "bbox": [104.0, 0.0, 64.0, 56.0], "score": 0.5}


@pytest.mark.parametrize("index", [-1, anchor_count(*CANVAS) * CLASSES, 10**8])
def test_an_index_of_no_pair_is_named_with_its_image(index: int) -> None:
    last = anchor_count(*CANVAS) * CLASSES - 1
    assert len(decode(one(0.0, [0, 0, 0, 0], last), IMAGE, OPTIONS, CATEGORIES)) == 1
    message = f"'9.jpg': index holds {index}; 3 categories at 128x256 have the pairs 0 to {last}"
    with pytest.raises(Failure, match=message):
        decode(one(0.0, [0, 0, 0, 0], index), IMAGE, OPTIONS, CATEGORIES)


def test_boxes_are_clipped_to_the_image_not_to_the_canvas() -> None:
    (row,) = decode(one(0.0, [0, 0, 200, 200]), IMAGE, OPTIONS, CATEGORIES)
    assert row["bbox"] == [0.0, 0.0, 512.0, 200.0]


def test_rows_end_at_the_lowest_score() -> None:
    assert decode(one(-7.0, [0, 0, 0, 0]), IMAGE, OPTIONS, CATEGORIES) == []
    assert decode(one(-7.0, [0, 0, 0, 0]), IMAGE, OPTIONS | {"nms": "soft"}, CATEGORIES) == []
    assert len(decode(one(-6.9, [0, 0, 0, 0]), IMAGE, OPTIONS, CATEGORIES)) == 1


@pytest.mark.parametrize("raw", [False, True])
def test_codes_that_give_no_box_are_named(raw: bool) -> None:
    """A wild code alone becomes an infinite box and is clipped; two can cancel to NaN, which no clipping removes."""
    outputs = with_classes(3)
    outputs["box_codes"][0, 1] = [1e38, 0, 1e38, 0]
    row = "row 1 of box_codes"
    if raw:
        outputs = random_maps(2)
        outputs["class_0"][0, 0, 0, 0] = 99  # anchor 0
        outputs["box_0"][0, :4, 0, 0] = [1e38, 0, 1e38, 0]
        row = "row 0 of the box maps, by anchor,"
    with np.errstate(all="ignore"), pytest.raises(Failure, match=rf"'9\.jpg': {row} becomes the box \[.*nan"):
        decode(outputs, IMAGE, OPTIONS, CATEGORIES)


def with_classes(count: int) -> dict[str, np.ndarray]:
    """One detection of every class of the first anchor of a network with so many classes."""
    return {
        "logits": np.zeros((1, count), np.float32),
        "box_codes": np.zeros((1, count, 4), np.float32),
        "index": np.arange(count, dtype=np.int32)[None],
    }


@pytest.mark.parametrize(("background", "expected"), [("none", [5, 7, 90]), ("first", [5, 7]), ("last", [5, 7])])
def test_pairs_of_the_background_are_no_detections(background: str, expected: list[int]) -> None:
    rows = decode(with_classes(3), IMAGE, OPTIONS | {"background": background}, expected)
    assert [row["category_id"] for row in rows] == expected


@pytest.mark.parametrize(
    ("categories", "background", "refused"), [(7, "none", False), (6, "last", False), (6, "none", True)]
)
def test_class_maps_of_a_ready_graph_tell_the_number_of_classes(tmp_path, categories, background, refused):
    """EfficientDet's raw outputs, under names of any exporter."""
    model = yaml.safe_load((config.ROOT / "demo" / "config" / "models" / "efficientdet.yaml").read_text())
    del model["checkpoint"], model["network"], model["patches"]
    sides = [32, 16, 8, 4, 2]
    shapes = [[1, 9 * values, side, side] for values in (7, 4) for side in sides]
    model["outputs"] = [{"name": f"{i}", "shape": shape, "dtype": "float32"} for i, shape in enumerate(shapes)]
    model["decode"] |= {"categories": list(range(1, categories + 1)), "background": background}
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(model | {"onnx": "m.onnx"}))
    if refused:
        message = (
            r"m\.yaml:\d+: decode\.categories: stand for 6 classes, background included; the maps of outputs have 7"
        )
        with pytest.raises(UsageError, match=message):
            config.load(path, "model")
    else:
        config.load(path, "model")


def test_raw_maps_count_the_background() -> None:
    maps = random_maps(2)
    assert decode(maps, IMAGE, OPTIONS | {"background": "last"}, [5, 7])
    with pytest.raises(UsageError, match=r"\[1, 27, 16, 32\]: neither a class map of 2 classes nor"):
        decode(maps, IMAGE, OPTIONS, [5, 7])
