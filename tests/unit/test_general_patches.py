"""Patches that a yaml declares without code, on small graphs: what they do, refuse and say."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import export
import patch as patch_stage
from detport import config
from detport.errors import Failure, UsageError
from detport.graph import explain, patches
from detport.report import text

X = np.array([[-3, 1, 2, 9]], np.float32)
BODY = """
    a = Clip (x, low, high)
    b = Mul (a, three)
    c = Clip (b, low, high)
    both = Concat <axis = 1> (a, c)
    y = Relu (both)
"""


def graph() -> onnx.ModelProto:
    head = '<ir_version: 7, opset_import: ["" : 13]> g (float[1,4] x) => (float[1,8] y)'
    model = parser.parse_model(f"{head} {{ {BODY} }}")
    values = {"low": 0.0, "high": 6.0, "three": 3.0}
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), name) for name, v in values.items())
    return model


def run(model: onnx.ModelProto, feed: str = "x") -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {feed: X})


def declared(name: str, **options: object) -> dict:
    """As a backend's yaml declares it, with the schema's defaults."""
    value = {"title": "x", "family": "onnxruntime", "patches": [{"name": name, "options": options}]}
    return config.check(value, "backend", "mine.yaml")["patches"][0]


def patched(name: str, **options: object) -> onnx.ModelProto:
    model = graph()
    patches.apply(model, declared(name, **options))
    return model


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_casts_around_an_operator():
    model = patched("cast_around", operator="Concat", fed_by=["Clip"], to="float16", back="float32")
    assert kinds(model) == ["Clip", "Mul", "Clip", "Cast", "Cast", "Concat", "Cast", "Relu"]
    np.testing.assert_allclose(run(model)[0], run(graph())[0], rtol=1e-3)
    model = patched("cast_around", operator="Mul", inputs=[0], to="int32")
    assert [list(node.input) for node in model.graph.node if node.op_type == "Mul"] == [["b_input_0_int32", "three"]]


def test_the_neighbours_choose_the_nodes():
    """Two Clips: the first is fed by the input, the second by a Mul; both are read by the Concat."""
    for criteria, count in (({"fed_by": ["input"]}, 1), ({"fed_by": ["Mul"]}, 1), ({"read_by": ["Concat"]}, 2)):
        model = patched("cast_around", operator="Clip", to="float64", back="float32", **criteria)
        assert kinds(model).count("Cast") == count * 4, criteria
    with pytest.raises(Failure, match="patch cast_around: its pattern is 0 times in the graph, at least 1 expected"):
        patched("cast_around", operator="Clip", read_by=["output"], to="float64")


def test_a_constant_input_is_replaced_for_the_chosen_nodes_alone():
    model = patched("replace_constant", operator="Clip", fed_by=["Mul"], input=2, value=4)
    assert run(model)[0].tolist() == [[0, 1, 2, 6, 0, 3, 4, 4]]
    assert {tensor.name: numpy_helper.to_array(tensor).dtype for tensor in model.graph.initializer}.items() >= {
        ("high", np.dtype("float32")),
        ("c_input_2_replaced", np.dtype("float32")),
    }
    with pytest.raises(Failure, match="0 times"):
        patched("replace_constant", operator="Clip", input=2, was=7, value=4)
    assert len(patched("replace_constant", operator="Clip", input=2, was=6, value=[4]).graph.initializer) == 4


def test_an_attribute_is_replaced():
    model = graph()
    model.graph.node.append(helper.make_node("LeakyRelu", ["y"], ["z"], alpha=0.1))
    changes = patches.apply(model, declared("replace_constant", operator="LeakyRelu", attribute="alpha", value=1))
    assert (changes.matches, model.graph.node[-1].attribute[0].f) == (1, 1.0)
    assert model.graph.node[-1].attribute[0].type == onnx.AttributeProto.FLOAT
    with pytest.raises(Failure, match="0 times"):
        patches.apply(model, declared("replace_constant", operator="LeakyRelu", attribute="beta", value=1))


@pytest.mark.parametrize("places", [{}, {"input": 1, "attribute": "alpha"}])
def test_a_constant_is_an_input_or_an_attribute(places):
    with pytest.raises(UsageError, match=r"patches\.0\.options: expected one of: input: PLACE; attribute: NAME"):
        declared("replace_constant", operator="Clip", value=1, **places)


def test_a_cut_leaves_what_the_outputs_need():
    model = patched("cut_at_outputs", outputs=["c", "a"])
    assert kinds(model) == ["Clip", "Mul", "Clip"]
    assert [value.name for value in model.graph.output] == ["c", "a"]
    assert [found.tolist() for found in run(model)] == [[[0, 3, 6, 6]], [[0, 1, 2, 6]]]
    assert [tensor.name for tensor in patched("cut_at_outputs", outputs=["a"]).graph.initializer] == ["low", "high"]
    with pytest.raises(Failure, match="its pattern is 1 times in the graph, 2 expected"):
        patches.apply(graph(), declared("cut_at_outputs", outputs=["a", "nowhere"]) | {"matches": 2})


def test_inputs_and_outputs_are_renamed_everywhere():
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["z"])],
        "body",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
    )
    model = graph()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner))
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 4]))
    changes = patches.apply(model, declared("rename", inputs={"x": "image"}, outputs={"y": "found"}))
    assert changes.matches == 2
    assert [value.name for value in model.graph.output] == ["found", "w"]
    assert run(model, "image")[1].tolist() == (X + X).tolist()
    with pytest.raises(Failure, match="y: the graph has a tensor both already"):
        patched("rename", outputs={"y": "both"})
    with pytest.raises(Failure, match="0 times"):
        patched("rename", inputs={"images": "x"})


def test_another_opset():
    model = patched("set_opset", opset=17)
    assert model.opset_import[0].version == 17
    np.testing.assert_array_equal(run(model)[0], run(graph())[0])
    with pytest.raises(Failure, match="0 times"):
        patched("set_opset", opset=13)
    with pytest.raises(Failure, match=r"patch set_opset: from 13 to 99: .*; export with another opset"):
        patched("set_opset", opset=99)


def test_the_contract_of_a_models_yaml_holds_as_for_others():
    contract = {"matches": 1, "before": {}, "after": {"Cast": 3}, "changed": {}}
    patches.apply(graph(), declared("cast_around", operator="Concat", to="float16", back="float32") | contract)
    with pytest.raises(Failure, match="after declares"):
        patches.apply(graph(), declared("cast_around", operator="Concat", to="float16") | contract)


def test_what_is_found_is_explained():
    lines, kept = explain.explain(graph(), [declared("cast_around", operator="Concat", to="float16", back="float32")])
    assert kept
    said = "\n".join(lines)
    assert "found in 1 places; as declared" in said
    assert "    + Cast 'both_input_0_float16': fed by Clip; read by Concat" in said
    assert "    changed Relu" not in said


def test_what_is_not_found_is_explained_by_the_neighbours():
    lines, kept = explain.explain(graph(), [declared("cast_around", operator="Clip", fed_by=["Conv"], to="float16")])
    assert not kept
    said = "\n".join(lines)
    assert "FAILS: patch cast_around: its pattern is 0 times" in said
    assert "the graph has 2 Clip:" in said
    assert "Clip 'c': fed by Mul, constant, constant; read by Concat" in said
    lines, _ = explain.explain(graph(), [declared("fuse_pad_into_maxpool")])
    assert "    the graph has 0 MaxPool" in lines, "what a patch is about, as its yaml says"
    lines, _ = explain.explain(graph(), [declared("rename", inputs={"image": "x"})])
    assert "    inputs of the graph: x" in lines


def test_later_patches_are_explained_behind_earlier_ones():
    both = [declared("rename", outputs={"y": "found"}), declared("rename", outputs={"found": "again"})]
    lines, kept = explain.explain(graph(), both)
    assert kept and "    outputs: found -> again" in lines


# The stages


MODEL = """
title: a pool
dataset: none
onnx: pool.onnx
input: {name: image, height: 8, width: 8}
preprocess:
  {decoder: pillow, channels: RGB, resize: {library: pillow, rule: fit}, mean: [0, 0, 0], std: [1, 1, 1],
  arithmetic: float32}
outputs: [{name: pooled, shape: [1, 3, 4, 4], dtype: float32}]
decode: {kind: efficientdet, categories: [1], anchor_scale: 4, nms: hard, nms_iou: 0.5, max_detections: 9,
  min_score: 0}
metric: {kind: coco, iou_types: [bbox]}
patches:
  export:
    - {name: cut_at_outputs, matches: 1, before: {Softmax: 1}, after: {}, options: {outputs: [raw]}}
    - {name: rename, matches: 1, before: {}, after: {}, options: {outputs: {raw: pooled}}}
"""
BACKEND = """
title: x
family: onnxruntime
patches:
  - {name: cast_around, options: {operator: MaxPool, to: float16, back: float32}}
"""


@pytest.fixture
def place(tmp_path) -> Path:
    """A ready graph that ends otherwise than its yaml says, and a backend with a patch of its own."""
    body = "raw = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (image)  extra = Softmax <axis = 1> (raw)"
    head = '<ir_version: 7, opset_import: ["" : 13]> g (float[1,3,8,8] image) => (float[1,3,4,4] extra)'
    onnx.save(parser.parse_model(f"{head} {{ {body} }}"), tmp_path / "pool.onnx")
    (tmp_path / "pool.yaml").write_text(MODEL)
    (tmp_path / "mine.yaml").write_text(BACKEND)
    return tmp_path


def run_stage(stage: object, *words: object, **flags: object) -> None:
    stage.main([*map(str, words), *(str(part) for key, value in flags.items() for part in (f"--{key}", value))])


def test_a_ready_graph_is_patched_before_it_is_held_to_its_contract(place):
    run_stage(export, model=place / "pool.yaml", weights=place / "pool.onnx", output=place / "exported.onnx")
    assert [value.name for value in onnx.load(place / "exported.onnx").graph.output] == ["pooled"]
    (place / "pool.yaml").write_text(MODEL.split("patches:")[0])
    with pytest.raises(Failure, match=r"the graph has extra .*, the model's yaml declares pooled"):
        run_stage(export, model=place / "pool.yaml", weights=place / "pool.onnx", output=place / "exported.onnx")


def test_a_backends_own_patches_are_applied_and_recorded(place):
    run_stage(export, model=place / "pool.yaml", weights=place / "pool.onnx", output=place / "exported.onnx")
    flags = {"model": place / "pool.yaml", "backend": place / "mine.yaml", "onnx": place / "exported.onnx"}
    with pytest.raises(UsageError, match="--output and --output-json are needed, or --explain"):
        run_stage(patch_stage, **flags)
    run_stage(patch_stage, **flags, output=place / "patched.onnx", **{"output-json": place / "patches.json"})
    assert kinds(onnx.load(place / "patched.onnx")) == ["Cast", "MaxPool", "Cast"]
    (done,) = json.loads((place / "patches.json").read_text())["patches"]
    assert (done["name"], done["matches"], done["effect"]) == ("cast_around", 1, None)
    assert "drops the rounding" in done["unmeasured"], "it would say that nothing changes"


def test_explain_prints_and_writes_nothing(place, capsys):
    run_stage(export, model=place / "pool.yaml", weights=place / "pool.onnx", output=place / "exported.onnx")
    flags = {"model": place / "pool.yaml", "backend": place / "mine.yaml", "onnx": place / "exported.onnx"}
    before = set(place.iterdir())
    run_stage(patch_stage, "--explain", **flags)
    assert "cast_around: casts the inputs of an operator's nodes" in capsys.readouterr().out
    (place / "mine.yaml").write_text(BACKEND.replace("MaxPool", "AveragePool"))
    with pytest.raises(Failure, match="a patch does not keep its contract"):
        run_stage(patch_stage, "--explain", **flags)
    assert "the graph has 0 AveragePool" in capsys.readouterr().out
    assert set(place.iterdir()) == before


def test_what_cannot_be_run_is_not_measured_and_says_so(place, capsys):
    (place / "mine.yaml").write_text(BACKEND.replace("to: float16, back: float32", "to: int64"))
    run_stage(export, model=place / "pool.yaml", weights=place / "pool.onnx", output=place / "exported.onnx")
    run_stage(
        patch_stage,
        **{"model": place / "pool.yaml", "backend": place / "mine.yaml", "onnx": place / "exported.onnx"},
        **{"output": place / "patched.onnx", "output-json": place / "patches.json"},
    )
    graph_done = json.loads((place / "patches.json").read_text())
    assert "ONNX Runtime does not load it" in graph_done["patches"][0]["unmeasured"]
    assert any("lossy: NOT MEASURED, " in line for line in text.patch_lines("mine", [graph_done]))


def test_patches_of_the_export_are_for_any_backend(place):
    wrong = MODEL.replace("name: rename", "name: pad_maxpool_with_zero").replace("{outputs: {raw: pooled}}", "{}")
    (place / "pool.yaml").write_text(wrong)
    with pytest.raises(UsageError, match=r"patches\.export\.1: pad_maxpool_with_zero is for the family ascend alone"):
        config.load(place / "pool.yaml", "model")


def test_patches_of_the_export_are_for_ready_graphs(tmp_path):
    text_of = (config.ROOT / "demo" / "config" / "models" / "efficientdet.yaml").read_text()
    path = tmp_path / "m.yaml"
    path.write_text(text_of.replace("patches:\n  ascend:", "patches:\n  export:"))
    with pytest.raises(UsageError, match=r"patches.export: is for a model that is ONNX already"):
        config.load(path, "model")
