"""Where error enters: named by node, and told apart from what was wrong before it."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import layers_page
from detport import layers, mixing
from detport.errors import Failure
from detport.graph import partners, stepping
from detport.page import render
from detport.precisions import float16


def chain(*nodes: tuple, **constants: float | list) -> onnx.ModelProto:
    """A graph of nodes (operator, inputs, output), each called as its output, from x [1, 2, 4] to y."""
    made = [helper.make_node(kind, read, [name], name=f"node_{name}") for kind, read, name in nodes]
    weights = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    fed, given = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4]) for name in ("x", "y"))
    graph = helper.make_graph(made, "chain", [fed], [given], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A real float16 graph, which ONNX Runtime's CPU runs in float32."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    for tensor in half.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in half.graph.node:
        node.input[:] = ["x_half" if name == "x" else name for name in node.input]
        node.output[:] = ["y_half" if name == "y" else name for name in node.output]
    half.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16))
    half.graph.node.append(helper.make_node("Cast", ["y_half"], ["y"], to=TensorProto.FLOAT))
    return half


def table(first: onnx.ModelProto, second: onnx.ModelProto, feeds: dict, limit: float = 1e9) -> tuple[list, list]:
    pairs = partners.partners(first, second)
    give, held = stepping.stepper(second, feeds, 1, pairs.values())
    found = layers.measure(first, feeds, pairs, partners.limits(second), give, held, 1, limit)
    return layers.ranked([found]), found.alone


X = {"x": np.array([[[1, 2, 3, 4], [5, 6, 7, 100]]], np.float32)}
PLANTED = chain(
    *(("Add", ["x", "one"], "a"), ("Mul", ["a", "thousand"], "b"), ("Relu", ["b"], "c"), ("Mul", ["c", "small"], "y")),
    one=1.0,
    thousand=1000.0,
    small=0.001,
)


def test_an_overflow_of_float16_is_the_node_that_makes_it_and_no_other():
    rows, alone = table(PLANTED, in_float16(PLANTED), X)
    assert [row["node"] for row in rows if row["own_error"] > 0.01] == ["node_b"]
    first = rows[0]
    assert (first["own_error"], first["error_out"], first["operator"]) == (math.inf, math.inf, "Mul")
    assert first["error_in"] < 0.01
    assert first["overflow_fp16"] == 1 / 8
    assert first["largest"] == 101_000
    after = {row["node"]: row for row in rows}
    assert after["node_c"]["own_error"] == 0, "it was given infinity"
    assert after["node_c"]["error_in"] == after["node_c"]["error_out"] == math.inf
    assert not alone


def test_what_the_table_proposes_to_keep_takes_the_overflow_away():
    """On the float16 that a backend computes with: the node that makes it, and those that read it."""

    def lowered(kept: set[str]) -> onnx.ModelProto:
        graph = onnx.shape_inference.infer_shapes(PLANTED)
        return float16.lowered(graph, kept, {"providers": ["CPUExecutionProvider"]}, None)

    rows, _ = table(PLANTED, lowered(set()), X)
    assert (rows[0]["node"], rows[0]["own_error"]) == ("node_b", math.inf)
    kept, *_ = mixing.proposals(rows, PLANTED.graph)
    assert kept == ["node_b", "node_y", "node_c"]
    rows, _ = table(PLANTED, lowered(set(kept)), X)
    assert max(row["error_out"] for row in rows) < 1e-3
    for name in kept:
        rows, _ = table(PLANTED, lowered({*kept} - {name}), X)
        assert max(row["error_out"] for row in rows) == math.inf, f"without {name}"


def test_what_has_no_partner_is_said_and_its_error_is_the_next_ones():
    second = in_float16(PLANTED)
    for node in second.graph.node:
        node.output[:] = ["other" if name == "b" else name for name in node.output]
        node.input[:] = ["other" if name == "b" else name for name in node.input]
    rows, alone = table(PLANTED, second, X)
    assert alone == ["b"]
    assert rows[0]["node"] == "node_c"
    assert rows[0]["own_error"] == math.inf


def test_a_spoiled_weight_is_found_and_what_follows_is_only_carried():
    spoiled = onnx.ModelProto()
    spoiled.CopyFrom(PLANTED)
    weight = next(each for each in spoiled.graph.initializer if each.name == "thousand")
    weight.CopyFrom(numpy_helper.from_array(np.float32(900), "thousand"))
    rows, _ = table(PLANTED, spoiled, X)
    assert [row["node"] for row in rows if row["own_error"] > 0] == ["node_b"]
    assert [row["error_out"] for row in rows] == pytest.approx([0.1, 0, 0.1, 0.1])


def test_tensors_beyond_the_stated_memory_stop_it():
    with pytest.raises(Failure, match=r"node node_a: the tensors at hand take .* more than layers.memory_gb"):
        table(PLANTED, PLANTED, X, limit=60)


def test_boxes_and_scores_of_one_tensor_count_alike():
    expected = np.concatenate([np.full((1, 4, 50), 200.0), np.full((1, 4, 50), 0.3)], axis=1)
    lost = expected.copy()
    lost[:, 4:] = 0
    assert layers.error([layers.wrong(lost, expected)]) == pytest.approx(math.sqrt(0.5))
    assert layers.error([layers.wrong(expected, expected)]) == 0


def test_what_is_next_to_nothing_on_one_image_says_little():
    """The scores of a class that is not there."""
    there, none = np.full((1, 2, 9), 0.9), np.full((1, 2, 9), 1e-4)
    gone = np.zeros((1, 2, 9))
    assert layers.error([layers.wrong(gone, none)]) == 1
    assert layers.error([layers.wrong(there, there), layers.wrong(gone, none)]) < 1e-3
    assert layers.error([layers.wrong(there[:, :, :3], there), layers.wrong(there, there)]) == 1, "another shape"


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows, _ = table(PLANTED, in_float16(PLANTED), X)
    path = tmp_path / "layers.tsv"
    path.write_text(layers.text(rows, ["two against one", "and so on"]))
    found = layers.read(path)
    assert [row["node"] for row in found] == [row["node"] for row in rows]
    assert found[0]["own_error"] == math.inf
    assert found[0]["saturated_int8"] is None


def test_the_table_as_a_page(tmp_path, monkeypatch):
    """Names are text, an infinite error is the largest, and the page says of what it is."""
    rows, _ = table(PLANTED, in_float16(PLANTED), X)
    rows[1]["node"] = "<b>node</b>"
    rows[1]["saturated_int8"] = 0.25
    (tmp_path / "layers.tsv").write_text(layers.text(rows, ["model.onnx against simplified.onnx", "4 tensors"]))
    layers_page.main(
        ["--name", "m on float16", "--layers", f"{tmp_path}/layers.tsv", "--output", f"{tmp_path}/layers.html"]
    )
    page = (tmp_path / "layers.html").read_text()
    assert page.index("node_b") < page.index("&lt;b&gt;node") and "<b>" not in page
    assert '<data value="Infinity">∞</data>' in page and '<data value="0.25">0.25</data>' in page
    assert page.count('<tr><td class="n">') == len(rows) and 'class="notice"' not in page
    assert "<li>model.onnx against simplified.onnx</li><li>4 tensors</li>" in page
    assert "m on float16" in page and page.count("</script>") == 2
    monkeypatch.setattr(render, "NODES", 3)
    cut = render.layers("m", [], rows)
    assert cut.count('<tr><td class="n">') == 3 and "The first 3 of 4 nodes" in cut
