"""Options and fixtures that all tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OWN_CASES = TESTS / "golden" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        metavar="DIR",
        help="folder of golden cases, DIR/MODEL/{keys.tsv, init.json, network.*, ...} (default: the project's own)",
    )


IMAGES = "images"  # of all cases of a folder


def pytest_configure(config: pytest.Config) -> None:
    """A wrong --golden must not look like a run without failures."""
    folder = config.getoption("--golden")
    if not folder:
        return
    models = {path.name for path in OWN_CASES.iterdir()} - {IMAGES}
    expected = f"expected folders such as {', '.join(sorted(models))}"
    if not Path(folder).is_dir():
        raise pytest.UsageError(f"--golden {folder}: no such folder; {expected}")
    found = {path.name for path in Path(folder).iterdir() if path.is_dir() and path.name[0] not in "._"}
    if not found & models:
        raise pytest.UsageError(f"--golden {folder}: holds no case; {expected}")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which folders of --golden are used; a misspelt one would else go unseen."""
    folder = config.getoption("--golden")
    if not folder:
        return []
    models = {path.name for path in OWN_CASES.iterdir()}
    found = {path.name for path in Path(folder).iterdir() if path.is_dir() and path.name[0] not in "._"}
    strange = found - models
    lines = [f"golden cases: {', '.join(sorted(found & models - {IMAGES}))} of {Path(folder).resolve()}"]
    return [*lines, f"no model is called: {', '.join(sorted(strange))}"] if strange else lines


@pytest.fixture(scope="session")
def case_folder(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Path of a model's golden case in the folder given by --golden."""
    root = Path(request.config.getoption("--golden") or OWN_CASES).resolve()

    def folder(model: str) -> Path:
        path = root / model
        if not path.is_dir():
            pytest.skip(f"{root} holds no case of {model}")
        return path

    return folder


@pytest.fixture(scope="session")
def case_images(case_folder: Callable[[str], Path]) -> Callable[[str], Path]:
    """Path of the images that a model's case refers to: DIR/MODEL/images, else DIR/images."""

    def folder(model: str) -> Path:
        case = case_folder(model)
        return case / IMAGES if (case / IMAGES).is_dir() else case.parent / IMAGES

    return folder
