"""Names that shells, tools and file formats stumble over: they work, or are refused by name; none of them ever runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detport import config as configuration
from detport.errors import UsageError
from runs import reduced_demo, snakemake
from stages import with_stand_ins

CANARY = "canary"
NASTY = [
    "with space",
    'it\'s "quoted"',
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY} #",
    f"a\ntouch {CANARY}\n",
    f"| touch {CANARY} &",
    "-rf",
    "--output",
    "{wildcards} {0}",
    "ünïcödé 图像 🦆",
    "x" * 200,
]
MODEL = "config/models/retinamask.yaml"
TARGET = "results/retinamask/onnxruntime/accuracy.json"


def no_canary(*places: Path) -> bool:
    """Whether no name was taken for a command."""
    return not [path for place in places for path in place.rglob("*") if path.name == CANARY]


def test_images_and_their_folder(tmp_path):
    """The real stages, with a nasty name for every image."""
    folder = reduced_demo(tmp_path / f'$(touch {CANARY}) `touch {CANARY}` it\'s "é"', "retinamask")
    images = folder / "data" / f"$(touch {CANARY}) 'im\"ages' -x"
    truth_file = folder / "data" / f"-`touch {CANARY}` truth.json"
    truth = json.loads((folder / "data" / "annotations" / "instances.json").read_text())
    images.mkdir()
    names = [*NASTY[:6], NASTY[10], NASTY[11]]
    for image, name in zip(truth["images"], names, strict=True):
        shutil.copy(folder / "data" / "images" / image["file_name"], images / f"{name}.jpg")
        image["file_name"] = f"{name}.jpg"
    truth_file.write_text(json.dumps(truth))
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    config["datasets"]["shapes"] |= {
        "images": str(images.relative_to(folder)),
        "annotations": str(truth_file.relative_to(folder)),
    }
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    result = snakemake(folder, "--cores", "2", TARGET)
    assert result.returncode == 0, result.stderr
    accuracy = json.loads((folder / TARGET).read_text())
    assert (accuracy["images"]["indexed"], accuracy["images"]["scored"]) == (8, 8)
    assert accuracy["accuracy"]["bbox"]["AP"] > 0.3
    assert no_canary(tmp_path)


@pytest.mark.parametrize("name", NASTY)
def test_every_folder(tmp_path, name):
    """Stand-ins for the stages: what Snakemake hands to the shell, with nasty names wherever the user chooses one."""
    top = tmp_path / name / "deeper"
    repository = with_stand_ins(top / "repository")
    folder = reduced_demo(top / "work" / name, "retinamask")
    images = folder / "data" / name
    (folder / "data" / "images").rename(images)
    truth = folder / "data" / f"{name}.json"
    (folder / "data" / "annotations" / "instances.json").rename(truth)
    weights = folder / name / "w.pth"
    weights.parent.mkdir()
    (folder / "weights" / "retinamask.pth").rename(weights)
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    config["datasets"]["shapes"] |= {"images": f"data/{name}", "annotations": f"data/{name}.json"}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    model = yaml.safe_load((folder / MODEL).read_text())
    model["checkpoint"]["file"] = f"{name}/w.pth"
    (folder / MODEL).write_text(yaml.safe_dump(model))
    environment = os.environ | {"STAND_IN_BYTES": "preprocess=10,infer=10"}
    result = snakemake(folder, "--cores", "2", TARGET, repository=repository, env=environment)
    said = result.stdout + result.stderr
    if "{" in name or name.startswith("-"):
        assert result.returncode == 2
        assert f"{name}/w.pth  (trained weights" in result.stderr
        reason = "Snakemake takes braces in a path for a wildcard" if "{" in name else "begins with a dash"
        assert reason in result.stderr
    else:
        assert result.returncode == 0, said
    assert "Traceback" not in said
    assert no_canary(tmp_path)


def test_a_list_of_images_with_a_dash(tmp_path):
    """Its name is part of those of VOC's result files, and as such a word of its own on the command line."""
    folder = reduced_demo(tmp_path / "demo", "rfcn")
    path = folder / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    image_set = Path(config["datasets"]["shapes_voc"]["image_set"])
    (folder / image_set).rename((folder / image_set).with_name("-rf.txt"))
    config["datasets"]["shapes_voc"]["image_set"] = str(image_set.with_name("-rf.txt"))
    path.write_text(yaml.safe_dump(config))
    result = snakemake(folder, "-n", "-p", "results/rfcn/onnxruntime/comp4")
    assert result.returncode == 0, result.stderr
    assert "--image-set=-rf" in result.stdout + result.stderr


def test_the_stand_ins_refuse_what_a_stage_would_refuse(tmp_path):
    """Else the tests above would show nothing."""
    repository = with_stand_ins(tmp_path / "repository")
    command = [sys.executable, repository / "scripts" / "preprocess.py", "--images", "-rf", "--output", tmp_path / "x"]
    environment = os.environ | {"STAND_IN_BYTES": "preprocess=10"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "unknown options ['-rf']" in result.stderr


@pytest.mark.parametrize("name", [*NASTY[:-1], "..", ".", "", "a/b", "a\n", "x" * 101])
@pytest.mark.parametrize("what", ["models", "backends", "datasets"])
def test_names_of_models_backends_and_datasets_are_refused(tmp_path, what, name):
    dataset = {"kind": "coco", "images": "a", "annotations": "b", "shards": 1}
    settings = {"models": ["m"], "backends": ["b"], "datasets": {"d": dataset}}
    settings[what] = {name: dataset} if what == "datasets" else [name]
    with pytest.raises(UsageError, match=what):
        configuration.check(settings, "config", "config.yaml")


@pytest.mark.parametrize("setting", ["backends=[x", "cross_check={", "disk_limit_gb=2001-13-45", "models=*x"])
def test_settings_on_the_command_line_that_are_no_yaml(tmp_path, setting):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    result = snakemake(folder, "-n", "--config", setting)
    assert result.returncode == 2
    assert f"detport: error: --config: {setting.split('=')[0]}" in result.stderr
    assert "Traceback" not in result.stderr
