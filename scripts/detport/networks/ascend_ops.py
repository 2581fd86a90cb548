"""Ascend's own operators: what they compute, on the CPU, and the node that they become in an ONNX graph.

The nodes have the empty domain and the graph needs no second opset import, because Ascend's compiler accepts
only one. ONNX Runtime has no kernel for them.
"""

import torch
from torch import Tensor

from detport.networks.blocks import greedy_nms
from detport.networks.psroi import psroi_pool


class BatchMultiClassNMS(torch.autograd.Function):
    """Per-class NMS with outputs of fixed size.

    boxes [B, N, 1 or C, 4] (x1 y1 x2 y2), scores [B, N, C], both float16 or both float32. Results, best score
    first and then zeros up to M = `max_total_size`: boxes [B, M, 4], scores [B, M], classes [B, M] (a floating
    type, as the boxes) and the number of valid rows [B] (int32).
    """

    @staticmethod
    def forward(
        ctx,
        boxes: Tensor,
        scores: Tensor,
        score_threshold: float,
        iou_threshold: float,
        max_size_per_class: int,
        max_total_size: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if torch.onnx.is_in_onnx_export():  # needs no more than the shapes
            rows = boxes.new_zeros(boxes.shape[0], max_total_size)
            return rows[..., None].expand(-1, -1, 4), rows, rows.clone(), rows[:, 0].int()
        limits = (score_threshold, iou_threshold, max_size_per_class, max_total_size)
        images = [multi_class_nms(b, s, *limits) for b, s in zip(boxes, scores, strict=True)]
        found = [torch.stack(column) for column in zip(*images, strict=True)]
        return found[0], found[1], found[2], found[3]

    @staticmethod
    def symbolic(
        g,
        boxes,
        scores,
        score_threshold: float,
        iou_threshold: float,
        max_size_per_class: int,
        max_total_size: int,
    ):
        results = g.op(
            "BatchMultiClassNMS",
            boxes,
            scores,
            score_threshold_f=score_threshold,
            iou_threshold_f=iou_threshold,
            max_size_per_class_i=max_size_per_class,
            max_total_size_i=max_total_size,
            outputs=4,
        )
        batch = boxes.type().sizes()[0]
        rows = [batch, max_total_size]
        for result, sizes in zip(results, ([*rows, 4], rows, rows, [batch]), strict=True):
            result.setType(boxes.type().with_sizes(sizes))
        results[3].setType(results[3].type().with_dtype(torch.int32))
        return results


def multi_class_nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_size_per_class: int,
    max_total_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One image of `BatchMultiClassNMS`: boxes [N, 1 or C, 4], scores [N, C].

    Boxes without width or height are dropped, as the vendor's reference does.
    """
    found_boxes, found_scores, found_classes = [boxes[:0, 0]], [scores[:0, 0]], [scores[:0, 0]]
    for label in range(scores.shape[1]):
        own = boxes[:, min(label, boxes.shape[1] - 1)]
        valid = (own[:, 2] > own[:, 0]) & (own[:, 3] > own[:, 1])
        # In float32, because in float16 the threshold itself would be rounded.
        valid &= scores[:, label].float() > score_threshold
        rows = torch.nonzero(valid)[:, 0]
        rows = rows[greedy_nms(own[rows], scores[rows, label], iou_threshold, max_size_per_class)]
        found_boxes.append(own[rows])
        found_scores.append(scores[rows, label])
        found_classes.append(torch.full_like(scores[rows, label], label))
    order = torch.cat(found_scores).argsort(descending=True, stable=True)[:max_total_size]
    count = torch.tensor(len(order), dtype=torch.int32, device=boxes.device)
    result_boxes = boxes.new_zeros(max_total_size, 4)
    result_scores, result_classes = scores.new_zeros(2, max_total_size)
    result_boxes[: len(order)] = torch.cat(found_boxes)[order]
    result_scores[: len(order)] = torch.cat(found_scores)[order]
    result_classes[: len(order)] = torch.cat(found_classes)[order]
    return result_boxes, result_scores, result_classes, count


class PSROIPooling(torch.autograd.Function):
    """Position-sensitive RoI pooling: the mean of each bin, read from the bin's own part of the map.

    score_map [B, outputs * group * group, H, W], rois [B, 5, R] (rows batch x1 y1 x2 y2, image b's rois in rois[b]);
    result [B * R, outputs, group, group]. `scale` is map cells per pixel.
    """

    @staticmethod
    def forward(ctx, score_map: Tensor, rois: Tensor, outputs: int, group: int, scale: float) -> Tensor:
        images = [psroi_pool(score_map[b : b + 1], rois[b], outputs, group, scale) for b in range(len(rois))]
        return torch.cat(images)

    @staticmethod
    def symbolic(g, score_map, rois, outputs: int, group: int, scale: float):
        result = g.op(
            "PSROIPooling",
            score_map,
            rois,
            output_dim_i=outputs,
            group_size_i=group,
            spatial_scale_f=scale,
            # Not among the operator's documented attributes, but the guide's graph has them.
            pooled_height_i=group,
            pooled_width_i=group,
        )
        # The exporter has lost the shape of rois that come out of another of these operators.
        result.setType(score_map.type().with_sizes([None, outputs, group, group]))
        return result
