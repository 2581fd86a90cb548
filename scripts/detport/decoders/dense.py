"""Boxes that the graph has decoded, with scores of all classes: YOLO from v5 on, PP-YOLOE, YOLO-NAS, DETR's queries."""

import numpy as np

from detport import boxes as boxlib
from detport import decoders, layouts, masks, selecting

NEEDS = ("width", "height", "canvas", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list) -> list[dict]:
    """COCO result rows, best score first."""
    shapes = {name: value.shape for name, value in outputs.items()}
    layout, own = expected(shapes, options, categories)
    table = layouts.read({name: outputs[name] for name in outputs if name != own}, options, layout)
    pairs = selecting.candidates(table.classes, table.objectness, options, image)
    boxes = boxlib.to_corners(table.boxes[pairs.rows], options["box"])
    boxes, pairs = selecting.detections(boxlib.to_pixels(boxes, image, options["coordinates"]), pairs, options, image)
    return selecting.results(boxes, pairs, categories, image)


def expected(shapes: layouts.Shapes, options: dict, categories: list) -> tuple[layouts.Layout, str | None]:
    """What the outputs hold, and the name of the one with masks or prototypes."""
    own = masks.find(shapes, options)
    classes = len(decoders.classes(categories, options["background"]))
    return layouts.Layout(boxes=4, classes=classes), own
