"""Preparing an image, from its file to the .bin that is written, on one core: beside the guides' ways, and beside the
floor, which decodes once, resizes as prescribed and writes as many bytes.

The guides' ways are written anew from their descriptions: same bytes, other arithmetic and memory order.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import preprocess
from detport import config, files, images, placing, processes
from side_by_side import Measured, Row, Side, milliseconds, of_pairs, turns

MODELS = config.ROOT / "config" / "models"
FOLDER = config.ROOT / "tests" / "golden" / "data" / "images"
PICTURES = [FOLDER / f"000000000{i}.jpg" for i in (101, 102, 103, 106, 110)]
Way = Callable[[Path, dict, Path], object]  # of a picture and a model to a file


def index_row(path: Path) -> dict:
    """What the index says of a picture."""
    width, height = images.size(path, turned=False)
    return {"image_id": path.stem, "file": path.name, "width": width, "height": height, "sha256": files.sha256(path)}


def retinamask(path: Path, model: dict, output: Path) -> None:
    """Float64 arithmetic on every pixel, padding, transposition, write."""
    size, settings = model["input"]["height"], model["preprocess"]
    picture = Image.open(path).convert("RGB")
    ratio = size / max(picture.size)
    picture = picture.resize([min(int(ratio * side), size) for side in picture.size], Image.Resampling.BILINEAR)
    pixels = cv2.cvtColor(np.array(picture, dtype=np.float32), cv2.COLOR_RGB2BGR)
    pixels = (pixels - settings["mean"]) / settings["std"]
    canvas = np.zeros((size, size, 3), np.float32)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    canvas.transpose(2, 0, 1).tofile(output)


def gfocalv2(path: Path, model: dict, output: Path) -> None:
    """OpenCV's resize and arithmetic; the transposed array is written element by element."""
    width, height, settings = model["input"]["width"], model["input"]["height"], model["preprocess"]
    mean, std = (np.float64(np.float32([settings[key]])) for key in ("mean", "std"))
    pixels = cv2.imread(str(path))
    ratio = min(width / pixels.shape[1], height / pixels.shape[0])
    size = (int(pixels.shape[1] * ratio), int(pixels.shape[0] * ratio))
    pixels = cv2.cvtColor(cv2.resize(pixels, size), cv2.COLOR_BGR2RGB).astype(np.float32)
    cv2.subtract(pixels, mean, pixels)
    cv2.multiply(pixels, 1 / std, pixels)
    right, bottom = width - size[0], height - size[1]
    padded = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
    padded.transpose(2, 0, 1).tofile(output)


def efficientdet_d7(path: Path, model: dict, output: Path) -> None:
    """Pasted on a coloured canvas, transposed, normalised as float32."""
    size, settings = model["input"]["height"], model["preprocess"]
    picture = Image.open(path).convert("RGB")
    scale = min(size / picture.height, size / picture.width)
    picture = picture.resize([int(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (size, size), color=tuple(settings["fill"]))
    canvas.paste(picture)
    pixels = np.moveaxis(np.array(canvas, np.uint8), 2, 0).astype(np.float32)
    mean, std = (np.float32(settings[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    ((pixels - mean) / std).tofile(output)


def rfcn(path: Path, model: dict, output: Path) -> None:
    """Float64 means taken from float32 pixels, a resize of these, padding, transposition, write."""
    size, settings = model["input"]["height"], model["preprocess"]
    pixels = np.asarray(Image.open(path))[:, :, ::-1].astype(np.float32, copy=True)
    pixels -= np.array([[settings["mean"]]])
    scale = settings["resize"]["size"] / min(pixels.shape[:2])
    pixels = cv2.resize(pixels, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    blob = np.zeros((1, size, size, 3), np.float32)
    blob[0, : pixels.shape[0], : pixels.shape[1]] = pixels
    blob.transpose(0, 3, 1, 2).tofile(output)


def floor(folder: Path, model: dict) -> Side:
    """What nobody can leave out."""
    size, settings = model["input"], model["preprocess"]
    content = np.random.default_rng(0).random((3, size["height"], size["width"]), np.float32)
    early = settings["normalise"] == "before_resize"
    library = settings["resize"]["library"]
    work = []
    for path in PICTURES:
        width, height = images.size(path, turned=False)
        aim = placing.target(width, height, settings["resize"], size["width"], size["height"])
        numbers = np.zeros((height, width, 3), np.float32) if early else None
        work.append((path, aim, numbers, folder / f"{path.stem}.floor"))

    def run() -> None:
        for path, aim, numbers, output in work:
            if settings["decoder"] == "pillow":
                pixels = Image.open(path)
                pixels.load()
            else:
                pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            if library == "pillow":
                pixels.resize((aim.width, aim.height), Image.Resampling.BILINEAR)
            else:
                cv2.resize(pixels if numbers is None else numbers, (aim.width, aim.height))
            with output.open("wb") as file:
                file.write(content)

    return run


def ours(folder: Path, model: dict) -> Side:
    """What the preprocess stage does."""
    rows = [(path, index_row(path)) for path in PICTURES]

    def run() -> None:
        processes.keep_memory()
        for path, row in rows:
            preprocess.prepare(path, row, model, folder)

    return run


def guide(folder: Path, model: dict, way: Way) -> Side:
    return lambda: [way(path, model, folder / f"{path.stem}.guide") for path in PICTURES]


def in_turns(folder: Path, first: Side, second: Side) -> Measured:
    """Both write new files each time, as a stage does: to overwrite one is another thing to a file system."""
    return turns(first, second, 21, before=lambda: [path.unlink() for path in folder.iterdir()])


def against_guide(way: Way) -> Callable[[Path], Measured]:
    def measure(folder: Path) -> Measured:
        model = config.load_model(MODELS / f"{way.__name__}.yaml", "preprocess")
        first, second = ours(folder, model), guide(folder, model, way)
        first(), second()
        for path in PICTURES:
            if (folder / f"{path.stem}.bin").read_bytes() != (folder / f"{path.stem}.guide").read_bytes():
                raise AssertionError(f"{path.name}: the guide's way gives other bytes")
        return in_turns(folder, first, second)

    return measure


def against_floor(name: str) -> Callable[[Path], Measured]:
    def measure(folder: Path) -> Measured:
        model = config.load_model(MODELS / f"{name}.yaml", "preprocess")
        return in_turns(folder, ours(folder, model), floor(folder, model))

    return measure


def pixels_against_tensors(name: str) -> Callable[[Path], Measured]:
    """Shards of pixels, which the compiled model normalises, beside those of tensors."""

    def measure(folder: Path) -> Measured:
        model = config.load_model(MODELS / f"{name}.yaml", "preprocess")
        pixels = model | {"input": model["input"] | {"on_device": True}}
        return in_turns(folder, ours(folder, pixels), ours(folder, model))

    return measure


def resized(old: tuple[int, int], new: tuple[int, int]) -> Callable[[Path], Measured]:
    """Pillow's resize, done by the project's own loops where they are compiled, beside Pillow itself. Both
    keep their memory, as the stage does."""

    def measure(folder: Path) -> Measured:
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*old[::-1], 3), np.uint8))
        aim = placing.Target(*new, (1, 1), None)
        settings = {"library": "pillow", "interpolation": "linear"}
        return turns(
            lambda: placing.resize(image, aim, settings),
            lambda: image.resize(new, Image.Resampling.BILINEAR),
            before=processes.keep_memory,
        )

    return measure


def worked(name: str, folder: str, times: int) -> float:
    """Milliseconds of processor time for the pictures, with new files each time."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        run = ours(Path(own), config.load_model(MODELS / f"{name}.yaml", "preprocess"))
        return milliseconds(run, times, lambda: [path.unlink() for path in Path(own).iterdir()])


def on_all_cores(name: str) -> Callable[[Path], Measured]:
    """What an image takes while every core prepares images, beside one that works alone. It is processor time, so that
    other programs count for neither: what cores take from each other is memory and its bandwidth."""

    def measure(folder: Path) -> Measured:
        cores = os.cpu_count() or 1
        work = (name, str(folder), 12)
        with multiprocessing.get_context("spawn").Pool(cores) as pool:
            pool.starmap(worked, [work] * cores, chunksize=1)
            pairs = []
            for _ in range(5):
                alone = pool.apply(worked, work)
                together = pool.starmap(worked, [work] * cores, chunksize=1)
                pairs.append((sum(together) / cores, alone))
        return of_pairs(pairs, "ms")

    return measure


NAMES = {"RetinaMask": retinamask, "GFocalV2": gfocalv2, "EfficientDet-D7": efficientdet_d7, "R-FCN": rfcn}
TIMES = (8, 8, 5, 3)
RESIZED = (((640, 480), (1344, 1008), 2.5), ((2000, 1500), (1344, 1008), 1.1))
ROWS = [
    *(
        Row(f"resize {old[0]}x{old[1]} to {new[0]}x{new[1]}", "Pillow itself", resized(old, new), required=times)
        for old, new, times in RESIZED
    ),
    *(
        Row(f"preprocess {title}", "the guide's way", against_guide(way), required=times)
        for (title, way), times in zip(NAMES.items(), TIMES, strict=True)
    ),
    *(
        Row(f"preprocess {title}", "the floor", against_floor(way.__name__), required=0.8)
        for title, way in NAMES.items()
    ),
    *(
        Row(f"preprocess {title} as uint8", "as float32", pixels_against_tensors(way.__name__), required=1.5)
        for title, way in NAMES.items()
        if way is not rfcn
    ),
    *(
        Row(f"preprocess {title}, every core at work", "one core", on_all_cores(way.__name__), required=0.9)
        for title, way in NAMES.items()
    ),
]
