"""RetinaMask's outputs follow from its contract; and where NMS is in the graph, it is the decoder's."""

from detport import decoders
from detport.networks import contracts

SIDE = 28  # of a mask


def contract_outputs(network: dict) -> list[dict]:
    """The outputs of network.contract, as a yaml declares them."""
    count = network["max_detections"] if network["contract"] == "compact" else network["top_k"]
    shapes = {"bboxs": [count, 4], "labels": [count], "scores": [count], "masks": [count, 1, SIDE, SIDE]}
    dtypes = {"labels": "int32"}
    return [{"name": name, "shape": shape, "dtype": dtypes.get(name, "float32")} for name, shape in shapes.items()]


def problem(model: dict) -> tuple[tuple, str] | None:
    """Key and text of what is wrong."""
    network, decode = model["network"], model["decode"]
    if found := contracts.unlike(model["outputs"], contract_outputs(network), network["contract"]):
        return found
    if network["contract"] == "compact" and (found := unlike_graph(network, decode)):
        key, wanted = found
        return ("decode", key), (
            f"{decode.get(key)} does not go with network.contract compact, whose NMS is in the graph and asks for"
            f" {wanted}; correct it, or set network.contract: guide"
        )
    return None


def unlike_graph(network: dict, decode: dict) -> tuple[str, str] | None:
    """Key of the decoder that asks for other boxes than the graph has kept, and what would not.

    Those that are left are suppressed by the same rule once more, which removes none.
    """
    wanted = {"kind": "after_nms", "nms": "hard", "nms_iou": network["nms_iou"], "iou_plus": 1, "agnostic": False}
    for key, value in wanted.items():
        if decode.get(key) != value:
            return key, str(value)
    if decode["clip"] == "before_nms":
        return "clip", "after_nms or none"
    if not decode["max_detections"] or decode["max_detections"] > network["max_detections"]:
        return "max_detections", f"network.max_detections ({network['max_detections']}) or less"
    if None in decoders.classes(decoders.categories(decode["categories"]), decode["background"]):
        return "categories", "a category of every class"
    return None
