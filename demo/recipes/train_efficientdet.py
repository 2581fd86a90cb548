"""Trains the demo's small EfficientDet on rendered scenes and measures it on the demo's images.

    PYTHONPATH=scripts python demo/recipes/train_efficientdet.py \\
        --model demo/config/models/efficientdet.yaml --data demo/data --output demo/weights/efficientdet.pth

The network's sizes, the preparation of images and the decoding come from the model's yaml; assignment and losses are
the paper's. The checkpoint has the published one's form: the state_dict itself.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport import cli, config, networks
from detport.boxes import overlaps
from detport.decoders.efficientdet import anchors, decode
from detport.efficientdet import CODES, anchor_count
from detport.networks.efficientdet import EfficientDet
from evaluation import evaluate
from shapes import Scene, visible_box
from training import Batch, Losses, Sample, arguments, every_anchor, network_input, save, train

POSITIVE = 0.5  # IoU from which an anchor belongs to an object
BACKGROUND = -1  # label of the anchors without an object
PRIOR = 0.01  # score of every anchor at the beginning
ALPHA, GAMMA = 0.25, 1.5  # focal loss
DELTA = 0.1  # where the Huber loss turns from a parabola into a line
BOX_WEIGHT = 50.0


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv, steps=3500)
    settings = config.load(options.model, "model")
    network = networks.build(settings)
    initialise(network)
    make = functools.partial(sample, settings, all_anchors(settings))
    train(network, make, losses, options)

    save(options.output, dict(network.state_dict()))
    evaluate(network, decode, settings, options.data, ("bbox",))


def initialise(network: EfficientDet) -> None:
    """He's weights everywhere; the outputs begin small, the class logits around the prior."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in (network.class_net, network.box_net):
        nn.init.normal_(head.predict.conv_pw.weight, std=0.01)
    nn.init.constant_(network.class_net.predict.conv_pw.bias, -math.log((1 - PRIOR) / PRIOR))


def all_anchors(settings: dict) -> np.ndarray:
    """Anchors [A, 4] of the model's input: ymin xmin ymax xmax."""
    height, width = settings["input"]["height"], settings["input"]["width"]
    return anchors(np.arange(anchor_count(height, width)), (height, width), settings["decode"]["anchor_scale"])


def sample(settings: dict, anchors: np.ndarray, scene: Scene, rng: np.random.Generator) -> Sample:
    """Network input, and for every anchor the label and the box codes of its object."""
    image, scale = network_input(settings, scene.image)
    masks = [scene.owner == i for i in range(len(scene.shapes))]
    boxes = np.array([visible_box(mask) for mask in masks], np.float64).reshape(-1, 4) * scale
    kinds = np.array([shape.kind for shape in scene.shapes], np.int64)
    owners = assign(anchors, boxes)
    own = owners != BACKGROUND
    labels = np.full(len(anchors), BACKGROUND)
    codes = np.zeros((len(anchors), CODES), np.float32)
    labels[own] = kinds[owners[own]]
    codes[own] = box_codes(anchors[own], boxes[owners[own]])
    return {"image": image, "labels": labels, "codes": codes}


def assign(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """For every anchor the index of the object that it overlaps enough, or BACKGROUND; an object's best anchors are
    its own in any case."""
    owners = np.full(len(anchors), BACKGROUND)
    if len(boxes) == 0:
        return owners
    corners = anchors[:, [1, 0, 3, 2]]
    iou = np.stack([overlaps(box, corners, plus=0) for box in boxes])
    owners = np.where(iou.max(axis=0) >= POSITIVE, iou.argmax(axis=0), BACKGROUND)
    for i, row in enumerate(iou):
        owners[row == row.max()] = i
    return owners


def box_codes(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """ty, tx, th, tw of boxes x1 y1 x2 y2 from their anchors ymin xmin ymax xmax."""
    low, high = anchors[:, :2], anchors[:, 2:]
    box_low, box_high = boxes[:, 1::-1], boxes[:, :1:-1]
    shift = (box_low + box_high - low - high) / 2 / (high - low)
    return np.concatenate([shift, np.log((box_high - box_low) / (high - low))], axis=1)


def losses(network: EfficientDet, batch: Batch) -> Losses:
    """Focal loss of the classes, Huber loss of the codes."""
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    levels = network.fpn(network.backbone(image))
    logits, codes = network.class_net(levels), network.box_net(levels)
    labels = batch["labels"]
    positive = labels != BACKGROUND
    count = positive.sum().clamp(min=1)
    codes = every_anchor(codes, CODES)[positive]
    box = F.huber_loss(codes, batch["codes"][positive], delta=DELTA, reduction="sum") / (CODES * count)
    return {"class": focal_loss(every_anchor(logits, network.classes), labels) / count, "box": BOX_WEIGHT * box}


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over all anchors and classes: -alpha_t (1 - p_t)^gamma log(p_t)."""
    target = F.one_hot(labels + 1, logits.shape[-1] + 1)[..., 1:].to(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (logits.sigmoid() - target).abs()  # 1 - p_t
    weight = 1 - ALPHA + (2 * ALPHA - 1) * target
    return (weight * wrong**GAMMA * entropy).sum()


if __name__ == "__main__":
    cli.run(main)
