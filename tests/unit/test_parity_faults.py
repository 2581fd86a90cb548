"""Faults planted one at a time between the image and the compiled model: the report names the rung that has it."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from detport import canvases, checkpoints, config, networks, shards
from detport.graph import export
from detport.graph.patches import pad_maxpool_with_zero
from detport.parity import chosen, ladder, rungs
from detport.report import ladder as told
from detport.report.gates import FAIL, PASS

DEMO = config.ROOT / "demo"
BACKEND = config.load_backend(config.ROOT / "config/backends/onnxruntime.yaml")
ROWS = [{"image_id": i, "file": f"{i:012d}.jpg"} for i in (1943, 3071)]
COUNT = 1  # of them go through the rungs
SCORE = 0.3
Edit = Callable[[onnx.ModelProto], object]


def size_of(row: dict) -> dict:
    """A row of the index with the sizes that the file has."""
    width, height = Image.open(DEMO / "data/images" / row["file"]).size
    return row | {"width": width, "height": height}


class Case:
    """A demo model with two images, its first rungs, and the graph that they end in."""

    def __init__(self, name: str, folder: Path, backend: dict = BACKEND):
        self.settings = config.load(DEMO / f"config/models/{name}.yaml", "model")
        self.model = config.load_model(DEMO / f"config/models/{name}.yaml", "parity", backend)
        self.folder, self.files = folder, {}
        self.graph = folder / "exported.onnx"
        own = canvases.select(self.settings, None)
        if "onnx" in self.settings:
            export.import_onnx(DEMO / self.settings["onnx"], own, self.graph)
        else:
            weights = folder / "weights.safetensors"
            checkpoint = self.settings["checkpoint"]
            checkpoints.convert(DEMO / checkpoint["file"], checkpoint, weights)
            network = networks.build(own)
            checkpoints.load(network, weights)
            export.export(network, own, "standard", self.graph)
            self.files["weights"] = [weights]
        rows = [size_of(row) for row in ROWS]
        self.images, self.levels, _ = chosen.prepare(rows, DEMO / "data/images", self.model, COUNT, 0)
        self.begun = list(self.climb(self.files))[:1] if self.files else []

    def climb(self, files: dict) -> list[rungs.Rung]:
        return list(ladder.climb(self.model, BACKEND, files, self.images, self.folder / "parity.json", 1))

    def verdicts(self, rung: str, edit: Edit, precision: str = "float32") -> dict[str, dict]:
        """What is told of every rung if the graph has been edited from one of them on."""
        graph = onnx.load(self.graph)
        edit(graph)
        broken = self.folder / "broken.onnx"
        onnx.save(graph, broken)
        names = ("exported", "simplified", "patched", "compiled")
        files = {name: [self.graph if names.index(name) < names.index(rung) else broken] for name in names}
        climbed = [*self.begun, *(each for each in self.climb(files) if each.name != "eager")]
        found = list(rungs.compared(climbed, self.images, self.model, SCORE))
        parity = {"backend": "onnxruntime", "rungs": found, "precisions": {"compiled": precision}}
        return {row["rung"]: row for row in told.judged(parity, self.settings["parity"])}


@pytest.fixture(scope="module")
def retinamask(tmp_path_factory) -> Case:
    return Case("retinamask", tmp_path_factory.mktemp("retinamask"))


@pytest.fixture(scope="module")
def yolo(tmp_path_factory) -> Case:
    return Case("yolo", tmp_path_factory.mktemp("yolo"))


def only(verdicts: dict[str, dict], rung: str) -> str:
    """What is told of the rung, which is the only one that fails."""
    failed = {name: row["told"] for name, row in verdicts.items() if row["verdict"] == FAIL}
    assert list(failed) == [rung], verdicts
    assert all(row["verdict"] == PASS for name, row in verdicts.items() if name != rung)
    return failed[rung]


def initializer(graph: onnx.ModelProto, change: Callable[[np.ndarray], None]) -> None:
    """Change the first weight of a convolution with many channels."""
    weights = {each.name: each for each in graph.graph.initializer}
    node = [node for node in graph.graph.node if node.op_type == "Conv" and node.input[1] in weights][3]
    array = numpy_helper.to_array(weights[node.input[1]]).copy()
    change(array)
    weights[node.input[1]].CopyFrom(numpy_helper.from_array(array, node.input[1]))


def test_without_a_fault_every_rung_passes(retinamask):
    found = retinamask.verdicts("exported", lambda graph: None)
    assert list(found) == ["eager", "exported", "simplified", "patched", "compiled"]
    assert {row["verdict"] for row in found.values()} == {PASS}


def test_one_spoiled_weight_in_the_exported_graph(retinamask):
    def spoil(array: np.ndarray) -> None:
        array.reshape(-1)[7] += 10 * np.abs(array).max()

    assert "differs by" in only(retinamask.verdicts("exported", lambda graph: initializer(graph, spoil)), "exported")


def test_roi_align_shifted_by_half_a_pixel(retinamask):
    """The rows of a RoiAlign are x1 y1 x2 y2 in pixels of the input."""

    def shift(graph: onnx.ModelProto) -> None:
        for i, node in [(i, node) for i, node in enumerate(graph.graph.node) if node.op_type == "RoiAlign"][::-1]:
            scale = next(each.f for each in node.attribute if each.name == "spatial_scale")
            half = numpy_helper.from_array(np.float32([0.5 / scale]), f"half_{i}")
            graph.graph.initializer.append(half)
            moved = helper.make_node("Sub", [node.input[1], half.name], [f"moved_{i}"])
            node.input[1] = moved.output[0]
            graph.graph.node.insert(i, moved)

    found = only(retinamask.verdicts("exported", shift), "exported")
    assert "masks differs by" in found
    assert "a mask has IoU" in found


def test_two_outputs_swapped(retinamask):
    def swap(graph: onnx.ModelProto) -> None:
        names = {"scores": "labels", "labels": "scores"}
        for node in graph.graph.node:
            for group in (node.input, node.output):
                group[:] = [names.get(name, name) for name in group]
        for output in graph.graph.output:
            if output.name in names:
                del output.type.tensor_type.shape.dim[:]
                kind = onnx.TensorProto.INT32 if output.name == "scores" else onnx.TensorProto.FLOAT
                output.type.tensor_type.elem_type = kind

    found = retinamask.verdicts("simplified", swap)
    assert found["exported"]["verdict"] == PASS
    assert found["simplified"]["verdict"] == FAIL
    assert "scores is int32 [100], was float32 [100]" in found["simplified"]["told"]


def test_an_overflow_of_float16(yolo):
    """A tensor passes through float16 in which it becomes infinite."""

    def overflow(graph: onnx.ModelProto) -> None:
        i, node = [(i, node) for i, node in enumerate(graph.graph.node) if node.op_type == "Conv"][5]
        own, node.output[0] = node.output[0], "wide"
        large = numpy_helper.from_array(np.float32([1e6]), "large")
        graph.graph.initializer.append(large)
        half, full = ({"to": kind} for kind in (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT))
        steps = [
            helper.make_node("Mul", ["wide", "large"], ["larger"]),
            helper.make_node("Cast", ["larger"], ["half"], **half),
            helper.make_node("Cast", ["half"], ["full"], **full),
            helper.make_node("Div", ["full", "large"], [own]),
        ]
        for step in reversed(steps):
            graph.graph.node.insert(i + 1, step)

    found = only(yolo.verdicts("compiled", overflow, "float16"), "compiled")
    assert "NaN" in found or "lost" in found


def test_padding_of_minus_infinity_turned_to_zero(tmp_path):
    """By a patch that is made for a device without -inf: it says itself that it is lossy, and here is what it costs."""
    case = Case("efficientdet", tmp_path)
    found = case.verdicts("patched", pad_maxpool_with_zero.edit)
    assert [name for name, row in found.items() if row["verdict"] == FAIL] == ["patched", "compiled"]
    assert "box_codes differs by" in found["patched"]["told"]
    assert "box_codes differs by" in found["compiled"]["told"], "ONNX Runtime's optimiser undoes it"


@pytest.mark.parametrize("change", [{"nms_iou": 0.1}, {"categories": [2, 1, 4, 5, 7, 8, 11]}])
def test_a_mistake_of_the_yaml_that_all_rungs_share_is_none_of_the_ladder(yolo, change):
    """Other parts of the report are for it: check names categories, the doctor tries thresholds."""
    case = copy.copy(yolo)
    case.model = yolo.model | {"decode": yolo.model["decode"] | change}
    assert {row["verdict"] for row in case.verdicts("exported", lambda graph: None).values()} == {PASS}


def test_an_image_that_is_missing_is_named_and_another_one_taken(yolo):
    rows = [{"image_id": 1, "file": "gone.jpg", "width": 8, "height": 8}, *map(size_of, ROWS)]
    for seed in range(9):
        found, _, bad = chosen.prepare(rows, DEMO / "data/images", yolo.model, 2, seed)
        assert [image.entry["image_id"] for image in found] == [1943, 3071]
        assert bad in ([], [{"image_id": 1, "file": "gone.jpg", "reason": "no such file"}])


def test_every_image_is_on_its_own_canvas():
    """Of the same number of pixels, so that a tensor of the other one would fit."""
    backend = config.load_backend(config.ROOT / "config/backends/onnxruntime.yaml")
    model = config.load_model(DEMO / "config/models/gfocalv2_portrait.yaml", "parity", backend)
    rows = [size_of({"image_id": path.stem, "file": path.name}) for path in sorted((DEMO / "data/images").iterdir())]
    rows = [
        max(rows, key=lambda row: row["width"] / row["height"]),
        min(rows, key=lambda row: row["width"] / row["height"]),
    ]
    found, levels, _ = chosen.prepare(rows, DEMO / "data/images", model, 2, 0)
    assert [image.tensor.shape for image in found] == [(1, 3, 192, 288), (1, 3, 288, 192)]
    assert all(each["largest"] < 1 and each["padding"] < 0.01 for each in levels)


def test_a_graph_that_nothing_here_can_run_is_not_measured_and_the_next_one_is_compared(yolo):
    def foreign(graph: onnx.ModelProto) -> None:
        graph.graph.node[-1].op_type = "BatchMultiClassNMS"

    found = yolo.verdicts("patched", foreign)
    assert found["patched"]["verdict"] == "NOT MEASURED"
    assert found["patched"]["told"].startswith("ONNX Runtime has no kernel for :BatchMultiClassNMS")


def test_shards_and_the_ladder_read_the_same_rows(tmp_path):
    """The order depends on the seed and the ids alone."""
    rows = [{"image_id": i, "file": f"{i}.jpg", "width": 1, "height": 1, "bytes": 1} for i in range(30)]
    path = tmp_path / "index.tsv"
    shards.write_index(path, [row | {"sha256": "0" * 64} for row in rows])
    ids = [row["image_id"] for row in chosen.drawn(shards.read_index(path), 0)]
    assert ids == [row["image_id"] for row in chosen.drawn(rows[::-1], 0)]
    assert ids != [row["image_id"] for row in chosen.drawn(rows, 1)]
    assert sorted(ids) == list(range(30))
