"""Architectures, one module each; a model's yaml names it and gives the sizes, whose schema is beside it.

The yaml may also say under `memory` what the tensors of an image take, see memory.py.

A module has build(options, canvas, flavour), the untrained network. ARCHITECTURE_check.py, where there is one, has
problem(model): key and text of what the schema cannot say of a model's yaml, or None; and, if the yaml need not say its
outputs, contract_outputs(network). It needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(model: dict, flavour: str = "standard") -> nn.Module:
    """The untrained network of a model, ready for inference."""
    options = {key: value for key, value in model["network"].items() if key != "architecture"}
    module = importlib.import_module(f"detport.networks.{model['network']['architecture']}")
    return module.build(options, (model["input"]["height"], model["input"]["width"]), flavour).eval()
