"""What decoders have in common whose boxes have scores of all classes; they differ in how a box is made."""

from collections.abc import Callable

import numpy as np

from detport import canvases, decoders, layouts, masks, selecting

HASTE = 8  # candidates for each detection that are tried first


def decode(
    outputs: dict[str, np.ndarray],
    image: dict,
    options: dict,
    categories: list,
    make_boxes: Callable[[np.ndarray, np.ndarray, tuple[int, int]], np.ndarray],
) -> list[dict]:
    """COCO result rows, best score first.

    `make_boxes` gives boxes x1 y1 x2 y2, in pixels of the network input or, with `coordinates: original`, of the image;
    it takes the numbers of some boxes, their rows, and the canvas (height, width).
    """
    canvas = canvases.size_of(image)
    shapes = {name: value.shape for name, value in outputs.items()}
    layout = layouts.expected(options, shapes, canvas)
    mask_output = layouts.mask_output(shapes, options)
    table = layouts.read({name: outputs[name] for name in outputs if name != mask_output}, options, layout)
    levels = None
    if options["candidates_of"] == "level":
        levels = np.repeat(np.arange(len(layout.levels)), [h * w * a for h, w, a in layout.levels])
    classes = decoders.classes(categories, options["background"])
    for most in (few(options), None):
        given = (table.classes, table.objectness, options, classes, image, levels, most)
        tried = selecting.candidates(*given)
        boxes = make_boxes(table.boxes[tried.rows], tried.rows, canvas)
        boxes, pairs = selecting.detections(boxes, tried, options, image)
        if most is None or len(tried.rows) < most or len(pairs.rows) == options["max_detections"]:
            break
    rows = selecting.results(boxes, pairs, classes, image)
    if mask_output:
        source = masks.source(outputs[mask_output], table.coefficients, len(table.classes), options["masks"])
        masks.add(rows, source, pairs.rows, boxes, image)
    return rows


def few(options: dict) -> int | None:
    """How many candidates to try first: greedy NMS that finds all detections among the best needs no worse ones."""
    greedy = options["nms"] != "soft" and options["filter_by"] == "score" and options["candidates_of"] == "all"
    return HASTE * options["max_detections"] if greedy and options["max_detections"] else None
