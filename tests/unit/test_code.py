"""Editing a module reruns the stages that use it, and no other."""

import shutil

import pytest

from detport import code, config

MODEL = config.load(config.ROOT / "config" / "models" / "retinamask.yaml", "model")
BACKEND = config.load_backend(config.ROOT / "config" / "backends" / "onnxruntime.yaml")


def plugins(stage: str, backend: dict = BACKEND) -> list[str]:
    return config.plugins(config.visible(MODEL, stage, backend), backend, stage)


def digests() -> dict[str, str]:
    for cached in (code.imports, code.statements, code.tree):
        cached.cache_clear()
    return {stage: code.digest(code.closure(f"{stage}.py", plugins(stage))) for stage in config.STAGES}


@pytest.fixture
def own_scripts(tmp_path, monkeypatch):
    copy = tmp_path / "scripts"
    shutil.copytree(code.SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "SCRIPTS", copy)
    yield copy
    for cached in (code.imports, code.statements, code.tree, code.pins, code.version):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("edited", "stages"),
    [
        ("infer.py", {"infer"}),
        ("detport/networks/retinamask.py", {"export"}),
        ("detport/networks/blocks.py", {"export"}),
        ("detport/networks/gfocalv2.py", set()),
        ("detport/decoders/after_nms.py", {"decode"}),
        ("detport/masks.py", {"decode"}),
        ("detport/images.py", {"preprocess"}),
        ("detport/shards.py", {"preprocess", "infer", "decode", "evaluate"}),
        ("detport/metrics/coco.py", {"evaluate", "report"}),
        ("detport/backends/onnxruntime.py", {"compile", "infer", "benchmark", "simplify", "patch"}),
        ("detport/graph/patches/__init__.py", {"patch"}),
        ("detport/graph/patches/cast_roi_concat_to_float16.py", set()),
        ("detport/efficientdet.py", set()),
        ("detport/ascend/logs.py", set()),
        ("detport/networks/efficientdet_check.py", set()),
        ("detport/files.py", set(config.STAGES)),
    ],
)
def test_edit_changes_the_digest_of_its_users(own_scripts, edited, stages):
    before = digests()
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
