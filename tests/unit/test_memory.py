"""What a job with a model takes of the memory, and what there is."""

import os
from pathlib import Path

import pytest

from detport import config, memory

MODELS = ("gfocalv2", "retinamask", "rfcn", "efficientdet_d7")
WEIGHTS = {"gfocalv2": 130, "retinamask": 152, "rfcn": 219, "efficientdet_d7": 209}  # MB of the checkpoint
# Peaks that were measured at full size, in MB, in the order of MODELS: the table of docs/memory.md.
MEASURED = {
    "convert_checkpoint": (508, 540, 703, 671),
    "export": (1077, 4223, 1412, 2067),
    "simplify": (1396, 5367, 2393, 5228),
    "patch": (492, 551, 754, 783),
    "compile": (420, 457, 661, 689),
    "infer": (498, 3009, 1361, 2170),
    "parity": (1066, 5150, 2281, 4351),
}
COMPACT = {"export": 2100, "simplify": 2242, "infer": 746}  # RetinaMask's own contract
# The same of infer on other families.
FAMILIES = {"pytorch": (880, 3923, 1113, 2056), "openvino": (580, 1720, 1320, 1370)}
# The same of infer on the demo, whose models are small.
DEMO = {"yolo": 146, "gfocalv2_portrait": 175, "gfocalv2": 164, "rfcn": 150, "efficientdet": 163}


@pytest.fixture(scope="module")
def onnxruntime() -> dict:
    return config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")


def model(name: str, **keys: object) -> dict:
    """A published model, with the guide's contract of RetinaMask."""
    found = config.load(config.ROOT / "config" / "models" / f"{name}.yaml", "model")
    if name == "retinamask":
        found["outputs"] = [{"name": "masks", "shape": [1000, 28, 28], "dtype": "float32"}]
    return found | keys


@pytest.mark.parametrize("stage", MEASURED)
@pytest.mark.parametrize("name", MODELS)
def test_an_estimate_is_no_less_than_what_was_measured_and_at_most_half_more(onnxruntime, monkeypatch, stage, name):
    monkeypatch.setattr(memory, "weight_bytes", lambda model: WEIGHTS[name] * 1_000_000)
    measured = MEASURED[stage][MODELS.index(name)]
    assert measured <= memory.job_mb(stage, model(name), onnxruntime) <= 1.5 * measured


@pytest.mark.parametrize("stage", COMPACT)
def test_a_contract_with_fewer_masks_takes_less(onnxruntime, monkeypatch, stage):
    monkeypatch.setattr(memory, "weight_bytes", lambda model: WEIGHTS["retinamask"] * 1_000_000)
    own = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
    assert COMPACT[stage] <= memory.job_mb(stage, own, onnxruntime) <= 1.5 * COMPACT[stage]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", MODELS)
def test_every_family_has_its_own(monkeypatch, family, name):
    monkeypatch.setattr(memory, "weight_bytes", lambda model: WEIGHTS[name] * 1_000_000)
    backend = config.load_backend(config.ROOT / "config" / "backends" / f"{family}.yaml")
    measured = FAMILIES[family][MODELS.index(name)]
    assert measured <= memory.job_mb("infer", model(name), backend) <= 1.5 * measured


@pytest.mark.parametrize("name", DEMO)
def test_models_of_the_demo(onnxruntime, monkeypatch, name):
    monkeypatch.chdir(config.ROOT / "demo")
    found = config.load(Path(f"config/models/{name}.yaml"), "model")
    assert DEMO[name] <= memory.job_mb("infer", found, onnxruntime) <= 1.6 * DEMO[name]


def test_what_the_yaml_says_goes_before(onnxruntime):
    own = model("gfocalv2", memory_mb={"infer": 77})
    assert memory.job_mb("infer", own, onnxruntime, more_mb=5) == 77
    assert memory.job_mb("benchmark", own, onnxruntime) > 77


def test_a_stage_keeps_more_beside_the_model():
    own = model("gfocalv2")
    assert memory.job_mb("parity", own, more_mb=1000) == memory.job_mb("parity", own) + 1000


def group(root: Path, line: str, **limits: str) -> Path:
    """A machine with one control group, and limits of it and of those around it by path."""
    for path, text in {"proc/self/cgroup": line, **limits}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("line", "limits", "found"),
    [
        ("0::/", {"sys/fs/cgroup/memory.max": "1000000000"}, 900),  # a container sees itself as the root
        ("0::/a/b", {"sys/fs/cgroup/a/memory.max": "2000000000", "sys/fs/cgroup/a/b/memory.max": "max"}, 1800),
        ("4:memory:/a", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "500000000"}, 450),
    ],
)
def test_a_container_may_have_less_than_the_machine(tmp_path, line, limits, found):
    assert memory.machine_mb(group(tmp_path, line, **limits)) == found


def test_the_machine_without_a_container(tmp_path):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.machine_mb(tmp_path) == int(0.9 * physical / 1e6)
    huge = {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)}
    assert memory.machine_mb(group(tmp_path, "4:memory:/", **huge)) == int(0.9 * physical / 1e6)


def test_a_machine_that_is_too_small_is_named(onnxruntime):
    own = model("gfocalv2", memory_mb={"simplify": 3000, "infer": 900})
    assert memory.advice("m", own, "b", onnxruntime, 3000) is None
    said = memory.advice("m", own, "b", onnxruntime, 2900)
    assert said.startswith("simplify of m on b takes about 3.0 GB of memory, and jobs may take 2.9 GB here")
