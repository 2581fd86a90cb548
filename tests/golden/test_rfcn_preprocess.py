"""R-FCN's preparation of images against the upstream script."""

import hashlib

import cv2
import numpy as np
import pytest

from cases import read_case
from detport import config, tensors

CASE = "rfcn"
MODEL_YAML = config.ROOT / "config" / "models" / "rfcn.yaml"
TOLERANCE = 1e-4  # of a grey level; the last bit depends on the build of OpenCV
TURNED = "_exif"  # cases recorded with the EXIF orientation applied


def model(case: dict, name: str) -> dict:
    """The yaml with what the case says of itself; the guide's cropping, as upstream has no other way."""
    settings = config.load_model(MODEL_YAML, "preprocess")
    height, width = case["canvas"]
    settings["input"] |= {"height": height, "width": width}
    settings["preprocess"] |= {
        "channels": case["channel_order"],
        "mean": [case["pixel_mean"]] * 3,
        "decoder": "opencv" if name.endswith(TURNED) else "pillow",
    }
    settings["preprocess"]["resize"] |= {"size": case["target_short_side"], "too_large": "crop"}
    return settings


def test_images(case_folder, case_images) -> None:
    case, golden = read_case(case_folder(CASE), "preprocess")
    assert case["images"]
    for name, entry in case["images"].items():
        tensor, placement = tensors.preprocess(case_images(CASE) / entry["file"], model(case, name))
        assert [1, *tensor.shape] == entry["shape"], name
        for suffix in ("", "_in"):
            values = tensor.reshape(-1)[golden[f"{name}{suffix}_idx"]]
            assert np.abs(values - golden[f"{name}{suffix}_val"]).max() < TOLERANCE, name
        assert placement["scale"] == entry["scale"], name
        assert placement["resized"] == entry["resized_hw"][::-1], name
        assert [placement["height"], placement["width"]] == entry["decoded_hw"], name
        height, width = entry["valid_hw"]
        assert not tensor[:, height:].any() and not tensor[:, :, width:].any(), name
        assert (placement.get("too_large") == "crop") == (entry["valid_hw"] != entry["resized_hw"]), name


def test_bytes(case_folder, case_images) -> None:
    """Bit-identical to what the same version of OpenCV made; another one may differ in the last bit."""
    case, _ = read_case(case_folder(CASE), "preprocess")
    if case["versions"]["opencv"] != cv2.__version__:
        pytest.skip(f"the case is of OpenCV {case['versions']['opencv']}, here is {cv2.__version__}")
    assert case["images"]
    for name, entry in case["images"].items():
        tensor, _ = tensors.preprocess(case_images(CASE) / entry["file"], model(case, name))
        assert hashlib.sha256(tensor).hexdigest() == entry["sha256"], name
