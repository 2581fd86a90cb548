"""float16 on the CPU: what a node gives is rounded, overflows as it would, and nothing of it is optimised away."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from detport import precisions
from detport.backends.onnxruntime import CPU, LEVELS
from detport.errors import UsageError
from detport.precisions import float16

CONFIG = {"providers": [CPU]}


def graph(body: str, rank: int = 2, **weights: object) -> onnx.ModelProto:
    """A model from x [1, 4] to y [any, …], of which every node is called after its first output."""
    shape = ",".join("abcd"[:rank])
    text = f'<ir_version: 7, opset_import: ["" : 13]> g (float[1,4] x) => (float[{shape}] y) {{ {body} }}'
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(w), name) for name, w in weights.items())
    return precisions.plain(model)


def run(model: onnx.ModelProto, x: list[float], level: str = "all") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    return session.run(None, {"x": np.array([x], np.float32)})[0]


def lowered(model: onnx.ModelProto, *kept: str) -> onnx.ModelProto:
    found = float16.lowered(precisions.plain(model), set(kept), CONFIG)
    onnx.checker.check_model(found, full_check=True)
    return found


CHAIN = "p = Mul (x, a)  y = Mul (p, b)"
FACTORS = {"a": np.float32(30000), "b": np.float32(1e-4)}


@pytest.mark.parametrize("level", LEVELS)
def test_a_sum_beyond_float16_overflows_at_every_level_of_optimisation(level):
    found = run(lowered(graph(CHAIN, **FACTORS)), [1, 2, 3, -3], level)
    assert found.dtype == np.float32
    assert np.isfinite(found[0]).tolist() == [True, True, False, False]
    expected = np.float16(np.float16(30000) * np.float16(1e-4))
    assert found[0, 0] == expected, "rounded after the node, and its weights before"


def test_onnxruntimes_own_float16_graph_does_not_overflow_on_the_cpu():
    """The reason why the CPU's graph has Casts of its own; when this fails they may go."""
    real = float16.lowered(graph(CHAIN, **FACTORS), set(), {"providers": ["SomeExecutionProvider", CPU]})
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in real.graph.initializer)
    assert np.isfinite(run(real, [1, 2, 3, -3])).all()


@pytest.mark.parametrize("kept", ["p", "y"])
def test_a_kept_node_computes_with_what_it_is_given_in_float32(kept):
    found = run(lowered(graph(CHAIN, **FACTORS), kept), [1 + 2**-12, 2, 3, 4])
    if kept == "p":
        assert not np.isfinite(found[0, 2:]).any(), "4 x 30000 is exact behind it, and rounded for the next"
    else:
        half = np.float16(30000)  # x is rounded to 1
        assert found[0, 0] == np.float32(half) * np.float32(1e-4), "its weight is float32"


def test_between_two_kept_nodes_nothing_is_rounded():
    model = graph(CHAIN, **FACTORS)
    x = [1 + 2**-12, 2, 3, 4]
    np.testing.assert_array_equal(run(lowered(model, "p", "y"), x), run(model, x))


def test_a_weight_of_kept_and_other_nodes_is_had_in_both_forms():
    third = np.float32(1 / 3)
    found = lowered(graph("p = Mul (x, w)  q = Mul (x, w)  y = Sub (p, q)", w=third), "q")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    assert weights == {"w": third, "w_as_float16": np.float32(np.float16(third))}


def test_constants_beyond_float16_are_saturated_and_named(caplog):
    body = "c = Constant <value = float {1000000.0}> ()  p = Mul (x, c)  q = Mul (p, tiny)  y = Add (q, infinite)"
    found = lowered(graph(body, tiny=np.float32(1e-9), infinite=np.float32(-np.inf)))
    weights = {tensor.name: float(numpy_helper.to_array(tensor)) for tensor in found.graph.initializer}
    assert weights == {"c": 65504, "tiny": pytest.approx(2**-24), "infinite": -np.inf}
    assert "constants beyond 65504 are saturated: c" in caplog.text


def test_what_only_hands_values_on_gets_no_casts():
    found = lowered(graph("p = Relu (x)  q = Concat <axis = 1> (p, x)  y = Transpose (q)"))
    assert [node.op_type for node in found.graph.node] == ["Cast", "Cast", "Relu", "Concat", "Transpose"]


def test_scales_and_sizes_stay_what_they_are():
    body = 'i = Reshape (x, shape)  y = Resize <mode = "linear"> (i, , scales)'
    scales = np.array([1, 1, 1, 7 / 3], np.float32)
    found = lowered(graph(body, 4, shape=np.array([1, 1, 1, 4]), scales=scales))
    kept = next(tensor for tensor in found.graph.initializer if tensor.name == "scales")
    np.testing.assert_array_equal(numpy_helper.to_array(kept), scales)
    assert run(found, [1, 2, 3, 4]).shape == (1, 1, 1, 9)


def test_integers_and_their_casts_are_rounded_where_they_become_float():
    body = "c = Constant <value = int64[1] {2049}> ()  f = Cast <to = 1> (c)  y = Add (x, f)"
    assert run(lowered(graph(body)), [0, 0, 0, 0])[0, 0] == 2048


def test_bodies_of_branches_are_rounded_too():
    """Of a tensor of the graph around it as well, which a kept node gives."""
    inner = helper.make_graph(
        [helper.make_node("Mul", ["p", "b"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
    )
    model = graph("yes = Constant <value = bool {1}> ()  p = Mul (x, a)  y = Identity (r)", **FACTORS)
    model.graph.node.insert(2, helper.make_node("If", ["yes"], ["r"], name="if", then_branch=inner, else_branch=inner))
    assert np.isfinite(run(model, [3] * 4)).all()
    assert not np.isfinite(run(float16.lowered(precisions.plain(model), set(), CONFIG), [3] * 4)).any()
    assert not np.isfinite(run(float16.lowered(precisions.plain(model), {"p"}, CONFIG), [3] * 4)).any()
    assert np.isfinite(run(float16.lowered(precisions.plain(model), {"p", "if"}, CONFIG), [3] * 4)).all()


def test_a_node_is_kept_by_its_name_or_that_of_its_output():
    model = graph("p = Mul (x, a)  y = Relu (p)", a=np.float32(1))
    model.graph.node[0].name = "/head/Mul"
    assert precisions.to_keep(model.graph, ["p", "/head/Mul", "y"], "m.onnx") == {"/head/Mul", "y"}
    with pytest.raises(UsageError, match=r"keep_fp32: m.onnx has no node or tensor '/head/Mu'; .* 2 nodes: /head/Mul"):
        precisions.to_keep(model.graph, ["/head/Mu"], "m.onnx")


def test_every_node_has_a_name_of_its_own():
    model = graph("p = Relu (x)  q = Relu (p)  y = Relu (q)")
    for node, name in zip(model.graph.node, ("same", "same", ""), strict=True):
        node.name = name
    assert [node.name for node in precisions.plain(model).graph.node] == ["same", "q", "y"]
