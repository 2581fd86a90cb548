"""Trains the demo's small RetinaMask on rendered scenes and measures it on the demo's images.

    PYTHONPATH=scripts python demo/recipes/train_retinamask.py \\
        --model demo/config/models/retinamask.yaml --data demo/data --output demo/weights/retinamask.pth

The network's sizes, the preparation of images and the decoding come from the model's yaml. The checkpoint has the
published one's form: a dict with `model`, whose keys start with `module.`, and `iteration`.
"""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport import cli, config
from detport.decoders.after_nms import decode
from detport.networks.retinamask import CODE_WEIGHTS, RetinaMask, build
from evaluation import evaluate
from shapes import Scene, visible_box
from training import (
    Batch,
    Losses,
    Sample,
    arguments,
    every_anchor,
    frozen_state,
    network_input,
    save,
    thaw_norms,
    train,
)

POSITIVE, NEGATIVE = 0.5, 0.4  # IoU from which an anchor belongs to an object, and below which to none
IGNORED = -1  # label of the anchors between
PRIOR = 0.01  # score of every anchor at the beginning
ALPHA, GAMMA = 0.25, 2.0  # focal loss
BETA = 0.11  # where smooth L1 turns from a parabola into a line
MASK_SIDE = 28
ROIS = 4  # per scene: jittered boxes of its objects
JITTER = 0.06  # standard deviation of a roi's sides, in parts of its width and height


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv, steps=3500)
    settings = config.load(options.model, "model")
    network = new_network(settings)
    thaw_norms(network)
    initialise(network)
    make = functools.partial(sample, settings, network.anchors().numpy())
    train(network, make, losses, options)

    state = frozen_state(network)
    network = new_network(settings)
    network.load_state_dict(state)
    save(options.output, {"model": {f"module.{k}": v for k, v in state.items()}, "iteration": options.steps})
    evaluate(network.eval(), decode, settings, options.data, ("bbox", "segm"))


def new_network(settings: dict) -> RetinaMask:
    options = {key: value for key, value in settings["network"].items() if key != "architecture"}
    return build(options, (settings["input"]["height"], settings["input"]["width"]))


def initialise(network: RetinaMask) -> None:
    """He's weights everywhere; the class logits begin small, around the prior."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for output in (network.rpn.head.cls_logits, network.rpn.head.bbox_pred, network.mask.predictor.mask_fcn_logits):
        nn.init.normal_(output.weight, std=0.01)
    nn.init.constant_(network.rpn.head.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))


def sample(settings: dict, anchors: np.ndarray, scene: Scene, rng: np.random.Generator) -> Sample:
    """Network input, what every anchor should say, and ROIS rois with their masks (label 0: no roi)."""
    image, scale = network_input(settings, scene.image)
    masks = [scene.owner == i for i in range(len(scene.shapes))]
    boxes = np.array([visible_box(mask) for mask in masks], np.float32).reshape(-1, 4) * np.float32(scale)
    kinds = np.array([shape.kind for shape in scene.shapes], np.int64)
    labels, codes = anchor_targets(anchors, boxes, kinds + 1)
    rois = np.zeros((ROIS, 4), np.float32)
    roi_labels = np.zeros(ROIS, np.int64)
    targets = np.zeros((ROIS, MASK_SIDE, MASK_SIDE), np.float32)
    for roi, i in enumerate(np.resize(rng.permutation(len(masks)), ROIS) if masks else ()):
        sides = np.tile(boxes[i, 2:] - boxes[i, :2], 2)
        rois[roi] = boxes[i] + np.clip(rng.normal(0, JITTER, 4), -2 * JITTER, 2 * JITTER) * sides
        roi_labels[roi] = kinds[i] + 1
        targets[roi] = mask_target(masks[i], rois[roi] / scale)
    return {
        "image": image,
        "labels": labels,
        "codes": codes,
        "rois": rois,
        "roi_labels": roi_labels,
        "masks": targets,
    }


def anchor_targets(anchors: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every anchor the label (0 background, IGNORED) and the codes of its object; an object's best anchors are
    always its own."""
    if len(boxes) == 0:
        return np.zeros(len(anchors), np.int64), np.zeros((len(anchors), 4), np.float32)
    x1, y1, x2, y2 = np.ascontiguousarray(anchors.T)
    left, top, right, bottom = boxes.T[..., None]
    width = np.minimum(x2, right) - np.maximum(x1, left) + 1
    height = np.minimum(y2, bottom) - np.maximum(y1, top) + 1
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (right - left + 1) * (bottom - top + 1)
    iou = overlap / (areas - overlap)  # object, anchor
    best, highest = iou.argmax(axis=0), iou.max(axis=0)
    result = np.where(highest >= POSITIVE, labels[best], np.where(highest < NEGATIVE, 0, IGNORED))
    for i in range(len(boxes)):
        own = iou[i] == iou[i].max()
        best[own], result[own] = i, labels[i]
    anchor_sides, box_sides = anchors[:, 2:] - anchors[:, :2] + 1, boxes[:, 2:] - boxes[:, :2] + 1
    shift = (boxes[best, :2] + box_sides[best] / 2 - anchors[:, :2] - anchor_sides / 2) / anchor_sides
    growth = np.log(box_sides[best] / anchor_sides)
    codes = np.concatenate([shift, growth], axis=1) * np.array(CODE_WEIGHTS)
    return result, codes.astype(np.float32)


def mask_target(mask: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """The mask (image pixels) at the places where pasting puts the cells of a roi's mask.

    Pasting adds a border of one cell, which makes MASK_SIDE + 2, and stretches the result over one pixel more than
    the box is wide: cell i of width/28 then lies (i + 1.5)/30 pixels to the right of where the box alone has it.
    """
    index = np.arange(MASK_SIDE) + 0.5
    x, y = (
        roi[axis] + index * (roi[axis + 2] - roi[axis]) / MASK_SIDE + (index + 1) / (MASK_SIDE + 2) for axis in (0, 1)
    )
    grid = np.meshgrid(x - 0.5, y - 0.5)  # pixel centres are at whole numbers in remap
    return cv2.remap(mask.astype(np.float32), *(g.astype(np.float32) for g in grid), cv2.INTER_LINEAR)


def losses(network: RetinaMask, batch: Batch) -> Losses:
    """Focal loss of the classes, smooth L1 of the codes, cross entropy of the masks."""
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = network.backbone(image)
        logits, codes = network.rpn.head(features)
        masks = mask_logits(network, features, batch)
    labels = batch["labels"]
    positive = labels > 0
    count = positive.sum().clamp(min=1)
    codes = every_anchor(codes, 4).float()[positive]
    return {
        "class": focal_loss(every_anchor(logits, network.classes).float(), labels) / count,
        "box": F.smooth_l1_loss(codes, batch["codes"][positive], beta=BETA, reduction="sum") / (4 * count),
        "mask": mask_loss(masks, batch),
    }


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over all anchors that are not ignored: -alpha_t (1 - p_t)^gamma log(p_t)."""
    target = F.one_hot(labels.clamp(min=0), logits.shape[-1] + 1)[..., 1:].to(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (logits.sigmoid() - target).abs()  # 1 - p_t
    weight = (1 - ALPHA + (2 * ALPHA - 1) * target) * (labels != IGNORED)[..., None]
    return (weight * wrong**GAMMA * entropy).sum()


def mask_logits(network: RetinaMask, features: list[Tensor], batch: Batch) -> Tensor:
    """[B * ROIS, 28, 28]: of each roi's own class."""
    pooled = [network.pool([x[i : i + 1].float() for x in features], rois) for i, rois in enumerate(batch["rois"])]
    logits = network.mask.logits(torch.cat(pooled).contiguous(memory_format=torch.channels_last))
    labels = batch["roi_labels"].flatten()
    return logits[torch.arange(len(labels)), labels].float()


def mask_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross entropy over the rois that exist."""
    entropy = F.binary_cross_entropy_with_logits(logits, batch["masks"].flatten(0, 1), reduction="none")
    exists = batch["roi_labels"].flatten() > 0
    return (entropy.mean(dim=(1, 2)) * exists).sum() / exists.sum().clamp(min=1)


if __name__ == "__main__":
    cli.run(main)
