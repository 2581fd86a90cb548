"""What a graph is fed: the tensor of an image, and inputs that follow from where the image lies on it.

The keys of the model's `input` that only some models have may be absent in the dict of a canvas.
"""

import math

import numpy as np

ON_DEVICE = ("uint8", "NHWC")  # pixels, red first, that the compiled model normalises


def form(size: dict) -> tuple[str, str]:
    """Type and layout of the tensor that the graph of a model takes."""
    return size.get("dtype", "float32"), size.get("layout", "NCHW")


def fed_form(size: dict) -> tuple[str, str]:
    """The same of what the compiled model is fed, and shards hold."""
    return ON_DEVICE if size.get("on_device") else form(size)


def shape(size: dict, layout: str, sides: tuple[int | None, int | None] | None = None) -> list[int | None]:
    """The tensor's shape for an image of its own sides (height, width), or for the canvas."""
    height, width = sides or (size["height"], size["width"])
    lengths = {"N": 1, "C": size.get("channels", 3), "H": height, "W": width}
    return [lengths[axis] for axis in layout]


def image_bytes(size: dict) -> int:
    """Bytes of an image's tensor on a canvas."""
    kind, layout = fed_form(size)
    return math.prod(shape(size, layout)) * np.dtype(kind).itemsize


def declared(size: dict) -> list[dict]:
    """The inputs of the graph, the image's first: name, dtype, shape. A length that the graph must leave open is
    None."""
    kind, layout = form(size)
    sides = (None, None) if size.get("multiple") else None
    return [{"name": size["name"], "dtype": kind, "shape": shape(size, layout, sides)}, *derived_inputs(size)]


def derived_inputs(size: dict) -> list[dict]:
    """The inputs beside the image."""
    return [
        {"name": entry["name"], "dtype": entry["dtype"], "shape": entry["shape"] or [1, len(entry["values"])]}
        for entry in size.get("more", ())
    ]


def needed(size: dict) -> tuple[str, ...]:
    """What an entry of shard.json must say for the inputs of a model."""
    own = ("size",) if size.get("multiple") else ()
    return (*own, "width", "height", "resized", "scale") if size.get("more") else own


def feeds(size: dict, tensor: np.ndarray, image: dict) -> dict[str, np.ndarray]:
    """All inputs by name, of an image's tensor and its entry in shard.json."""
    return {size["name"]: tensor} | derived(size, image)


def batched(tensor: np.ndarray, size: dict, image: dict) -> np.ndarray:
    """An image's tensor with the axis of the batch, where the graph's input has one."""
    kind, layout = fed_form(size)
    sides = image["size"][::-1] if size.get("multiple") else None
    return tensor.astype(kind, copy=False).reshape(shape(size, layout, sides))


def derived(size: dict, image: dict) -> dict[str, np.ndarray]:
    """The inputs that follow from an image's entry in shard.json."""
    if not size.get("more"):
        return {}
    x, y = image["scale"] if isinstance(image["scale"], list) else (image["scale"],) * 2
    input_w, input_h = image.get("size", (size["width"], size["height"]))
    known = {
        "image_width": image["width"],
        "image_height": image["height"],
        "resized_width": image["resized"][0],
        "resized_height": image["resized"][1],
        "input_width": input_w,
        "input_height": input_h,
        "scale_x": x,
        "scale_y": y,
    }
    found = {}
    for entry, form in zip(size["more"], derived_inputs(size), strict=True):
        numbers = [known.get(value, value) for value in entry["values"]]
        found[form["name"]] = np.array(numbers, form["dtype"]).reshape(form["shape"])
    return found


def random(size: dict, seed: int, on_device: bool = False) -> dict[str, np.ndarray]:
    """Seeded inputs of an image that fills the canvas: numbers of a standard normal distribution, or pixels where the
    input is integers. Any will do where only time or equality counts."""
    kind, layout = ON_DEVICE if on_device else form(size)
    generator, lengths = np.random.default_rng(seed), shape(size, layout)
    if np.dtype(kind).kind == "f":
        tensor = generator.standard_normal(lengths, dtype=np.float32).astype(kind, copy=False)
    else:
        tensor = generator.integers(0, 256, lengths, kind)
    whole = {"width": size["width"], "height": size["height"]}
    return feeds(size, tensor, whole | {"resized": [size["width"], size["height"]], "scale": 1.0})


def normalised(pixels: np.ndarray, settings: dict) -> np.ndarray:
    """The tensor [1, 3, H, W] of pixels [1, H, W, 3], as a device that is fed pixels makes it."""
    if settings["channels"] == "BGR":
        pixels = pixels[..., ::-1]
    mean, std = (np.array(settings[key], np.float32) for key in ("mean", "std"))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))
