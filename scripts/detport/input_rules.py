"""Which words for the input and its preprocessing go together, beyond what each key allows by itself."""

import math
from collections.abc import Iterator

from detport import schemas

Problem = tuple[tuple, str]  # the key, and what is wrong with it

RESIZE = ("preprocess", "resize")
NETWORK = {"dtype": "float32", "layout": "NCHW", "channels": 3, "multiple": None, "more": []}
SCALES = ("scale_x", "scale_y")
# Keys that a rule does not ask, and what they are where they are not given.
UNUSED = {
    "fit": {"too_large": "fit"},
    "stretch": {"too_large": "fit", "long_side": None, "enlarge": True, "rounding": "down", "scale": "ratio"},
    "keep": {"long_side": None, "enlarge": True, "rounding": "down"},
}


def problems(model: dict) -> Iterator[Problem]:
    """Everything that does not go together, in words."""
    yield from resize_problems(model["preprocess"])
    yield from channel_problems(model)
    yield from size_problems(model)
    yield from more_problems(model["input"])
    yield from placement_problems(model)
    if "network" in model:
        for key, value in NETWORK.items():
            if model["input"][key] != value:
                yield ("input", key), f"a network takes {value}; other inputs are for models that are onnx already"
    if model["input"]["on_device"]:
        yield from on_device_problems(model)
    for i, output in enumerate(model["outputs"]):
        if output["varies"] is not None and output["varies"] >= len(output["shape"]):
            yield ("outputs", i, "varies"), f"shape {output['shape']} has no axis {output['varies']}"


def resize_problems(settings: dict) -> Iterator[Problem]:
    """Who resizes, how."""
    resize = settings["resize"]
    warps = str(resize["by"]).startswith("warp")
    if resize["library"] == "pillow" and (resize["by"] == "factor" or warps):
        yield (*RESIZE, "by"), f"Pillow has no {resize['by']}; set library: opencv, or by: sides"
    if warps and settings["fill"] is None and settings["normalise"] == "after_resize":
        yield (*RESIZE, "by"), "a warp blends the border with a colour; give it as preprocess.fill (often 0)"
    if warps and resize["scale"] == "sides":
        yield (*RESIZE, "scale"), "a warp knows no whole sides; remove it"
    if resize["by"] == "factor" and resize["rounding"] != "down":
        yield (*RESIZE, "rounding"), "with by: factor OpenCV rounds by itself; remove rounding, or set by: sides"
    for key, usual in UNUSED.get(resize["rule"], {}).items():
        if resize[key] != usual:
            yield (*RESIZE, key), f"rule {resize['rule']} has no use for it; remove it"


def channel_problems(model: dict) -> Iterator[Problem]:
    """As many numbers as channels; pixels that stay pixels are not normalised."""
    size, settings = model["input"], model["preprocess"]
    channels = 1 if settings["channels"] == "grey" else 3
    if size["channels"] != channels:
        yield ("input", "channels"), f"preprocess.channels {settings['channels']} makes {channels}; correct one of them"
    for key in ("mean", "std", "fill"):
        if isinstance(settings[key], list) and len(settings[key]) != channels:
            yield ("preprocess", key), f"has {len(settings[key])} numbers for {channels} channels"
    kept = {*settings["mean"]} == {0} and {*settings["std"]} == {1} and settings["divide_by"] == 1
    if size["dtype"] == "uint8" and not kept:
        yield ("input", "dtype"), "uint8 takes the pixels as they are: set mean to 0, std to 1, and no divide_by"
    if size["dtype"] == "uint8" and settings["normalise"] == "before_resize":
        yield ("input", "dtype"), "uint8 cannot hold what normalise: before_resize makes; set after_resize"


def size_problems(model: dict) -> Iterator[Problem]:
    """A size of its own for each image."""
    size, resize = model["input"], model["preprocess"]["resize"]
    multiple = size["multiple"]
    if multiple is None:
        if size["margin"]:
            yield ("input", "margin"), "belongs to input.multiple; give that or remove it"
        return
    for key in ("height", "width"):
        if size[key] % multiple:
            most = math.ceil(size[key] / multiple) * multiple
            yield ("input", key), f"is no multiple of {multiple}; set it to {most} and limit resize.long_side instead"
    if size["canvases"]:
        yield ("input", "canvases"), "every image has its own size by input.multiple; remove one of the two"
    if resize["rule"] == "stretch" or str(resize["by"]).startswith("warp"):
        yield ("input", "multiple"), "this resize always fills the whole input; remove multiple"


def placement_problems(model: dict) -> Iterator[Problem]:
    """Where the image may be for the decoder."""
    kind, settings = model["decode"]["kind"], model["preprocess"]
    if schemas.plugin("decoders", kind).get("placement") != "plain":
        return
    for key, found, strange in (
        (("preprocess", "place"), settings["place"], "centre"),
        ((*RESIZE, "rule"), settings["resize"]["rule"], "stretch"),
        ((*RESIZE, "scale"), settings["resize"]["scale"], "sides"),
    ):
        if found == strange:
            yield key, f"decoder {kind} knows only images at the top left with one scale; {strange} is not for it"


def more_problems(size: dict) -> Iterator[Problem]:
    """Inputs beside the image."""
    names = [size["name"]]
    for i, entry in enumerate(size["more"]):
        key = ("input", "more", i)
        if entry["name"] in names:
            yield (*key, "name"), f"{entry['name']} is there already"
        names.append(entry["name"])
        if entry["shape"] is not None and math.prod(entry["shape"]) != len(entry["values"]):
            yield (*key, "shape"), f"{entry['shape']} does not hold {len(entry['values'])} values"
        whole = entry["dtype"].startswith("int")
        broken = [value for value in entry["values"] if value in SCALES or isinstance(value, float)]
        if whole and broken:
            yield (*key, "dtype"), f"{entry['dtype']} cannot hold {broken[0]}; set float32"


def on_device_problems(model: dict) -> Iterator[Problem]:
    """Only colours as decoded and resized can be normalised later, and only as devices do it."""
    size, settings = model["input"], model["preprocess"]
    key = ("input", "on_device")
    if settings["normalise"] == "before_resize":
        yield (
            key,
            "this model normalises before the resize, which no device does behind it; remove on_device, or set"
            " preprocess.normalise to after_resize",
        )
    if settings["divide_by"] != 1:
        yield ("preprocess", "divide_by"), "a device takes mean and std in grey levels: multiply them by it, remove it"
    for name, usual in NETWORK.items():
        if name != "more" and size[name] != usual:
            yield ("input", name), f"with on_device it must be {usual}; remove one of the two"
