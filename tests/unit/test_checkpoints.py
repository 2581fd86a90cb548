"""Checkpoints are data: code in them is refused by name, misfits by key."""

import collections
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from detport import checkpoints
from detport.errors import Failure, UsageError

SETTINGS = {"wrapper": "model", "prefix": "module.", "sha256": None}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def saved(path: Path, state: dict, wrapper: str | None = "model", prefix: str = "module.") -> Path:
    content = {prefix + key: value for key, value in state.items()}
    torch.save({wrapper: content, "iteration": 20000} if wrapper else content, path)
    return path


def test_round_trip(tmp_path):
    trained = network()
    source = saved(tmp_path / "a b'c.pth", trained.state_dict())
    output = tmp_path / "weights.safetensors"
    checkpoints.convert(source, SETTINGS, output)
    other = network()
    checkpoints.load(other, output)
    for key, value in trained.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_names_of_one_tensor_are_all_kept(tmp_path):
    weight = torch.ones(2, 2)
    source = saved(tmp_path / "w.pth", {"a": weight, "b": weight})
    assert checkpoints.convert(source, SETTINGS, tmp_path / "w.safetensors") == 2


def test_bare_state_dict(tmp_path):
    source = saved(tmp_path / "w.pth", network().state_dict(), wrapper=None, prefix="")
    assert len(checkpoints.read(source, None, "")) == len(network().state_dict())


def test_missing_batch_counters_are_tolerated(tmp_path):
    state = {key: value for key, value in network().state_dict().items() if "num_batches_tracked" not in key}
    checkpoints.convert(saved(tmp_path / "w.pth", state), SETTINGS, tmp_path / "w.safetensors")
    checkpoints.load(network(), tmp_path / "w.safetensors")


def test_misfit_lists_missing_unexpected_and_wrongly_shaped_keys(tmp_path):
    state = network().state_dict()
    del state["0.bias"]
    state["0.weight"] = torch.zeros(4, 3, 3, 3)
    state |= {f"extra.{i}": torch.zeros(1) for i in range(9)}
    checkpoints.convert(saved(tmp_path / "w.pth", state), SETTINGS, tmp_path / "w.safetensors")
    with pytest.raises(Failure) as refusal:
        checkpoints.load(network(), tmp_path / "w.safetensors")
    message = str(refusal.value)
    assert "1 missing: 0.bias" in message
    assert "9 unexpected: extra.0" in message
    assert "(+4)" in message
    assert "0.weight is 4x3x3x3 instead of 4x3x1x1" in message


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"missing.safetensors: no such file; convert the checkpoint first"):
        checkpoints.load(network(), tmp_path / "missing.safetensors")


class Canary:
    """Pickles into a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_by_name_and_not_run(tmp_path, legacy):
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    torch.save({"model": Canary(canary)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(Failure, match="system"):
        checkpoints.read(path, "model", "")
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickle_with_code_is_refused(tmp_path, protocol):
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"model": Canary(canary)}, protocol))
    with pytest.raises(Failure, match=r"refers to the Python object posix\.system, which could run code"):
        checkpoints.read(path, "model", "")
    assert not canary.exists()


def test_torchscript_is_refused_with_the_line_that_takes_its_tensors_out(tmp_path):
    path = tmp_path / "w.pt"
    scripted = torch.nn.Linear(2, 2)
    torch.jit.script(scripted).save(str(path))
    with pytest.raises(
        Failure, match=r"w\.pt: a TorchScript archive, which is code\. If you trust it, .*checkpoint\.file"
    ) as told:
        checkpoints.read(path, "model", "")
    line = re.search(r"torch\.save\(.*NEW\)", str(told.value))[0]
    exec(line, {"torch": torch, "FILE": path, "NEW": tmp_path / "new.pth"})  # noqa: S102 - the advice, tried out
    found = checkpoints.read(tmp_path / "new.pth", None, "")
    assert torch.equal(found["weight"], scripted.weight)


QUANTIZED = (
    "name the float checkpoint that it was made from under checkpoint.file, or export the quantized model to ONNX"
)


def test_weights_that_pytorch_has_quantized_are_refused_with_the_two_ways_out(tmp_path):
    """The state of torch.ao.quantization: dynamic quantization packs weights, static keeps quantized tensors."""
    packed = {"0.scale": torch.tensor(1.0), "0._packed_params.dtype": torch.qint8}
    static = {"0.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    for state, key in ((packed, "0._packed_params.dtype"), (static, "0.weight")):
        path = saved(tmp_path / "w.pth", state)
        with pytest.raises(Failure, match=f"'(module.)?{key}' is quantized; {QUANTIZED}"):
            checkpoints.convert(path, SETTINGS, tmp_path / "w.safetensors")


def test_a_page_is_not_called_code(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(Failure, match=r"w\.pth: not a checkpoint of PyTorch, or damaged; fetch it again"):
        checkpoints.read(path, "model", "")


ENDLESS = b"}]\x8d" + b"]" * 30  # a text whose length is in the eight bytes behind its mark


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>", b"PK\x03\x04", b"PK\x03\x04" + b"{" * 5000, b"\x80\x02}q\x00.", ENDLESS],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises((Failure, UsageError)) as refusal:
        checkpoints.read(path, "model", "")
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file_is_refused(tmp_path, part):
    path = saved(tmp_path / "w.pth", network().state_dict())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(Failure, match="truncated"):
        checkpoints.read(path, "model", "module.")


def test_zip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(Failure):
        checkpoints.read(path, "model", "")


@pytest.mark.parametrize(
    ("wrapper", "prefix", "expected"),
    [
        ("state_dict", "module.", "holds model, iteration"),
        ("model", "modul_", "does not start with"),
        (None, "", "no tensor"),
    ],
)
def test_wrong_wrapper_or_prefix_says_what_is_there(tmp_path, wrapper, prefix, expected):
    path = saved(tmp_path / "w.pth", network().state_dict())
    with pytest.raises(UsageError, match=expected):
        checkpoints.read(path, wrapper, prefix)


def test_nan_weights_are_named(tmp_path):
    state = network().state_dict()
    state["0.bias"][1] = float("nan")
    with pytest.raises(Failure, match=r"0\.bias holds NaN"):
        checkpoints.convert(saved(tmp_path / "w.pth", state), SETTINGS, tmp_path / "w.safetensors")


with warnings.catch_warnings():  # PyTorch's own, about kinds of tensors that it calls prototypes
    warnings.simplefilter("ignore")
    ODD = {
        "sparse": torch.eye(3).to_sparse(),
        "rows": torch.eye(3).to_sparse_csr(),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "meta": torch.ones(3, device="meta"),
        "float8": torch.ones(3).to(torch.float8_e4m3fn),
        "complex": torch.ones(3, dtype=torch.complex64),
        "endless": torch.ones(1).expand(10**11),
        "a lone \ud800": torch.ones(3),
    }


@pytest.mark.parametrize("key", ODD)
def test_tensors_that_are_not_plain_are_named(tmp_path, key):
    path = tmp_path / "w.pth"
    torch.save({"model": {"module.fine": torch.ones(2), f"module.{key}": ODD[key]}}, path)
    with pytest.raises(Failure, match=re.escape(f"{key!r}")) as refusal:
        checkpoints.convert(path, SETTINGS, tmp_path / "w.safetensors")
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "w.safetensors").exists()


def test_many_names_of_one_large_tensor_are_refused(tmp_path):
    path, weight = tmp_path / "w.pth", torch.ones(2**18)
    torch.save({"model": {f"module.{i}": weight for i in range(100)}}, path)
    with pytest.raises(Failure, match="would take 104857600 bytes"):
        checkpoints.convert(path, SETTINGS, tmp_path / "w.safetensors")


def test_every_plain_type_is_kept(tmp_path):
    state = {str(dtype): torch.ones(3).to(dtype) for dtype in checkpoints.DTYPES}
    checkpoints.convert(saved(tmp_path / "w.pth", state), SETTINGS, tmp_path / "w.safetensors")
    assert {key: value.dtype for key, value in load_file(tmp_path / "w.safetensors").items()} == {
        str(dtype): dtype for dtype in checkpoints.DTYPES
    }


def test_pinned_digest(tmp_path):
    path = saved(tmp_path / "w.pth", network().state_dict())
    with pytest.raises(Failure, match="it is another file"):
        checkpoints.convert(path, SETTINGS | {"sha256": "0" * 64}, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_ordered_dict_of_tensors_is_plain_enough(tmp_path):
    state = collections.OrderedDict(network().state_dict())
    assert checkpoints.read(saved(tmp_path / "w.pth", state), "model", "module.")
