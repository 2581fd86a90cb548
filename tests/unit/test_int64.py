"""int64 -> int32 in small graphs: what is converted, what must stay, and that ONNX Runtime agrees."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from detport.graph.patches.int64_to_int32 import int64_to_int32

NONE = {"Cast": 0, "Shape": 0, "ConstantOfShape": 0, "Constant": 0, "initializer": 0, "beyond_int32": []}
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def graph(body: str, results: str, opset: int = 11) -> onnx.ModelProto:
    """A model with the input x [2, 3, 4]."""
    head = f'<ir_version: 7, opset_import: ["" : {opset}]> g (float[2,3,4] x) => ({results})'
    return parser.parse_model(f"{head} {{ {body} }}")


def converted(model: onnx.ModelProto, keep_required: bool = True) -> tuple[onnx.ModelProto, dict]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    counts = int64_to_int32(copy, keep_required)
    return copy, counts


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})


def same_results(model: onnx.ModelProto) -> dict:
    """Convert with the required inputs kept, check validity and results, return the counts."""
    copy, counts = converted(model)
    onnx.checker.check_model(copy, full_check=True)
    for before, after in zip(run(model), run(copy), strict=True):
        assert before.dtype == after.dtype and np.array_equal(before, after)
    return counts


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every constant."""
    found = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    return found | {node.output[0]: node.attribute[0].t.data_type for node in constants}


OPEN_SLICE = """
    s = Constant <value = int64[1] {1}> ()
    e = Constant <value = int64[1] {9223372036854775807}> ()
    a = Constant <value = int64[1] {2}> ()
    y = Slice (x, s, e, a)
"""


def test_open_slice_ends_are_saturated_and_reported() -> None:
    model = graph(OPEN_SLICE, "float[2,3,3] y")
    assert same_results(model) == NONE | {"Constant": 3, "beyond_int32": ["e"]}
    copy, _ = converted(model)
    end = next(node for node in copy.graph.node if node.output[0] == "e")
    assert numpy_helper.to_array(end.attribute[0].t).tolist() == [2**31 - 1]


def test_initializers() -> None:
    model = graph("y = Gather <axis = 2> (x, i)", "float[2,3,2] y")
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, -1]), "i"))
    assert same_results(model) == NONE | {"initializer": 1}
    assert types(converted(model)[0]) == {"i": TensorProto.INT32}


REQUIRED = """
    k = Constant <value = int64[1] {2}> ()
    best, where = TopK (x, k)
    shape = Constant <value = int64[2] {-1, 2}> ()
    y = Reshape (best, shape)
"""


def test_inputs_that_must_be_int64_stay_unless_asked_for() -> None:
    model = graph(REQUIRED, "float[6,2] y")
    assert same_results(model) == NONE
    copy, counts = converted(model, keep_required=False)
    assert counts == NONE | {"Constant": 2}
    assert types(copy) == {"k": TensorProto.INT32, "shape": TensorProto.INT32}


FROM_SHAPE = """
    n = Shape (x)
    two = Constant <value = int64 {2}> ()
    last = Gather <axis = 0> (n, two)
    f = Cast <to = 1> (last)
    y = Mul (x, f)
"""


def test_shapes_get_a_cast_that_all_readers_read() -> None:
    model = graph(FROM_SHAPE, "float[2,3,4] y")
    assert same_results(model) == NONE | {"Shape": 1, "Constant": 1}
    copy, _ = converted(model)
    assert kinds(copy) == ["Shape", "Cast", "Constant", "Gather", "Cast", "Mul"]
    assert copy.graph.node[1].output[0] == copy.graph.node[3].input[0] == "n"


TO_RESHAPE = """
    n = Shape (x)
    zero = Constant <value = int64[1] {0}> ()
    first = Gather <axis = 0> (n, zero)
    rest = Constant <value = int64[1] {-1}> ()
    shape = Concat <axis = 0> (first, rest)
    y = Reshape (x, shape)
"""


def test_what_a_required_input_is_computed_from_stays_too() -> None:
    """Of the path to the shape only the index of the Gather, which may have either type, is converted."""
    model = graph(TO_RESHAPE, "float[2,12] y")
    assert same_results(model) == NONE | {"Constant": 1}
    assert types(converted(model)[0]) == {"zero": TensorProto.INT32, "rest": TensorProto.INT64}
    copy, counts = converted(model, keep_required=False)
    assert counts == NONE | {"Constant": 2, "Shape": 1}
    assert kinds(copy)[:2] == ["Shape", "Cast"]


def test_a_constant_with_two_kinds_of_readers_is_had_in_both_types() -> None:
    model = graph("r = Reshape (x, c)  y = Slice (r, s, c)", "float[3,4] y")
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), name) for name, value in (("c", [4, 6]), ("s", [1, 2]))
    )
    assert same_results(model) == NONE | {"initializer": 2}
    copy, _ = converted(model)
    assert types(copy) == {"c": TensorProto.INT64, "c_int32": TensorProto.INT32, "s": TensorProto.INT32}
    assert [list(node.input) for node in copy.graph.node] == [["x", "c"], ["r", "s", "c_int32"]]


INDICES = """
    k = Constant <value = int64[1] {1}> ()
    best, where = TopK (x, k)
    one = Constant <value = int64 {1}> ()
    next = Add (where, one)
    f = Cast <to = 1> (next)
    y = Mul (best, f)
"""


def test_what_meets_indices_of_topk_stays() -> None:
    assert same_results(graph(INDICES, "float[2,3,1] y")) == NONE


FILLED = """
    n = Shape (x)
    fill = ConstantOfShape <value = int64[1] {5000000000}> (n)
    f = Cast <to = 1> (fill)
    y = Add (x, f)
"""


def test_constant_of_shape_gets_a_new_value_not_only_a_new_type() -> None:
    """Its input must be int64, so the Shape stays; its value, beyond int32, is saturated."""
    model = graph(FILLED, "float[2,3,4] y")
    copy, counts = converted(model)
    assert counts == NONE | {"ConstantOfShape": 1, "beyond_int32": ["fill"]}
    value = copy.graph.node[1].attribute[0].t
    assert numpy_helper.to_array(value).tolist() == [2**31 - 1] and value.data_type == TensorProto.INT32
    onnx.checker.check_model(copy, full_check=True)
    assert np.array_equal(run(copy)[0], X + np.float32(2**31 - 1))


def test_casts_to_int64() -> None:
    body = "i = Cast <to = 7> (x)  t = Constant <value = int64 {3}> ()  s = Mul (i, t)  y = Cast <to = 1> (s)"
    model = graph(body, "float[2,3,4] y")
    assert same_results(model) == NONE | {"Cast": 1, "Constant": 1}
    assert converted(model)[0].graph.node[0].attribute[0].i == TensorProto.INT32


@pytest.mark.parametrize("keep_required", [True, False])
def test_outputs_keep_their_types(keep_required: bool) -> None:
    model = graph("y = Cast <to = 7> (x)", "int64[2,3,4] y")
    copy, counts = converted(model, keep_required)
    assert counts == NONE
    assert run(copy)[0].dtype == np.int64


def test_integers_in_the_short_form() -> None:
    model = graph("i = Constant <value_ints = [1, 0]> ()  y = Gather <axis = 1> (x, i)", "float[2,2,4] y", opset=13)
    assert same_results(model) == NONE | {"Constant": 1}
    assert types(converted(model)[0]) == {"i": TensorProto.INT32}


def test_bodies_read_tensors_of_the_graph_around_them() -> None:
    """`i` is read inside the If, where its type cannot be changed: there it stays, the Gather outside gets a copy."""
    inside = helper.make_graph(
        [helper.make_node("Reshape", ["x", "i"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [2, 12])],
    )
    model = graph("yes = Constant <value = bool {1}> ()  y = Gather <axis = 1> (x, i)", "float[2,2,4] y, float[2,12] z")
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, -1]), "i"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=inside, else_branch=inside))
    assert same_results(model) == NONE | {"initializer": 1}
    assert types(converted(model)[0])["i"] == TensorProto.INT64


def test_stale_types_of_intermediate_tensors_are_removed() -> None:
    model = onnx.shape_inference.infer_shapes(graph(FROM_SHAPE, "float[2,3,4] y"))
    assert {value.name for value in model.graph.value_info} >= {"n", "last", "f"}
    copy, _ = converted(model)
    assert {value.name for value in copy.graph.value_info} == {"f"}
    assert np.array_equal(run(copy)[0], run(model)[0])
