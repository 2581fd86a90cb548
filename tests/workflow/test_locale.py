"""A run in a locale whose text is not UTF-8, with names that no other encoding writes alike."""

import os
from pathlib import Path

import yaml

from runs import ROOT, reduced_demo, snakemake

INDEX = "results/datasets/shapes/index.tsv"


def test_a_run_where_python_would_read_ascii(tmp_path, monkeypatch):
    """Snakemake begins again in the folder that its relative paths are of."""
    folder = reduced_demo(tmp_path / "演示", "retinamask")
    (folder / "data" / "images").rename(folder / "data" / "图像")
    settings = yaml.safe_load((folder / "config" / "config.yaml").read_text(encoding="utf-8"))
    settings["datasets"]["shapes"]["images"] = "data/图像"
    text = yaml.safe_dump(settings, allow_unicode=True)
    (folder / "config" / "config.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    environment = {key: value for key, value in os.environ.items() if key not in ("LANG", "LC_CTYPE")}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0"}
    done = snakemake(Path("演示"), "--cores", "1", INDEX, repository=Path(os.path.relpath(ROOT)), env=environment)
    assert done.returncode == 0, done.stderr
    assert (folder / INDEX).exists()
