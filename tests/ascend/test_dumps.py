"""Tensors that a device has written take the place of the second graph in the table of layers."""

import json
import subprocess
import sys

import numpy as np
import pytest
from tiny import SIDE, simulated, tiny_graph

from detport import dumps, layers
from detport.compilers import ascend
from detport.errors import Failure, UsageError
from detport.graph import view

ROWS = [{"file": "a/one.jpg"}, {"file": "two.jpg"}]


@pytest.fixture
def dump(tools, graph, model, backend, tmp_path):
    """A dump of one image by the simulated ais_bench, in the folder of the image; and what the network was fed."""
    tools(era="2024")
    ascend.compile_model(graph, model, backend(), tmp_path / "tiny.om")
    x = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    (tmp_path / "two.bin").write_bytes(x.tobytes())
    options = ["--model", "tiny.om", "--input", "two.bin", "--output", "out", "--dump", "true", "--dump_npy", "true"]
    command = [sys.executable, "-m", "ais_bench", *options]
    done = subprocess.run(command, cwd=tmp_path, env=simulated(era="2024"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = (tmp_path / "out" / "dump").glob("*_npy")
    (tmp_path / "dump").mkdir()
    made.rename(tmp_path / "dump" / "two")
    return tmp_path / "dump", {"x": x}


def table(folder, feeds: dict) -> tuple[list[dict], list[str], list[str]]:
    graph = tiny_graph()
    pairs, give, strange = dumps.open_folder(folder, graph, view.static_shapes(graph))
    found = layers.measure(graph, feeds, pairs, {}, give, {}, 1, 1e9)
    return layers.ranked([found]), found.alone, strange


def test_the_device_rounds_its_convolution_and_nothing_else(dump):
    folder, feeds = dump
    assert dumps.images(folder, ROWS) == ROWS[1:]
    rows, alone, strange = table(folder / "two", feeds)
    assert (alone, strange) == ([], [])
    assert [row["node"] for row in rows if row["own_error"] > 0] == ["conv"]
    assert 1e-5 < rows[0]["own_error"] < 1e-2
    assert {row["node"] for row in rows} == {"conv", "max", "reshape_scores"}, "of floats"


def test_files_of_other_forms_are_read_too(dump):
    """The first output by the node's name alone, raw bytes with a shape in the name or beside it, ONNX tools' names."""
    folder, feeds = dump
    before, _, _ = table(folder / "two", feeds)
    own = {path.name.split(".")[1]: path for path in (folder / "two").iterdir()}
    maps, top, scores = (np.load(own[name]) for name in ("conv", "max", "reshape_scores"))
    for name in ("conv", "max", "reshape_scores"):
        own[name].unlink()
    (folder / "two" / "conv.1x2x8x8.bin").write_bytes(maps.tobytes())
    (folder / "two" / "max.bin").write_bytes(top.astype(np.float64).tobytes())
    (folder / "two" / "max.json").write_text(json.dumps({"shape": list(top.shape), "dtype": "float64"}))
    np.save(folder / "two" / "reshape_scores.0.1700000000000000.npy", scores)
    assert table(folder / "two", feeds)[0] == before


def test_what_is_no_tensor_of_the_graph_is_told_and_its_node_has_no_partner(dump):
    folder, feeds = dump
    [path] = (folder / "two").glob("Conv.conv.*")
    path.rename(folder / "two" / "Conv.conv_fused.1.1.1.output.0.1x2x8x8.npy")
    rows, alone, strange = table(folder / "two", feeds)
    assert alone == ["maps"]
    assert strange == ["Conv.conv_fused.1.1.1.output.0.1x2x8x8.npy"]
    assert [row["node"] for row in rows if row["own_error"] > 0] == ["max"], "the next one that has a partner"


def test_a_tensor_in_the_devices_own_layout_is_told(dump):
    folder, feeds = dump
    [path] = (folder / "two").glob("Conv.conv.*")
    np.save(path, np.zeros((1, 1, SIDE, SIDE, 16), np.float32))
    assert table(folder / "two", feeds)[1:] == (["maps"], [path.name])


def test_complaints_name_the_file_and_the_remedy(tmp_path):
    with pytest.raises(UsageError, match=r"--from-dump .*: no folder in it is named .* as a__one; put the tensors"):
        dumps.images(tmp_path, ROWS)
    with pytest.raises(UsageError, match=r"--from-dump .*none: no such folder"):
        dumps.source(tmp_path / "none")
    (tmp_path / "conv.bin").write_bytes(bytes(8))
    with pytest.raises(UsageError, match=r"conv.bin: its name does not end in a shape .* or add conv.json"):
        dumps.shape_of(tmp_path / "conv.bin")
    (tmp_path / "conv.3.bin").write_bytes(bytes(8))
    with pytest.raises(Failure, match=r"conv.3.bin: 8 bytes are no 3 numbers"):
        dumps.read(tmp_path / "conv.3.bin")
    (tmp_path / "conv.npy").write_bytes(b"no array")
    with pytest.raises(Failure, match=r"conv.npy: not a whole .npy file"):
        dumps.read(tmp_path / "conv.npy")
