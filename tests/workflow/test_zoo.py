"""Many models, one of which has a mistake: it stops no other, is named, and the exit status tells."""

import shutil

import pytest
import yaml

from runs import reduced_demo, snakemake

MODELS = ["one", "two", "wrong"]
MADE = ["results/one/checked.json", "results/two/checked.json"]


@pytest.fixture
def zoo(tmp_path):
    """Copies of a model, the last with a key that nobody knows."""
    folder = reduced_demo(tmp_path / "zoo", "yolo")
    for name in MODELS:
        shutil.copy(folder / "config" / "models" / "yolo.yaml", folder / "config" / "models" / f"{name}.yaml")
    with (folder / "config" / "models" / "wrong.yaml").open("a") as file:
        file.write("heigth: 3\n")
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"models": MODELS}))
    return folder


def test_the_others_run_and_the_status_tells(zoo):
    for again in (False, True):
        result = snakemake(zoo, "--cores", "2", "--", *MADE)
        assert result.returncode == 2, result.stdout + result.stderr
        assert all((zoo / path).exists() for path in MADE)
        assert not (zoo / "results" / "wrong").exists()
        first, *_, last = [line for line in result.stderr.splitlines() if "wrong.yaml" in line]
        assert "heigth" in first and "wrong is left out of this run" in first
        assert "left out: config/models/wrong.yaml" in last, again


def test_whoever_asks_for_it_is_told_at_once(zoo):
    result = snakemake(zoo, "--cores", "2", "--", "reports/wrong.txt")
    assert result.returncode == 2
    assert "config/models/wrong.yaml" in result.stderr
    assert "heigth" in result.stderr


def test_a_change_of_one_yaml_is_a_change_of_one_model(zoo):
    snakemake(zoo, "--cores", "2", "--", *MADE)
    path = zoo / "config" / "models" / "two.yaml"
    path.write_text(path.read_text().replace("[disc, square,", "[square, disc,"))
    done = snakemake(zoo, "-n", "--", *MADE)
    plan = done.stdout + done.stderr
    assert "output: results/two/checked.json" in plan
    assert "output: results/one/checked.json" not in plan
