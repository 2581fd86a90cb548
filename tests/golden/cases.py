"""What every golden test does: read a case folder, generate its weights, measure a difference.

A case folder holds keys.tsv, init.json and pairs STEM.json / STEM.npz; weights.py beside this file turns
keys and rules into the tensors that the reference had.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import weights

OWN_CASES = Path(__file__).parent / "data"


def part(folder: Path, name: str) -> Path:
    """A file of a case. Another's case may lack a part, whose tests are then skipped; the project's own has all."""
    path = folder / name
    if not path.exists() and OWN_CASES not in path.parents:
        pytest.skip(f"{folder} has no {name}")
    return path


def read_case(folder: Path, stem: str) -> tuple[dict, dict[str, np.ndarray]]:
    """STEM.json and the arrays of STEM.npz."""
    with np.load(part(folder, f"{stem}.npz"), allow_pickle=False) as arrays:
        return json.loads(part(folder, f"{stem}.json").read_text()), dict(arrays)


def image_file(folder: Path, stem: str) -> Path:
    """The image of this name, whatever its extension."""
    (path,) = (path for path in folder.iterdir() if path.stem == stem)
    return path


def generated_state(folder: Path, keys: str = "keys.tsv", rules: str = "init.json") -> dict[str, torch.Tensor]:
    """The checkpoint of the case; tensors that init.json lists under "keep" are left to the network.

    A case without key list uses the project's own: the keys of a published checkpoint are always the same.
    """
    listed = folder / keys
    if not listed.exists():
        listed = OWN_CASES / folder.name / keys
    table = json.loads(part(folder, rules).read_text())
    kept = [re.compile(pattern) for pattern in table.get("keep", ())]
    wanted = [row for row in weights.read_keys(listed) if not any(pattern.search(row[0]) for pattern in kept)]
    return {key: torch.from_numpy(value) for key, value in weights.generate(wanted, table).items()}


def random_input(spec: dict) -> torch.Tensor:
    """The network input that a case describes by seed, shape and scale."""
    values = np.random.RandomState(spec["seed"]).standard_normal(spec["shape"]) * spec["scale"]
    return torch.from_numpy(values.astype(np.float32))


def difference(golden: dict[str, np.ndarray], name: str, tensor: torch.Tensor | np.ndarray) -> float:
    """Largest |difference| / largest |golden|, for an array stored whole or as samples (NAME_idx, NAME_val)."""
    values = np.asarray(tensor.detach() if isinstance(tensor, torch.Tensor) else tensor)
    if name in golden:
        expected = golden[name]
        assert values.shape == expected.shape, f"{name}: shape {values.shape}, expected {expected.shape}"
    else:
        expected = golden[f"{name}_val"]
        values = values.reshape(-1)[golden[f"{name}_idx"]]
    expected = expected.astype(np.float64)
    return float(np.abs(values - expected).max() / max(np.abs(expected).max(), 1e-12))
