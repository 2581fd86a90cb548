"""pytest --golden DIR: a folder with which every golden test would be left out is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def golden(folder: Path) -> tuple[int, str]:
    """Exit status and output of one golden test on a folder of cases."""
    test = "tests/golden/test_gfocalv2_detections.py::test_preprocess_is_bit_identical"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test, "--golden", folder]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "holds no case; expected folders such as efficientdet_d7, gfocalv2"),
        (["images"], "holds no case"),
        (["gfocal_v2", "images"], "holds no case"),
    ],
)
def test_a_folder_without_cases_is_refused(tmp_path, folders, message):
    for name in folders:
        (tmp_path / name).mkdir()
    status, text = golden(tmp_path)
    assert status == pytest.ExitCode.USAGE_ERROR and message in text


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    status, text = golden(tmp_path / "missing")
    assert status == pytest.ExitCode.USAGE_ERROR and "no such folder" in text


def test_a_model_that_a_folder_lacks_is_left_out_visibly(tmp_path):
    for name in ("rfcn", "gfocal_v2", "__pycache__"):
        (tmp_path / name).mkdir()
    status, text = golden(tmp_path)
    assert status == 0 and f"{tmp_path} holds no case of gfocalv2" in text
    assert f"golden cases: rfcn of {tmp_path}" in text and "no model is called: gfocal_v2\n" in text


def test_what_a_case_lacks_is_left_out_visibly(tmp_path):
    (tmp_path / "gfocalv2").mkdir()
    status, text = golden(tmp_path)
    assert status == 0 and "gfocalv2 has no preprocess.npz" in text
