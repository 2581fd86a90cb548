"""RetinaMask: boxes, labels, scores and each box's own mask, best first and before NMS, to COCO results."""

import numpy as np

from detport import boxes as boxlib
from detport import masks
from detport.errors import Failure


def decode(outputs: dict[str, np.ndarray], image: dict, options: dict, categories: list[int]) -> list[dict]:
    """COCO result rows of one image, best first."""
    boxes, labels, scores = outputs["bboxs"], outputs["labels"], outputs["scores"]
    if not boxes.any():
        return []
    if labels.min() < 1 or labels.max() > len(categories):
        raise Failure(
            f"{image['file']!r}: labels run from {labels.min()} to {labels.max()},"
            f" decode.categories has 1 to {len(categories)}"
        )
    kept = boxlib.nms(boxes, scores, labels, options["nms_iou"], options["max_detections"], plus=1)
    original = boxlib.clip_to_image(boxlib.to_original(boxes[kept], image), image)
    return [
        {
            "image_id": image["image_id"],
            "category_id": categories[labels[row] - 1],
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": float(scores[row]),
            "segmentation": masks.encode(
                masks.paste(outputs["masks"][row, 0], box, image["width"], image["height"], options["mask_threshold"])
            ),
        }
        for row, box in zip(kept, original, strict=True)
    ]
