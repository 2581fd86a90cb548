"""What decoders have in common whose boxes have scores of all classes; they differ in how a box is made."""

from collections.abc import Callable

import numpy as np

from detport import canvases, decoders, layouts, masks, selecting


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
    canvas = canvases.size(image["canvas"])
    shapes = {name: value.shape for name, value in outputs.items()}
    layout = layouts.expected(options, shapes, canvas)
    mask_output = layouts.mask_output(shapes, options)
    table = layouts.read({name: outputs[name] for name in outputs if name != mask_output}, options, layout)
    levels = None
    if options["candidates_of"] == "level":
        levels = np.repeat(np.arange(len(layout.levels)), [h * w * a for h, w, a in layout.levels])
    classes = decoders.classes(categories, options["background"])
    pairs = selecting.candidates(table.classes, table.objectness, options, classes, image, levels)
    boxes, pairs = selecting.detections(make_boxes(table.boxes[pairs.rows], pairs.rows, canvas), pairs, options, image)
    rows = selecting.results(boxes, pairs, classes, image)
    if mask_output:
        masks.add(rows, outputs[mask_output], pairs.rows, table.coefficients, boxes, image, options["masks"])
    return rows
