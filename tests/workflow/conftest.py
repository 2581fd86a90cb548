"""A reduced demo in a folder with a space and a quote in its name, run once for all workflow tests."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs import reduced_demo, snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A reduced demo that has run to its report. Read only: copy it to change something."""
    folder = reduced_demo(tmp_path_factory.mktemp("workflow") / "it's a demo", "retinamask", parity=4)
    result = snakemake(folder, "--cores", "2", "reports/retinamask.txt")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def copy_of_finished(finished, tmp_path) -> Callable[[], Path]:
    """A copy of the finished run, file times included, in which a test may change things."""

    def copied() -> Path:
        target = tmp_path / "it's a copy"
        shutil.copytree(finished, target)
        return target

    return copied
