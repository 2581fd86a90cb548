"""What bench/full_size.py runs on: a generated checkpoint of a model, one image of noise and its index.

PYTHONPATH=scripts:tests/golden python bench/generate.py MODEL      # into the current folder
"""

import json
import re
import sys
from pathlib import Path

import torch
from PIL import Image

import weights
from detport import canvases, config, networks

# Where a model's checkpoint is generated from, when its case is not called like the model.
CASES = {"efficientdet_d0": ("efficientdet_d7", "keys_d0.tsv", "init_d0.json")}


def main(name: str) -> None:
    settings = config.load(config.ROOT / "config" / "models" / f"{name}.yaml", "model")
    case, keys, rules = CASES.get(name, (name, "keys.tsv", "init.json"))
    data = config.ROOT / "tests" / "golden" / "data" / case
    table = json.loads((data / rules).read_text(encoding="utf-8"))
    state = networks.build(canvases.select(settings, None)).state_dict()
    for key, value in weights.generate(weights.read_keys(data / keys), table).items():
        if not any(re.search(pattern, key) for pattern in table.get("keep", ())):
            state[key] = torch.from_numpy(value)
    checkpoint = settings["checkpoint"]
    content = {checkpoint["prefix"] + key: value for key, value in state.items()}
    torch.save({checkpoint["wrapper"]: content} if checkpoint["wrapper"] else content, "w.pth")
    Image.effect_noise((640, 480), 60).convert("RGB").save("1.jpg")
    Path("index.tsv").write_text("image_id\tfile\twidth\theight\tbytes\n1\t1.jpg\t640\t480\t1\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
