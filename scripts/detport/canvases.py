"""Canvases: the sizes of network input that a model is made for. Every image goes to one of them.

A canvas is called HEIGHTxWIDTH in files, commands and reports. The first is that of `input` itself.
"""

from pathlib import Path

from detport.errors import Failure, UsageError


def by_name(settings: dict) -> dict[str, dict]:
    """Every canvas of a model's `input` section, the default first."""
    return {f"{canvas['height']}x{canvas['width']}": canvas for canvas in (settings, *settings["canvases"])}


def size_of(image: dict) -> tuple[int, int]:
    """Height and width of an image's tensor, by its entry in shard.json: its own size, or that of its canvas."""
    if "size" in image:
        width, height = image["size"]
        return height, width
    if "canvas" not in image:
        raise Failure(f"{image['file']!r}: shard.json does not say its canvas; make the shard again")
    height, width = map(int, image["canvas"].split("x"))
    return height, width


def select(model: dict, name: str | None) -> dict:
    """The model with one canvas only: that of this name, or the default."""
    known = by_name(model["input"])
    if name is None:
        name = next(iter(known))
    if name not in known:
        raise UsageError(f"canvas {name}: the model has {', '.join(known)}; correct it or input.canvases")
    size = {side: known[name][side] for side in ("height", "width")}
    return model | {"input": model["input"] | size | {"canvases": []}}


def files(paths: list[Path], model: dict, backend: dict) -> dict[str, Path]:
    """The file that a backend opens for each canvas: its own compiled model, or the one checkpoint."""
    known = by_name(model["input"])
    if backend["runs"] == "checkpoint":
        paths = paths * len(known)
    if len(paths) != len(known):
        raise UsageError(f"--compiled: {len(paths)} files; give one for each canvas, in this order: {', '.join(known)}")
    return dict(zip(known, paths, strict=True))


def suffixes(settings: dict) -> dict[str, str]:
    """What the names of a canvas's graphs end in, by its name: nothing for the default, -HEIGHTxWIDTH for others."""
    return {name: f"-{name}" if i else "" for i, name in enumerate(by_name(settings))}
