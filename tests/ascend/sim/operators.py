"""Ascend's operators in numpy, written from their descriptions and independent of the project's own code."""

import numpy as np


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of one box (x1 y1 x2 y2) with each of `others`, in continuous coordinates."""
    left_top = np.maximum(box[:2], others[:, :2])
    right_bottom = np.minimum(box[2:], others[:, 2:])
    common = np.clip(right_bottom - left_top, 0, None).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    union = (box[2:] - box[:2]).prod() + areas - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: int) -> list[int]:
    """Rows that greedy NMS keeps, best first; of equal scores the earlier row. Only IoU above the threshold counts."""
    rest = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(rest) and len(kept) < limit:
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        rest = rest[overlap(boxes[best], boxes[rest]) <= threshold]
    return kept


def batch_multi_class_nms(inputs: list[np.ndarray], attributes: dict) -> list[np.ndarray]:
    """Boxes [B, M, 4], scores, classes [B, M] and count [B]; the AI core computes in float16, so inputs are rounded.

    clip_window [B, 4] cuts boxes off before anything else; of num_valid_boxes [B] only so many boxes count.
    """
    boxes, scores, window, valid = (*inputs, None, None)[:4]
    if boxes.ndim != 4 or scores.ndim != 3 or boxes.shape[2] not in (1, scores.shape[2]):
        raise ValueError(f"BatchMultiClassNMS: boxes {boxes.shape} do not go with scores {scores.shape}")
    kind = boxes.dtype
    boxes = boxes.astype(np.float16).astype(np.float32)
    scores = scores.astype(np.float16).astype(np.float32)
    if window is not None:
        low, high = (np.tile(corner, 2)[:, None, None] for corner in (window[:, :2], window[:, 2:]))
        boxes = np.clip(boxes, low, high).astype(np.float32)
    if valid is not None:
        scores = np.where(np.arange(scores.shape[1])[:, None] < valid.reshape(-1, 1, 1), scores, -np.inf)
    batch, total = len(boxes), int(attributes["max_total_size"])
    out_boxes = np.zeros((batch, total, 4), kind)
    out_scores, out_classes = np.zeros((2, batch, total), kind)
    counts = np.zeros(batch, np.int32)
    for b in range(batch):
        found = []
        for label in range(scores.shape[2]):
            own = boxes[b, :, min(label, boxes.shape[2] - 1)]
            sides = own[:, 2:] - own[:, :2]
            rows = np.flatnonzero((scores[b, :, label] > attributes["score_threshold"]) & (sides > 0).all(1))
            kept = suppress(
                own[rows],
                scores[b, rows, label],
                attributes["iou_threshold"],
                int(attributes["max_size_per_class"]),
            )
            found += [(scores[b, rows[k], label], label, own[rows[k]]) for k in kept]
        found.sort(key=lambda entry: -entry[0])
        counts[b] = min(len(found), total)
        for i, (score, label, box) in enumerate(found[:total]):
            out_boxes[b, i], out_scores[b, i], out_classes[b, i] = box, score, label
    return [out_boxes, out_scores, out_classes, counts]


def half_away(x: np.ndarray) -> np.ndarray:
    """C's round()."""
    whole = np.floor(np.abs(x))
    return np.copysign(whole + (np.abs(x) - whole >= 0.5), x)


def psroi_pooling(inputs: list[np.ndarray], attributes: dict) -> list[np.ndarray]:
    """Mean of each position-sensitive bin, [B * R, outputs, group, group]; rois [B, 5, R]. Sums in float32."""
    maps, rois = inputs[0].astype(np.float32), inputs[1].astype(np.float32)
    outputs, group = int(attributes["output_dim"]), int(attributes["group_size"])
    scale = np.float32(attributes["spatial_scale"])
    _, channels, height, width = maps.shape
    if channels != outputs * group * group or rois.ndim != 3 or rois.shape[1] != 5:
        raise ValueError(f"PSROIPooling: map {maps.shape} and rois {rois.shape} do not go with {attributes}")
    result = np.zeros((rois.shape[0] * rois.shape[2], outputs, group, group), np.float32)
    bins = np.arange(group, dtype=np.float32)
    row = 0
    for b in range(rois.shape[0]):
        planes = maps[b].reshape(outputs, group, group, height, width)
        for _, x1, y1, x2, y2 in rois[b].T:
            edges = []
            for low, high, size in ((y1, y2, height), (x1, x2, width)):
                start, end = half_away(low) * scale, (half_away(high) + 1) * scale
                step = max(end - start, np.float32(0.1)) / np.float32(group)
                first = np.clip(np.floor(bins * step + start), 0, size).astype(int)
                last = np.clip(np.ceil((bins + 1) * step + start), 0, size).astype(int)
                edges.append(list(zip(first, last, strict=True)))
            for i, (top, bottom) in enumerate(edges[0]):
                for j, (left, right) in enumerate(edges[1]):
                    if bottom > top and right > left:
                        result[row, :, i, j] = planes[:, i, j, top:bottom, left:right].mean((1, 2))
            row += 1
    return [result]


def non_max_suppression(inputs: list[np.ndarray], attributes: dict) -> list[np.ndarray]:
    """ONNX's operator with an output of fixed size [max_boxes * B * C, 3]: rows that found nothing are -1."""
    boxes, scores, limit, iou, score = (*inputs, *[None] * 5)[:5]
    limit = int(np.ravel(limit)[0])
    boxes = boxes.astype(np.float16).astype(np.float32)
    if attributes.get("center_point_box"):
        half = boxes[..., 2:] / 2
        boxes = np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)
    rows = []
    for b in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            valid = np.flatnonzero(scores[b, c] > np.ravel(score)[0])
            kept = suppress(boxes[b, valid], scores[b, c, valid], float(np.ravel(iou)[0]), limit)
            rows += [(b, c, int(valid[k])) for k in kept]
    size = limit * scores.shape[0] * scores.shape[1]
    result = np.full((size, 3), -1, np.int64)
    if rows:
        result[: len(rows)] = rows
    return [result]


OPERATORS = {
    "BatchMultiClassNMS": batch_multi_class_nms,
    "PSROIPooling": psroi_pooling,
    "NonMaxSuppression": non_max_suppression,
}
