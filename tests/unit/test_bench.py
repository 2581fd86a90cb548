"""The benchmarks call the library as it is: what is timed runs once here, on small maps."""

import numpy as np

import postprocess
from detport import config

LEVELS = (16, 8, 4, 2, 1)  # map sides at 128
IMAGE = postprocess.IMAGE | {"resized": [128, 96], "scale": 0.2, "pad": [0, 32]}


def test_postprocessing_of_one_image(tmp_path):
    model = config.load_model(postprocess.MODEL_YAML, "decode")
    postprocess.write_compact(tmp_path, postprocess.random_maps(LEVELS, classes=90), model)
    rows = postprocess.ours(tmp_path, model, IMAGE)
    assert len(rows) == model["decode"]["max_detections"]
    assert all(np.isfinite(row["bbox"]).all() and 0 < row["score"] < 1 for row in rows)
