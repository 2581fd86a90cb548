"""Preprocessing of one image with its .bin, ours beside the guides' way, on the golden images.

The guides' way is rewritten here from their description: same bytes, other arithmetic and memory order.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detport import config, tensors
from side_by_side import compare

ROOT = Path(__file__).resolve().parents[1]
PICTURES = [ROOT / "tests" / "golden" / "data" / "images" / f"000000000{i}.jpg" for i in (101, 102, 103, 106, 110)]


def ours(model: dict, output: Path) -> None:
    for path in PICTURES:
        tensors.preprocess(path, model)[0].tofile(output)


def guide_retinamask(model: dict, output: Path) -> None:
    """Float64 arithmetic on every pixel, padding, transposition, write."""
    size, settings = model["input"]["height"], model["preprocess"]
    for path in PICTURES:
        picture = Image.open(path).convert("RGB")
        ratio = size / max(picture.size)
        picture = picture.resize([min(int(ratio * side), size) for side in picture.size], Image.Resampling.BILINEAR)
        pixels = cv2.cvtColor(np.array(picture, dtype=np.float32), cv2.COLOR_RGB2BGR)
        pixels = (pixels - settings["mean"]) / settings["std"]
        canvas = np.zeros((size, size, 3), np.float32)
        canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
        canvas.transpose(2, 0, 1).tofile(output)


def guide_gfocalv2(model: dict, output: Path) -> None:
    """OpenCV's resize and arithmetic; the transposed array is written element by element."""
    width, height, settings = model["input"]["width"], model["input"]["height"], model["preprocess"]
    mean, std = np.float64([settings["mean"]]), 1 / np.float64([settings["std"]])
    for path in PICTURES:
        pixels = cv2.imread(str(path))
        ratio = min(width / pixels.shape[1], height / pixels.shape[0])
        size = (int(pixels.shape[1] * ratio), int(pixels.shape[0] * ratio))
        pixels = cv2.cvtColor(cv2.resize(pixels, size), cv2.COLOR_BGR2RGB).astype(np.float32)
        cv2.subtract(pixels, mean, pixels)
        cv2.multiply(pixels, std, pixels)
        right, bottom = width - size[0], height - size[1]
        padded = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
        padded.transpose(2, 0, 1).tofile(output)


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "image.bin"
        for name, guide in (("retinamask", guide_retinamask), ("gfocalv2", guide_gfocalv2)):
            model = config.load_model(ROOT / "config" / "models" / f"{name}.yaml", "preprocess")
            title = f"{name}: preprocess and write {len(PICTURES)} images"
            compare(title, lambda m=model: ours(m, output), lambda m=model, g=guide: g(m, output), rounds=7)


if __name__ == "__main__":
    main()
