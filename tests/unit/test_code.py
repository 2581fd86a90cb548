"""Editing a module reruns the stages that use it, and no other; what is only for readers reruns nothing."""

import json
import shutil
from pathlib import Path

import pytest

from detport import code, config

MODEL = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
BACKEND = config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")
IMAGES = {"preprocess", "calibrate", "infer", "parity", "doctor", "layers"}  # stages that read images or shards


def plugins(stage: str, backend: dict = BACKEND) -> list[str]:
    if stage in ("check", "page"):  # they ask the metric; of the decoder they only need the names of categories
        return ["detport.metrics.coco", "detport.datasets.coco"]
    return config.plugins(config.visible(MODEL, stage, backend), backend, stage)


def digests() -> dict[str, str]:
    return {stage: code.digest(code.closure(f"{stage}.py", plugins(stage))) for stage in config.STAGES}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return digests()


@pytest.fixture
def own_scripts(tmp_path, monkeypatch) -> Path:
    copy = tmp_path / "scripts"
    shutil.copytree(code.SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "SCRIPTS", copy)
    yield copy
    for cached in (code.facts, code.known, code.pins, code.version):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("edited", "stages"),
    [
        ("infer.py", {"infer"}),
        ("parity.py", {"parity"}),
        ("detport/networks/retinamask.py", {"export", "parity"}),
        ("detport/networks/blocks.py", {"export", "parity"}),
        ("detport/networks/gfocalv2.py", set()),
        ("detport/decoders/after_nms.py", {"decode", "parity", "doctor", "report"}),
        ("detport/masks.py", {"decode", "parity", "doctor", "report"}),
        ("detport/images.py", (IMAGES | {"page"}) - {"infer"}),
        ("detport/loops.c", IMAGES - {"infer"}),
        ("detport/shards.py", {"check", "decode", "evaluate", "report", "resample", "page", *IMAGES}),
        ("detport/metrics/coco.py", {"check", "evaluate", "report", "doctor", "resample", "page"}),
        ("detport/resampling.py", {"check", "evaluate", "report", "doctor", "resample", "page"}),
        ("detport/report/statistics.py", {"report"}),
        ("detport/backends/onnxruntime.py", {"compile", "benchmark", "simplify", "patch", *IMAGES} - {"preprocess"}),
        ("detport/precisions/float16.py", set()),
        ("detport/precisions/int8.py", {"calibrate"}),
        ("detport/graph/patches/__init__.py", {"export", "patch"}),
        ("detport/graph/patches/cast_roi_concat_to_float16.py", set()),
        ("detport/efficientdet.py", set()),
        ("detport/ascend/logs.py", set()),
        ("detport/networks/efficientdet_check.py", set()),
        ("detport/files.py", set(config.STAGES)),
        ("detport/made.py", set()),
        ("detport/config.py", set()),
    ],
)
def test_edit_changes_the_digest_of_its_users(own_scripts, before, edited, stages):
    """Of a copy elsewhere, which alone changes nothing."""
    with (own_scripts / edited).open("a") as file:
        file.write("\nEDITED = True\n")
    after = digests()
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_a_patch_is_of_the_models_and_backends_that_declare_it():
    backend = config.load_backend(config.ROOT / "config" / "backends" / "ascend310p.yaml")
    assert plugins("patch", backend) == ["detport.graph.patches.cast_roi_concat_to_float16"]
    assert plugins("patch") == []


def test_eager_pytorch_tracks_the_network():
    backend = config.load_backend(config.ROOT / "config" / "backends" / "pytorch.yaml")
    files = code.closure("infer.py", plugins("infer", backend))
    assert {path.name for path in files} >= {"pytorch.py", "retinamask.py", "blocks.py", "roi_align.py"}


MODULE = '''"""What it is for."""

import re


class Box:
    """A box."""

    sides = 4  # one for each


def area(text):
    """Of a box."""
    # twice
    return re.sub("#.*", '', text) or """a
b
"""
'''


def digest_of(folder: Path, monkeypatch, text: str) -> str:
    (folder / "module.py").write_text(text)
    monkeypatch.setattr(code, "SCRIPTS", folder)
    code.facts.cache_clear()
    return code.digest([folder / "module.py"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""What it is for."""', '"""What it\n\nis # for, "in" two lines."""'),
        ('"""What it is for."""', ""),
        ('    """A box."""\n', '    """It has four sides."""\n'),
        ('    """Of a box."""\n', ""),
        ("import re\n", "# it's \"needed\n\n\nimport re\n"),
        ("  # one for each", ""),
        ("    # twice\n", "\n    # three 'times\n\n"),
        ("sides = 4  # one for each\n", 'sides = 4  # """ one for each\n'),
    ],
)
def test_comments_docstrings_and_blank_lines_change_nothing(tmp_path, monkeypatch, old, new):
    before = digest_of(tmp_path, monkeypatch, MODULE)
    assert old in MODULE
    assert digest_of(tmp_path, monkeypatch, MODULE.replace(old, new)) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sides = 4", "sides = 5"),
        ("#.*", "#.+"),
        ("'', text", "'#', text"),
        ('"""a\nb\n"""', '"""a\n# b\n"""'),
        ('"""a\nb\n"""', '"""a\n\nb\n"""'),
        ('"""a\nb\n"""', '"""a \nb\n"""'),
        ("    # twice\n    return", "    # twice\n    if text:\n        return"),
    ],
    ids=["number", "behind # in a string", "# in a string", "# in a long string", "blank line", "space", "indent"],
)
def test_what_runs_changes_the_digest(tmp_path, monkeypatch, old, new):
    before = digest_of(tmp_path, monkeypatch, MODULE)
    assert old in MODULE
    assert digest_of(tmp_path, monkeypatch, MODULE.replace(old, new)) != before


def test_a_module_that_moves_is_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "SCRIPTS", tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    assert code.digest([tmp_path / "a.py"]) != code.digest([tmp_path / "b.py"])


def installed(folder: Path, name: str, version: str) -> None:
    """What pip leaves in a folder of packages."""
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")


@pytest.fixture
def fresh():
    code.version.cache_clear()
    yield
    code.version.cache_clear()


def test_versions_are_those_of_the_packages_that_a_stage_imports(fresh):
    found = {stage: code.versions(code.closure(f"{stage}.py", plugins(stage))) for stage in config.STAGES}
    assert found["decode"].keys() >= {"numpy", "pycocotools"}
    assert not {"torch", "onnxruntime"} & found["decode"].keys()
    assert found["preprocess"].keys() >= {"numpy", "opencv-python-headless", "pillow"}
    assert found["export"].keys() >= {"torch", "onnx"}
    assert not {"detport", "json", "pathlib", "yaml", "jsonschema"} & found["decode"].keys()


def test_the_version_in_force_is_the_first_on_the_path(tmp_path, monkeypatch, fresh):
    before = code.version("numpy", False)
    installed(tmp_path, "numpy", "99.1")
    monkeypatch.syspath_prepend(tmp_path)
    code.version.cache_clear()
    assert code.version("numpy", False) == ("numpy", "99.1") != before


def test_a_build_for_another_device_is_the_same_version(tmp_path, monkeypatch, fresh):
    installed(tmp_path, "torch", "99.1+cpu")
    monkeypatch.syspath_prepend(tmp_path)
    assert code.version("torch", False) == ("torch", "99.1")


def test_where_conda_makes_the_environment_the_versions_are_the_locks(tmp_path, monkeypatch, fresh):
    """And so they are of a package that this machine lacks, because another one runs the stage."""
    installed(tmp_path, "numpy", "99.1")
    monkeypatch.syspath_prepend(tmp_path)
    locked = code.pins()["numpy"]
    assert code.version("numpy", True) == ("numpy", locked) != ("numpy", "99.1")
    assert code.version("no_such_package", False) == ("no_such_package", "unknown")


def test_every_pin_of_the_locks_is_read():
    lines = [line for path in (config.ROOT / "envs").glob("*.txt") for line in path.read_text().splitlines()]
    assert len(code.pins()) == sum("==" in line for line in lines) > 20


def test_what_was_read_once_is_remembered_and_a_changed_file_is_read_again(own_scripts, monkeypatch):
    """By content: neither the place nor the time of a file counts."""
    monkeypatch.setattr(code, "CACHE", own_scripts / "__pycache__" / "facts.json")
    path = own_scripts / "detport" / "boxes.py"
    for cached in (code.facts, code.known, code.of):
        cached.cache_clear()
    before = code.of("decode.py", ("detport.decoders.rfcn",))
    remembered = json.loads(code.CACHE.read_text())["facts"]
    assert list(remembered.values()) == list(code.known().values())
    monkeypatch.setattr(code.ast, "parse", lambda *_: pytest.fail("parsed again"))
    for cached in (code.facts, code.known, code.of):
        cached.cache_clear()
    assert code.of("decode.py", ("detport.decoders.rfcn",)) == before
    monkeypatch.undo()
    monkeypatch.setattr(code, "SCRIPTS", own_scripts)
    monkeypatch.setattr(code, "CACHE", own_scripts / "__pycache__" / "facts.json")
    path.write_text(path.read_text() + "\nEDITED = 1\n")
    for cached in (code.facts, code.known, code.of):
        cached.cache_clear()
    assert code.of("decode.py", ("detport.decoders.rfcn",))[0] != before[0]
    code.of.cache_clear()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"by": "another", "facts": {}}', "\0"])
def test_a_broken_memory_is_made_again(own_scripts, monkeypatch, content):
    monkeypatch.setattr(code, "CACHE", own_scripts / "__pycache__" / "facts.json")
    code.CACHE.parent.mkdir(exist_ok=True)
    code.CACHE.write_text(content)
    code.known.cache_clear()
    assert code.known() == {}
