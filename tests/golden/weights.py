"""Deterministic weights for parity tests: the same numbers for the same name and shape, anywhere.

A golden case stores no weights. It names a rule file (init.json) and every tensor of the checkpoint
is generated from its own key, so any implementation whose state_dict has the same keys and shapes
gets exactly the weights the reference had.

    state = generate(keys, rules)        # {key: np.ndarray}

keys:  iterable of (key, shape, dtype), as listed in keys.tsv
rules: {"gain": [[regex, factor], ...], "offset": [[regex, value], ...], "salt": "text"}, all optional;
       the first regex that is found in the key applies.
"""

import math
import re
import zlib

import numpy as np


def _first(table, key, default):
    for pattern, value in table or ():
        if re.search(pattern, key):
            return value
    return default


def tensor(key, shape, dtype="float32", rules=None):
    rules = rules or {}
    shape = tuple(int(n) for n in shape)
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    # RandomState's stream is frozen by NumPy's own policy, so it is the same on every version
    rng = np.random.RandomState(zlib.crc32((rules.get("salt", "") + key).encode()))
    if key.endswith("running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    elif key.endswith("running_mean"):
        value = 0.1 * rng.standard_normal(shape)
    elif key.endswith("bias"):
        value = 0.05 * rng.standard_normal(shape)
    elif len(shape) >= 2:
        value = rng.standard_normal(shape) * math.sqrt(2.0 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        value = rng.uniform(0.5, 1.0, shape)
    else:
        value = 0.1 * rng.standard_normal(shape)
    value = value * _first(rules.get("gain"), key, 1.0) + _first(rules.get("offset"), key, 0.0)
    return np.asarray(value, dtype=dtype).reshape(shape)


def read_keys(path):
    with path.open() as lines:
        for line in lines:
            if line.strip():
                key, shape, dtype = line.rstrip("\n").split("\t")
                yield key, tuple(int(n) for n in shape.split(",") if n), dtype


def generate(keys, rules=None):
    return {key: tensor(key, shape, dtype, rules) for key, shape, dtype in keys}
