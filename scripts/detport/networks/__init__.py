"""Architectures, one file each; a model's yaml names its file and gives the sizes."""

import importlib

from torch import nn


def build(model: dict, flavour: str = "standard") -> nn.Module:
    """The untrained network of a model, ready for inference."""
    options = {key: value for key, value in model["network"].items() if key != "architecture"}
    module = importlib.import_module(f"detport.networks.{model['network']['architecture']}")
    return module.build(options, (model["input"]["height"], model["input"]["width"]), flavour).eval()
