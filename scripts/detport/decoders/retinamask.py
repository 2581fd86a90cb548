"""RetinaMask: boxes, labels from 1, scores and each box's own mask, best first and before NMS, to COCO results."""

import numpy as np

from detport import boxes as boxlib
from detport import decoders, masks

NEEDS = ("width", "height", "scale")


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list[int]) -> list[dict]:
    """COCO result rows of one image, best first."""
    boxes, scores = outputs["bboxs"], outputs["scores"]
    if not boxes.any():
        return []
    classes = decoders.classes(categories, options["background"])
    first = 0 if options["background"] == "first" else 1
    labels = decoders.known(outputs["labels"], first, len(classes), image)
    rows = np.flatnonzero([classes[label] is not None for label in labels])
    kept = rows[boxlib.nms(boxes[rows], scores[rows], labels[rows], options["nms_iou"], options["max_detections"], 1)]
    original = boxlib.clip_to_image(boxlib.to_original(boxes[kept], image), image)
    return [
        {
            "image_id": image["image_id"],
            "category_id": classes[labels[row]],
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": float(scores[row]),
            "segmentation": masks.encode(
                masks.paste(outputs["masks"][row, 0], box, image["width"], image["height"], options["mask_threshold"])
            ),
        }
        for row, box in zip(kept, original, strict=True)
    ]
