"""The pool patches on small graphs: every form in which exporters and simplifiers leave such a pool."""

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

from detport.errors import Failure
from detport.graph.patches.fuse_pad_into_maxpool import edit as fuse_pad_into_maxpool
from detport.graph.patches.pad_maxpool_with_zero import edit as pad_maxpool_with_zero

SAME = [0, 0, 0, 0, 0, 0, 1, 1]  # one cell below and to the right
LOWEST = -np.inf
SHAPE = [1, 2, 6, 8]


def graph(
    pools: int = 2,
    form: str = "initializers",
    value: float = LOWEST,
    pads: list[int] = SAME,
    dtype: type = np.float32,
    opset: int = 11,
    pool: dict | None = None,
    mode: str = "constant",
) -> onnx.ModelProto:
    """A chain of Pad -> MaxPool pairs with pads and values of their own in the given form."""
    nodes, initializers, name = [], [], "image"
    for i in range(pools):
        names = [f"pads{i}", f"value{i}"]
        values = [np.array(pads, np.int64), np.array(value, dtype)]
        if form == "initializers":
            initializers += [numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True)]
        elif form == "nodes":
            nodes += [constant(n, v) for v, n in zip(values, names, strict=True)]
        elif form == "arithmetic":  # pads in PyTorch's order, turned and cast as its exporter does
            pairs = np.array(pads).reshape(2, -1).T[::-1].astype(np.int32)
            nodes += [
                constant(f"pairs{i}", pairs),
                constant(f"order{i}", np.arange(pairs.shape[0])[::-1].copy()),
                constant(f"flat{i}", np.array([-1], np.int64)),
                helper.make_node("Gather", [f"pairs{i}", f"order{i}"], [f"turned{i}"], axis=0),
                helper.make_node("Transpose", [f"turned{i}"], [f"ends{i}"], perm=[1, 0]),
                helper.make_node("Reshape", [f"ends{i}", f"flat{i}"], [f"row{i}"]),
                helper.make_node("Cast", [f"row{i}"], [names[0]], to=onnx.TensorProto.INT64),
                constant(names[1], values[1]),
            ]
        elif form == "shared":
            names = ["pads", "value"]
            if i == 0:
                initializers += [numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True)]
        elif form == "input":  # pads that depend on the image: each is its lowest number, minus itself
            nodes += [
                helper.make_node("ReduceMin", ["image"], [f"lowest{i}"], keepdims=0),
                helper.make_node("Sub", [f"lowest{i}", f"lowest{i}"], [f"nothing{i}"]),
                helper.make_node("Cast", [f"nothing{i}"], [f"none{i}"], to=onnx.TensorProto.INT64),
                constant(f"eight{i}", np.array([8])),
                helper.make_node("Expand", [f"none{i}", f"eight{i}"], [names[0]]),
                constant(names[1], values[1]),
            ]
        nodes.append(helper.make_node("Pad", [name, *names], [f"padded{i}"], mode=mode))
        attributes = {"kernel_shape": [3, 3], "strides": [2, 2]} | (pool or {})
        nodes.append(helper.make_node("MaxPool", [f"padded{i}"], [f"pooled{i}"], **attributes))
        name = f"pooled{i}"
    return model_of(nodes, initializers, [name], dtype, opset)


def fused(pools: int = 2, dtype: type = np.float32, pads: tuple[int, ...] = (0, 0, 1, 1)) -> onnx.ModelProto:
    """The same chain as a simplifier leaves it."""
    nodes = [
        helper.make_node(
            "MaxPool",
            [f"pooled{i - 1}" if i else "image"],
            [f"pooled{i}"],
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=list(pads),
        )
        for i in range(pools)
    ]
    return model_of(nodes, [], [f"pooled{pools - 1}"], dtype)


def model_of(
    nodes: list, initializers: list, outputs: list[str], dtype: type = np.float32, opset: int = 11
) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [helper.make_tensor_value_info(name, kind, [None] * 4) for name in outputs]
    image = helper.make_tensor_value_info("image", kind, SHAPE)
    body = helper.make_graph(nodes, "pools", [image], values, initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    """With optimisations off, since they fold Pad(0) into MaxPool; the image is negative, so that a zero shows."""
    onnx.checker.check_model(model)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    image = np.random.RandomState(0).uniform(-2, -1, SHAPE).astype(kind)
    return session.run(None, {"image": image})


def census(model: onnx.ModelProto) -> Counter:
    return Counter(node.op_type for node in model.graph.node)


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("form", ["initializers", "nodes", "arithmetic", "shared"])
def test_pairs_are_fused_whatever_the_exporter(form: str) -> None:
    model = graph(form=form)
    expected = run(model)
    assert fuse_pad_into_maxpool(model) == 2
    assert census(model) == {"MaxPool": 2}
    assert not model.graph.initializer
    assert same(run(model), expected)


@pytest.mark.parametrize("form", ["initializers", "nodes", "arithmetic", "shared", "input"])
def test_pairs_get_one_shared_zero(form: str) -> None:
    model = graph(form=form)
    assert pad_maxpool_with_zero(model) == 2
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    assert len(pads) == 2
    check_one_zero(model, pads, np.float32)
    assert same(run(model), run(graph(value=0.0, form=form)))
    if form != "input":  # there it pads with no cells
        assert not same(run(model), run(graph(form=form)))


def check_one_zero(model: onnx.ModelProto, pads: list[onnx.NodeProto], dtype: type) -> None:
    (name,) = {pad.input[2] for pad in pads}
    (zero,) = [numpy_helper.to_array(x) for x in model.graph.initializer if x.name == name]
    assert zero == 0 and zero.dtype == dtype
    assert not [x.name for x in model.graph.initializer if x.name.startswith("value")]


def test_a_chain_that_a_simplifier_fused_counts_and_stays() -> None:
    model = fused()
    assert fuse_pad_into_maxpool(model) == 2
    assert model == fused()
    assert same(run(model), run(graph()))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_fused_chain_gets_its_pads_back_for_the_zero(dtype: type) -> None:
    model = fused(dtype=dtype)
    assert pad_maxpool_with_zero(model) == 2
    assert census(model) == {"Pad": 2, "MaxPool": 2}
    check_one_zero(model, [node for node in model.graph.node if node.op_type == "Pad"], dtype)
    assert len(model.graph.initializer) == 2  # the zero, and pads that are the same for both
    assert same(run(model), run(graph(value=0.0, dtype=dtype)))


def test_both_patches_find_what_they_made() -> None:
    model = graph()
    assert [fuse_pad_into_maxpool(model) for _ in range(2)] == [2, 2]
    assert [pad_maxpool_with_zero(model) for _ in range(2)] == [2, 2]
    zero = run(model)
    assert fuse_pad_into_maxpool(model) == 0  # a zero is not what MaxPool pads with
    assert same(run(model), zero)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_lowest_finite_number_is_as_good(dtype: type) -> None:
    model = graph(value=np.finfo(dtype).min, dtype=dtype)
    expected = run(model)
    assert fuse_pad_into_maxpool(model) == 2
    assert same(run(model), expected)
    assert pad_maxpool_with_zero(graph(value=np.finfo(dtype).min, dtype=dtype)) == 2


def test_the_value_has_the_type_of_the_pad() -> None:
    model = graph(dtype=np.float16)
    assert pad_maxpool_with_zero(model) == 2
    check_one_zero(model, [node for node in model.graph.node if node.op_type == "Pad"], np.float16)


def test_pads_with_axes() -> None:
    """From opset 18 on a Pad may name its axes."""
    model = graph(pools=1, opset=18)
    expected = run(model)
    pad = model.graph.node[0]
    pad.input.append("axes")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([0, 0, 1, 1]), "pads0"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 2]), "axes"))
    assert same(run(model), expected)
    assert fuse_pad_into_maxpool(model) == 1
    assert same(run(model), expected)


def test_pads_add_to_those_of_the_pool() -> None:
    model = graph(pools=1, pool={"pads": [1, 1, 0, 0]})
    expected = run(model)
    assert fuse_pad_into_maxpool(model) == 1
    assert list(helper.get_node_attr_value(model.graph.node[0], "pads")) == [1, 1, 1, 1]
    assert same(run(model), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"pads": [0, 1, 0, 0, 0, 0, 1, 1]},  # pads channels
        {"pads": [0, 0, -1, 0, 0, 0, 1, 1]},  # crops
        {"pads": [0, 0, 0, 0, 0, 0, 3, 3]},  # windows without a real cell
        {"pool": {"ceil_mode": 1}},
        {"form": "input"},
        {"mode": "edge"},
        {"value": -1.0},
        {"value": 0.0},
    ],
)
def test_what_maxpool_cannot_express_stays(changes: dict) -> None:
    model = graph(**changes)
    assert fuse_pad_into_maxpool(model) == 0
    assert model == graph(**changes)


def test_a_pool_with_indices_stays() -> None:
    model = graph(pools=1)
    model.graph.node[1].output.append("indices")
    assert fuse_pad_into_maxpool(model) == 0
    assert census(model)["Pad"] == 1


@pytest.mark.parametrize("patch", [fuse_pad_into_maxpool, pad_maxpool_with_zero])
def test_ordinary_pools_are_not_touched(patch: Callable[[onnx.ModelProto], int]) -> None:
    for ordinary in (fused(pads=(1, 1, 1, 1)), graph(mode="reflect"), graph(value=-1.0)):
        before = ordinary.SerializeToString()
        assert patch(ordinary) == 0
        assert ordinary.SerializeToString() == before


def with_second_reader() -> onnx.ModelProto:
    """A padded map that is pooled and also an output of its own, with a value that a third node reads."""
    model = graph(pools=1)
    padded = helper.make_tensor_value_info("padded0", onnx.TensorProto.FLOAT, [None] * 4)
    model.graph.output.append(padded)
    model.graph.node.append(helper.make_node("Identity", ["value0"], ["value"]))
    model.graph.output.append(helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, []))
    return model


def test_a_pad_with_another_reader_stays_for_that_one() -> None:
    model = with_second_reader()
    expected = run(model)
    assert fuse_pad_into_maxpool(model) == 1
    assert census(model)["Pad"] == 1
    assert same(run(model), expected)


def test_a_pad_with_another_reader_gets_no_zero() -> None:
    model = with_second_reader()
    assert pad_maxpool_with_zero(model) == 0
    assert model == with_second_reader()


def test_a_value_with_another_reader_keeps_its_value() -> None:
    model = with_second_reader()
    del model.graph.output[1]  # the padded map
    expected = run(model)
    assert pad_maxpool_with_zero(model) == 1
    pooled, value = run(model)
    assert value == LOWEST
    assert not np.array_equal(pooled, expected[0])


def test_a_pad_that_two_pools_share() -> None:
    def twin() -> onnx.ModelProto:
        model = graph(pools=1)
        second = helper.make_node("MaxPool", ["padded0"], ["other"], kernel_shape=[2, 2], strides=[1, 1])
        model.graph.node.append(second)
        model.graph.output.append(helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [None] * 4))
        return model

    model = twin()
    assert fuse_pad_into_maxpool(model) == 2
    assert census(model) == {"MaxPool": 2}
    assert same(run(model), run(twin()))
    assert pad_maxpool_with_zero(twin()) == 2


class SamePool(torch.nn.Module):
    """TensorFlow's 'same' as PyTorch ports of EfficientDet write it: pads computed from the shape of what is pooled."""

    def __init__(self, pools: int) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(2, 2, 3, padding=1) for _ in range(pools))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(x) - 5  # below zero, so that a zero shows
            bottom, right = (max((math.ceil(side / 2) - 1) * 2 + 3 - side, 0) for side in x.shape[2:])
            x = F.pad(x, [right // 2, right - right // 2, bottom // 2, bottom - bottom // 2], value=LOWEST)
            x = F.max_pool2d(x, 3, 2)
            x = F.interpolate(F.max_pool2d(x, 2, 1, padding=1), scale_factor=2.0)[:, :, :8, :8]
        return x


@pytest.mark.parametrize("folding", [True, False])
@pytest.mark.parametrize("dynamic", [None, {"image": {0: "batch"}}])
def test_pads_that_are_arithmetic_on_shapes(folding: bool, dynamic: dict | None) -> None:
    """As the tracing exporter writes them: the shape of every pool but the first depends on the pads before it."""
    torch.manual_seed(0)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            SamePool(3).eval(),
            (torch.zeros(SHAPE),),
            file,
            dynamo=False,
            opset_version=11,
            input_names=["image"],
            dynamic_axes=dynamic,
            do_constant_folding=folding,
        )
    model = onnx.load_from_string(file.getvalue())
    assert census(model)["Shape"] > 0 and census(model)["Pad"] == 3
    for dimension, side in zip(model.graph.input[0].type.tensor_type.shape.dim, SHAPE, strict=True):
        dimension.dim_value = side
    expected = run(model)
    zero = onnx.ModelProto()
    zero.CopyFrom(model)
    assert fuse_pad_into_maxpool(model) == 3
    assert census(model)["Pad"] == 0
    assert same(run(model), expected)
    assert pad_maxpool_with_zero(zero) == 3
    assert not same(run(zero), expected)


@pytest.mark.parametrize(("side", "begin"), [("SAME_UPPER", 0), ("SAME_LOWER", 1)])
def test_pools_with_auto_pad_are_exact_already(side: str, begin: int) -> None:
    def automatic() -> onnx.ModelProto:
        model = fused(pads=(begin, begin, 1 - begin, 1 - begin))
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 8  # even on both floors
        for pool in model.graph.node:
            del pool.attribute[:]
            for name, value in {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": side}.items():
                pool.attribute.append(helper.make_attribute(name, value))
        return model

    assert fuse_pad_into_maxpool(automatic()) == 2
    pads = [0, 0, begin, begin, 0, 0, 1 - begin, 1 - begin]
    model = automatic()
    assert pad_maxpool_with_zero(model) == 2
    assert census(model) == {"Pad": 2, "MaxPool": 2}
    shapes = {tuple(numpy_helper.to_array(x)) for x in model.graph.initializer if x.name.startswith("pool_pads")}
    assert shapes == {tuple(pads)}
    onnx.checker.check_model(model)


@pytest.mark.parametrize("patch", [fuse_pad_into_maxpool, pad_maxpool_with_zero])
def test_auto_pad_of_an_unknown_size_is_refused(patch: Callable[[onnx.ModelProto], int]) -> None:
    model = fused(pools=1)
    model.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(Failure, match=r"MaxPool of 'image' has auto_pad SAME_UPPER, .* fixed input size"):
        patch(model)


def test_a_graph_without_the_standard_opset_is_refused() -> None:
    model = fused()
    model.opset_import[0].domain = "example"
    for patch in (fuse_pad_into_maxpool, pad_maxpool_with_zero):
        with pytest.raises(Failure, match="graph pools names no opset of ONNX's own operators"):
            patch(model)


def test_an_old_opset_is_refused() -> None:
    model = fused()
    model.opset_import[0].version = 10
    for patch in (fuse_pad_into_maxpool, pad_maxpool_with_zero):
        with pytest.raises(Failure, match="opset 10"):
            patch(model)


def test_an_unknown_type_is_refused() -> None:
    model = fused(pools=1)
    model.graph.node.insert(0, helper.make_node("Own", ["image"], ["own"], domain="example"))
    model.graph.node[1].input[0] = "own"
    model.opset_import.append(helper.make_opsetid("example", 1))
    with pytest.raises(Failure, match="type of 'own'"):
        pad_maxpool_with_zero(model)
