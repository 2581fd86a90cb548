"""Stages that do what several others do: the parts of a model's yaml that they see, and recipes of all of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from detport import config, made
from detport.page import templates
from detport.parity import precisions

MIXED = ("preprocess", "compile", "infer", "decode")  # what the search for a mixed precision does again and again
PREVIEW = ("preprocess", "infer", "decode", "page")  # from a few images to a page


def load_model(path: Path, stages: Sequence[str], backend: dict) -> dict:
    """All that these stages see of a model's yaml."""
    views = [config.load_model(path, stage, backend) for stage in stages]
    return {key: value for view in views for key, value in view.items()}


def recipe(
    name: str, stages: Sequence[str], model: dict, backend: dict, pinned: bool, plugins: Iterable[str], more: dict
) -> dict:
    """The recipe of the stage `name`: what all of `stages` read, and their plugins."""
    seen = {stage: config.visible(model, stage, backend) for stage in stages}
    settings = {stage: config.settings(each, backend, stage) for stage, each in seen.items()}
    own = [plugin for stage, each in seen.items() for plugin in config.plugins(each, backend, stage)]
    return made.recipe(name, settings | more, dict.fromkeys([*own, *plugins]), pinned)


def mixed_recipe(model: dict, backend: dict, tolerance: dict[str, float], pinned: bool = False, **drawn: float) -> dict:
    """The recipe of the search for a mixed precision."""
    numbers = {key: float(value) for key, value in drawn.items()}  # 1 in a yaml, 1.0 from a command line
    return recipe("mixed", MIXED, model, backend, pinned, (), {"tolerance": tolerance} | numbers)


def allowed(model: dict, backend: dict) -> dict[str, float]:
    """What a backend's compiled graph may change of the detections: the tolerance of its precision."""
    options = config.visible(model, "compile", backend)["compile"]
    return model["parity"]["tolerances"][precisions.of(options, backend)]


def preview_recipe(model: dict, backend: dict, dataset: dict, drawn: dict, pinned: bool = False) -> dict:
    """The recipe of a preview, which shows the ground truth too, by templates that are no code."""
    more = {"dataset": dataset["kind"], "templates": templates.digest()} | drawn
    return recipe("preview", PREVIEW, model, backend, pinned, [f"detport.datasets.{dataset['kind']}"], more)
