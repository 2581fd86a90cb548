"""Models that say only what a test is about; everything else is the schema's default."""

import numpy as np

from detport import config

PLAIN = {
    "decoder": "pillow",
    "channels": "RGB",
    "resize": {"library": "opencv", "rule": "fit"},
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}


def model(size: tuple[int, int], resize: dict, preprocess: dict | None = None, **more: object) -> dict:
    """Checked sections input (of a size (width, height) and more keys) and preprocess."""
    sections = {
        "input": {"name": "image", "width": size[0], "height": size[1], **more},
        "preprocess": PLAIN | (preprocess or {}) | {"resize": PLAIN["resize"] | resize},
    }
    whole = {
        "title": "Words",
        "dataset": "none",
        "onnx": "model.onnx",
        "outputs": [
            {"name": "dets", "shape": [9, 5], "dtype": "float32"},
            {"name": "labels", "shape": [9], "dtype": "int64"},
        ],
        "decode": {"kind": "after_nms", "categories": [1]},
        "metric": {"kind": "coco", "iou_types": ["bbox"]},
    }
    return config.check(whole | sections, "model", "model.yaml")


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """RGB pixels, smooth enough that filters differ by little and structured enough that a shift shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (3 + i) + rng.random() * 6) + np.cos(y / (4 + i) + rng.random() * 6) for i in range(3)]
    return np.uint8(np.stack(waves, 2) * 60 + 128)
