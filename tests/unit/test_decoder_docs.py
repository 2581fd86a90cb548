"""The examples of docs/decoders.md: each is accepted, and its decoder reads the outputs that it declares."""

import re

import numpy as np
import pytest

from detport import config, decoders, schemas
from detport.yamlfile import parse_yaml

PAGE = (config.ROOT / "docs" / "decoders.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_accepted_and_reads_its_outputs(example: str) -> None:
    model = {"input": {"height": 640, "width": 640}} | parse_yaml(example, "decoders.md")[0]
    options = model["decode"]
    schemas.validate(options, schemas.plugin("decoders", options["kind"]), "decoders.md", {}, ("decode",))
    assert schemas.own_problem("decoders", options["kind"], model) is None
    height, width = model["input"]["height"], model["input"]["width"]
    image = {
        "image_id": 1,
        "file": "a.jpg",
        "width": width,
        "height": height,
        "canvas": f"{height}x{width}",
        "scale": 1.0,
    }
    outputs = {each["name"]: np.zeros(each["shape"], each["dtype"]) for each in model["outputs"]}
    rows = decoders.load(options["kind"]).decode(outputs, image, options, decoders.categories(options["categories"]))
    assert isinstance(rows, list)


def test_there_is_an_example_of_every_layout() -> None:
    kinds = {parse_yaml(example, "decoders.md")[0]["decode"]["kind"] for example in EXAMPLES}
    assert kinds == {"after_nms", "dense", "cells", "distances", "anchors"}
