"""atc as the driver calls it: the check before it, its litter, its log, its failures in words."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import SIDE, tiny_graph

from detport.ascend import atc, preflight
from detport.compilers import ascend
from detport.errors import Failure, UsageError

CHIP = "Ascend310P3"


def meta(om) -> dict:
    """What the simulator's .om says of itself."""
    return json.loads(om.read_bytes().split(b"\n", 2)[1])


def test_an_om_is_built_and_no_litter_stays(tools, graph, model, backend, tmp_path):
    output = tmp_path / "results" / "model.om"
    ascend.compile_model(graph, model, backend(atc={"log": "error"}), output)
    assert sorted(path.name for path in output.parent.iterdir()) == ["model.atc.log", "model.om", "model.om.json"]
    stated = json.loads((output.parent / "model.om.json").read_text())
    assert stated == {"schema": 1, "soc_version": "Ascend310P3", "cann": "6.0.RC1"}
    log = (output.parent / "model.atc.log").read_text()
    assert log.startswith("$ atc --framework=5 --model=./tiny.onnx --output=./tiny --input_format=NCHW")
    assert "--input_shape=x:1,3,8,8 --log=error --soc_version=Ascend310P3" in log
    assert "ATC run success" in log
    assert meta(output)["soc_version"] == "Ascend310P3"


@pytest.mark.parametrize(
    "own", [{"multiple": 32}, {"more": [{"name": "s", "dtype": "int64", "values": [1], "shape": None}]}]
)
def test_inputs_that_no_runner_feeds_are_refused(tools, graph, model, backend, tmp_path, own):
    with pytest.raises(
        UsageError, match=rf"input\.{next(iter(own))}: Ascend's runners are given one image of one size"
    ):
        ascend.compile_model(graph, model | {"input": model["input"] | own}, backend(), tmp_path / "model.om")


def test_a_layout_of_its_own_is_told_to_atc(model):
    own = model | {"input": model["input"] | {"layout": "NHWC"}}
    line = atc.command(own, "Ascend310P3", {"extra": []})
    assert {"--input_format=ND", f"--input_shape=x:1,{SIDE},{SIDE},3"} <= {*line}


def test_options_of_the_model_win(backend):
    merged = atc.merged(
        {"name": "m", "compile": {"log": "debug", "extra": ["--a=1"]}},
        backend(atc={"log": "error", "precision_mode": "allow_mix_precision", "extra": ["--b=2"]}),
    )
    assert merged == {"log": "debug", "precision_mode": "allow_mix_precision", "extra": ["--b=2", "--a=1"]}


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("--input_format=ND", "use the key input_format"),
        ("--precision_mode=force_fp32", "use the key precision_mode"),
        ("--framework=5", "use the key framework"),
        ("--soc_version=Ascend310", "set soc_version in the backend's yaml"),
        ("--model=a.onnx", "the graph is the patched one"),
        ("--output=a", "the .om goes where"),
    ],
)
def test_an_option_that_has_a_key_is_refused_among_the_extra_ones(backend, option, remedy):
    """What has a key is checked under it; extra would go past that check."""
    with pytest.raises(UsageError, match=remedy):
        atc.merged({"name": "m", "compile": {}}, backend(atc={"extra": [option]}))


def weight(om) -> np.ndarray:
    """The weights of the convolution in a simulated .om."""
    return numpy_helper.to_array(onnx.load_from_string(om.read_bytes().split(b"\n", 2)[2]).graph.initializer[0])


@pytest.mark.parametrize("where", ["backend", "model"])
def test_nodes_that_stay_float32_are_told_to_atc_in_a_file(tools, graph, model, backend, tmp_path, where):
    own = {"keep_fp32": ["conv"]}
    ascend.compile_model(graph, model, backend(), tmp_path / "half.om")
    kept = [model, backend(**own)] if where == "backend" else [model | {"compile": own}, backend()]
    ascend.compile_model(graph, *kept, tmp_path / "kept.om")
    ascend.compile_model(graph, model, backend(atc={"precision_mode": "force_fp32"}), tmp_path / "whole.om")
    log = (tmp_path / "kept.atc.log").read_text()
    assert "--keep_dtype=./keep_dtype.cfg" in log.splitlines()[0]
    assert log.splitlines()[1] == "conv"
    half, kept, whole = (weight(tmp_path / f"{name}.om") for name in ("half", "kept", "whole"))
    assert (kept == whole).all()
    assert (half != whole).any()


def test_a_node_to_keep_must_be_there_and_the_file_be_one(tools, graph, model, backend, tmp_path):
    with pytest.raises(UsageError, match="keep_fp32: the graph has no node 'Conv'; the nearest: conv"):
        ascend.compile_model(graph, model, backend(keep_fp32=["Conv"]), tmp_path / "model.om")
    with pytest.raises(UsageError, match="keep_fp32 makes the keep_dtype file; remove one"):
        ascend.compile_model(graph, model, backend(keep_fp32=["conv"], atc={"keep_dtype": "x"}), tmp_path / "model.om")


def test_the_framework_may_be_stated(tools, graph, model, backend, tmp_path):
    ascend.compile_model(graph, model, backend(atc={"framework": 5}), tmp_path / "model.om")
    assert "$ atc --framework=5 --model=" in (tmp_path / "model.atc.log").read_text()


def test_out_nodes_fix_the_order(tools, graph, model, backend, tmp_path):
    tools(cann="5.0.4")
    own = backend(cann="5.0.4")
    ascend.compile_model(graph, model, own, tmp_path / "a.om")
    assert [entry["name"] for entry in meta(tmp_path / "a.om")["outputs"]] == ["maps", "best", "scores"]
    ascend.compile_model(graph, model | {"compile": {"out_nodes": "contract"}}, own, tmp_path / "b.om")
    assert [entry["name"] for entry in meta(tmp_path / "b.om")["outputs"]] == ["scores", "best", "maps"]


def test_another_toolkit_than_the_yamls_is_said(tools, graph, model, backend, tmp_path, monkeypatch, caplog):
    toolkit = tmp_path / "toolkit" / "x86_64-linux"
    toolkit.mkdir(parents=True)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(toolkit.parent))
    for version, said in (("6.0.RC1", False), ("7.0.0", True)):
        (toolkit / "ascend_toolkit_install.info").write_text(f"package_name=Ascend-cann-toolkit\nversion={version}\n")
        caplog.clear()
        ascend.compile_model(graph, model, backend(), tmp_path / "model.om")
        assert (f"the sourced toolkit is CANN {version}, backend ascend310p says cann: 6.0.RC1" in caplog.text) is said
        assert json.loads((tmp_path / "model.om.json").read_text())["cann"] == version


FAILURES = [
    ({"fail": "E10016"}, "atc: E10016: a name in an option is not in the model .*correct input.name"),
    ({"fail": "E19010"}, "atc: E19010: an operator has no parser in this CANN .*optype .ai.onnx::11::Conv"),
    ({"fail": "crash"}, "atc crashed .*without an error code.*NonMaxSuppression with three or four"),
    ({"fail": "killed"}, r"atc was killed; mostly for memory: run fewer jobs at once \(--cores\)"),
    ({"fail": "no_om"}, "status 0 and wrote no .om; is the disk full"),
]


@pytest.mark.parametrize(("machine", "expected"), FAILURES)
def test_failures_become_cause_and_remedy(tools, graph, model, backend, tmp_path, machine, expected):
    tools(**machine)
    output = tmp_path / "results" / "model.om"
    with pytest.raises(Failure, match=expected) as failure:
        ascend.compile_model(graph, model, backend(), output)
    assert "\n" not in str(failure.value)
    assert str(output.parent / "model.atc.log") in str(failure.value)
    assert [path.name for path in output.parent.iterdir()] == ["model.atc.log"]


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("E10007: [PID: 123] 2025-03-18-09:02:18.501.341 [--framework] is required", 255, "E10007: a required option"),
        ("EZ3003: No supported Ops kernel", 255, "EZ3003: this chip has no kernel"),
        ("atc.bin: error while loading shared libraries: libascend_hal.so", 127, "source set_env.sh"),
        ("E10054: [--weight] is required", 255, "E10054: an option that is needed is missing"),
        ("write ./kernel_meta failed: No space left on device\nATC run success", 0, "ran out of disk"),
        ("", 137, "killed; mostly for memory"),
        ("something else\n", 3, "ended with status 3: something else"),
        ("E77777: odd", 255, "E77777: an error that detport does not know"),
    ],
)
def test_what_atc_says_is_understood(said, status, expected):
    assert expected in atc.diagnosis(said, status)


def test_an_atc_that_says_nothing_for_too_long_is_ended(tools, graph, model, backend, tmp_path):
    tools(fail="hang")
    with pytest.raises(
        Failure, match=r"atc said nothing for 0\.01 minutes after '\[SIMULATOR\] .*raise stall_minutes"
    ) as end:
        ascend.compile_model(graph, model, backend(stall_minutes=0.01), tmp_path / "results" / "model.om")
    log = tmp_path / "results" / "model.atc.log"
    assert f"the log is {log}" in str(end.value)
    assert "[SIMULATOR]" in log.read_text()
    assert list(log.parent.iterdir()) == [log]


def test_an_om_of_a_full_disk_is_not_taken(tools, graph, model, backend, tmp_path):
    """atc ends with 0 and an .om that is cut; what it printed tells."""
    tools(fail="full_disk")
    with pytest.raises(Failure, match="ran out of disk"):
        ascend.compile_model(graph, model, backend(), tmp_path / "model.om")
    assert not (tmp_path / "model.om").exists()


def test_atc_that_is_not_there(monkeypatch, graph, model, backend, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"source .*set_env"):
        ascend.compile_model(graph, model, backend(soc_version="Ascend310"), tmp_path / "model.om")


def node(kind: str, inputs: list[str], outputs: list[str], **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=kind.lower(), **attributes)


def test_a_fit_graph_has_no_problems(model, backend):
    assert preflight.problems(tiny_graph(), model, backend(), {"input_shape": "x:1,3,8,8"}, CHIP) == []


def old_opset(graph):
    graph.opset_import[0].version = 17


def second_domain(graph):
    graph.opset_import.append(helper.make_opsetid("com.example", 1))


def unknown_operator(graph):
    graph.graph.node.append(node("Det2", ["x"], ["y"]))


def foreign_domain(graph):
    graph.graph.node.append(node("FusedConv", ["x"], ["y"], domain="com.microsoft"))


def short_suppression(graph):
    graph.graph.node.append(node("NonMaxSuppression", ["x", "x", "flat"], ["y"]))


def dynamic_input(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def unpatched_rois(graph):
    zeros = numpy_helper.from_array(np.zeros((4, 1), np.float32), "zeros")
    graph.graph.initializer.append(zeros)
    graph.graph.node.extend(
        [
            node("Concat", ["zeros", "boxes"], ["rois"], axis=1),
            node("Gather", ["rois", "four"], ["corners"], axis=1),
            helper.make_node("Gather", ["rois", "first"], ["index"], name="g", axis=1),
            node("Squeeze", ["index"], ["flat_index"]),
            node("Cast", ["flat_index"], ["batch"], to=TensorProto.INT64),
            node("RoiAlign", ["maps", "corners", "batch"], ["pooled"]),
        ]
    )


def data_dependent(graph):
    graph.graph.node.append(node("NonZero", ["maps"], ["places"]))


def sizes_from_data(graph):
    """Expand to a shape that the network computes."""
    graph.graph.node.extend(
        [node("Slice", ["best64", "zero", "one"], ["few"]), node("Expand", ["top", "few"], ["wide"])]
    )
    graph.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([3]), "one"))
    graph.graph.node.insert(4, helper.make_node("Reshape", ["higher", "all"], ["best64"], name="flat64"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "all"))


def lowest_pad(graph):
    graph.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 1]), "pads"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array(-np.inf, np.float32), "lowest"))
    graph.graph.node.append(node("Pad", ["maps", "pads", "lowest"], ["padded"]))


def inside_a_branch(graph):
    inner = helper.make_graph(
        [node("Det2", ["x"], ["inner"])], "then", [], [helper.make_tensor_value_info("inner", 1, [1])]
    )
    graph.graph.node.append(node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner))


def narrow_shapes(graph):
    graph.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([1, 64], np.int32), "flat"))


GRAPHS = [
    (narrow_shapes, {}, "shapes are int32 .*toolchain of Ascend310; Ascend310P3 takes the graph as it is"),
    (old_opset, {}, "opset 17, CANN 6.0 takes 9 to 13: set export.opset to 11"),
    (second_domain, {}, "imports 2 operator sets .*atc takes one"),
    (unknown_operator, {}, r"does not parse \(Det2\): replace them"),
    (foreign_domain, {}, "domain com.microsoft .FusedConv.*empty domain only"),
    (short_suppression, {}, "fewer than 5 inputs .nonmaxsuppression. crashes atc: give it"),
    (dynamic_input, {}, "dynamic sizes .x.: export with fixed sizes"),
    (unpatched_rois, {}, "declare cast_roi_concat_to_float16"),
    (data_dependent, {}, "depend on data .*from NonZero nonzero.: export with fixed sizes"),
    (sizes_from_data, {}, "depend on data .*from Expand expand"),
    (lowest_pad, {}, "minus infinity .pad, 1 in all.*fuse_pad_into_maxpool .exact. or pad_maxpool_with_zero"),
    (inside_a_branch, {}, r"does not parse \(Det2\)"),
    (
        None,
        {"out_nodes": "conv:0;nosuch:0"},
        "nosuch:0, which the graph lacks .E10016.*scores, best, maps",
    ),
    (None, {"out_nodes": "conv:1"}, "out_nodes names conv:1"),
    (None, {"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "exclude each other .*remove one"),
    (None, {"precision_mode_v2": "fp16"}, "precision_mode_v2 is of CANN 7 and later: use precision_mode"),
    (None, {"optypelist_for_implmode": "Gelu"}, "without op_select_implmode: add it"),
    (None, {"input_fp16_nodes": "y"}, "input_fp16_nodes names y, the graph's inputs are x .E10016."),
    (None, {"input_fp16_nodes": "x", "insert_op_conf": "a.cfg"}, "has AIPP.*E10034"),
    (None, {"input_fp16_nodes": "x"}, "shards of tiny hold float32"),
    (None, {"extra": ["--dynamic_batch_size=1,2", "--dynamic_dims=1;2"]}, "no two go together .E10009.: remove them"),
    (None, {"extra": ["--dynamic_batch_size=1,2"]}, "a compiled model here has one shape: remove them"),
    (None, {"input_shape": "y:1,3,8,8"}, "names 'y', the graph's inputs are x"),
    (None, {"input_shape": "x:1,3,8"}, "gives x 3 dimensions, the graph has 4"),
    (None, {"output_type": "conv:0:FP16"}, "output_type must be FP32"),
    (None, {"input_shape": "x:1,3,9,9"}, r"gives x \[1, 3, 9, 9\]"),
]


@pytest.mark.parametrize(("edit", "options", "expected"), GRAPHS)
def test_what_atc_would_refuse_is_named_with_a_remedy(model, backend, edit, options, expected):
    graph = tiny_graph()
    if edit:
        edit(graph)
    stated = {"input_shape": "x:1,3,8,8"} | options
    found = preflight.problems(graph, model, backend(), stated, CHIP)
    assert any(re.search(expected, problem) for problem in found), found


def test_int32_shapes_are_for_the_310(model, backend):
    graph = tiny_graph()
    narrow_shapes(graph)
    assert preflight.problems(graph, model, backend(), {"input_shape": "x:1,3,8,8"}, "Ascend310") == []


def test_a_newer_toolkit_takes_more(model, backend):
    graph = tiny_graph()
    graph.opset_import[0].version = 17
    newer = backend(cann="7.0.0")
    stated = {"input_shape": "x:1,3,8,8"}
    assert preflight.problems(graph, model, newer, stated, CHIP) == []
    tuned = preflight.problems(graph, model, newer, stated | {"auto_tune_mode": "RL,GA"}, CHIP)
    assert "AOE" in tuned[0]


def test_own_operators_have_a_range_of_their_own(model, backend):
    """CANN 7 parses opset 17, but BatchMultiClassNMS and PSROIPooling up to 16 only."""
    graph = tiny_graph()
    graph.opset_import[0].version = 17
    graph.graph.node.append(node("PSROIPooling", ["maps", "x"], ["y"]))
    stated = {"input_shape": "x:1,3,8,8"}
    found = preflight.problems(graph, model, backend(cann="7.0.0"), stated, CHIP)
    assert found == ["the graph has opset 17, PSROIPooling is parsed from 8 to 16 only: set export.opset to 11"]
    graph.opset_import[0].version = 16
    assert preflight.problems(graph, model, backend(cann="7.0.0"), stated, CHIP) == []


def test_padded_suppression_is_of_fixed_size(model, backend):
    """NonMaxSuppression's number of rows depends on the data in ONNX, on Ascend it does not."""
    graph = tiny_graph()
    graph.graph.node.append(node("NonMaxSuppression", ["b", "s", "m", "i", "t"], ["kept"]))
    graph.graph.node.append(node("Slice", ["kept", "m", "m"], ["some"]))
    assert preflight.inner_shapes(graph) == []


def test_operators_of_plug_ins_pass(model, backend):
    graph = tiny_graph()
    unknown_operator(graph)
    assert preflight.problems(graph, model, backend(operators=["Det2"]), {"input_shape": "x:1,3,8,8"}, CHIP) == []


def test_equal_outputs_need_out_nodes(model, backend):
    twins = model | {"outputs": [model["outputs"][0], model["outputs"][0] | {"name": "again"}]}
    stated = {"input_shape": "x:1,3,8,8"}
    assert "out_nodes: contract" in preflight.problems(tiny_graph(), twins, backend(), stated, CHIP)[0]
    assert preflight.problems(tiny_graph(), twins, backend(), stated | {"out_nodes": "max:0;conv:0"}, CHIP) == []


def test_the_check_stops_before_atc(tools, model, backend, tmp_path):
    graph = tiny_graph()
    second_domain(graph)
    onnx.save(graph, tmp_path / "bad.onnx")
    with pytest.raises(UsageError, match="is not for atc: the graph imports 2"):
        ascend.compile_model(tmp_path / "bad.onnx", model, backend(), tmp_path / "model.om")
    assert not (tmp_path / "model.atc.log").exists()
