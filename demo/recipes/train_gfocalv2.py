"""Trains the demo's small GFocalV2 on rendered scenes and measures it on the demo's images.

    PYTHONPATH=scripts python demo/recipes/train_gfocalv2.py \\
        --model demo/config/models/gfocalv2.yaml --data demo/data --output demo/weights/gfocalv2.pth

The network's sizes, the preparation of images and the decoding come from the model's yaml; assignment and losses are
the paper's. The checkpoint has the form in which mmcv writes it: a dict with `meta` and `state_dict`.
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
from detport.decoders.after_nms import decode
from detport.networks.gfocalv2 import GFocalV2
from evaluation import evaluate
from shapes import KINDS, Scene, visible_box
from training import Batch, Losses, Sample, arguments, every_anchor, network_input, save, train

NEAREST = 9  # ATSS: locations of a level, nearest to an object's centre, that may become its own
ANCHOR = 8  # ATSS: side of a location's anchor, in strides
BACKGROUND = -1  # label of the locations without an object
PRIOR = 0.01  # class probability of every location at the beginning
BETA = 2  # quality focal loss
GIOU_WEIGHT, DFL_WEIGHT = 2.0, 0.25
LAST_GAP = 0.1  # targets stay so far, in strides, below the last bin, so that there is a bin on either side
TINY = 1e-6  # a sum of weights is at least so much

Level = tuple[np.ndarray, int]  # points (x, y) [N, 2] and the stride


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv, steps=4000)
    settings = config.load(options.model, "model")
    network = networks.build(settings)
    initialise(network)
    levels = [(points.numpy(), stride) for points, stride in zip(network.grid.buffers(), network.strides, strict=True)]
    make = functools.partial(sample, settings, levels)
    train(network, make, losses, options)

    meta = {"CLASSES": KINDS, "seed": options.seed, "iter": options.steps}
    save(options.output, {"meta": meta, "state_dict": dict(network.state_dict())})
    evaluate(network, decode, settings, options.data, ("bbox",))


def initialise(network: GFocalV2) -> None:
    """He's weights everywhere; the outputs begin small, the class logits around the prior."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    head = network.bbox_head
    for output in (head.gfl_cls, head.gfl_reg, head.reg_conf[2]):
        nn.init.normal_(output.weight, std=0.01)
    nn.init.constant_(head.gfl_cls.bias, -math.log((1 - PRIOR) / PRIOR))


def sample(settings: dict, levels: list[Level], scene: Scene, rng: np.random.Generator) -> Sample:
    """Network input; for every location its object's label, and the distances of the sides in strides."""
    image, scale = network_input(settings, scene.image)
    masks = [scene.owner == i for i in range(len(scene.shapes))]
    boxes = np.array([visible_box(mask) for mask in masks], np.float64).reshape(-1, 4) * scale
    kinds = np.array([shape.kind for shape in scene.shapes], np.int64)
    points = np.concatenate([points for points, _ in levels])
    strides = np.concatenate([np.full(len(points), stride) for points, stride in levels])
    owners = assign(levels, boxes)
    labels = np.full(len(points), BACKGROUND)
    distances = np.zeros((len(points), 4), np.float32)
    own = owners != BACKGROUND
    labels[own] = kinds[owners[own]]
    distances[own] = sides(points[own], boxes[owners[own]]) / strides[own, None]
    return {"image": image, "labels": labels, "distances": distances}


def assign(levels: list[Level], boxes: np.ndarray) -> np.ndarray:
    """For every location the index of its object, or BACKGROUND: adaptive training sample selection.

    Of every level the locations nearest to an object's centre are its candidates. Those inside the box whose anchors
    overlap it at least by the candidates' mean plus standard deviation become its own.
    """
    points = np.concatenate([points for points, _ in levels])
    halves = np.concatenate([np.full(len(points), ANCHOR * stride / 2) for points, stride in levels])[:, None]
    anchors = np.concatenate([points - halves, points + halves], axis=1)
    owners = np.full(len(points), BACKGROUND)
    highest = np.zeros(len(points))
    for i, box in enumerate(boxes):
        iou = overlaps(box, anchors, plus=0)
        candidates = nearest(levels, (box[:2] + box[2:]) / 2)
        threshold = iou[candidates].mean() + iou[candidates].std(ddof=1)
        inside = sides(points[candidates], box).min(axis=1) > 0
        own = candidates[inside & (iou[candidates] >= threshold)]
        own = own[iou[own] > highest[own]]  # a location of two objects goes to the one it overlaps more
        owners[own], highest[own] = i, iou[own]
    return owners


def nearest(levels: list[Level], centre: np.ndarray) -> np.ndarray:
    """Indices, in the concatenation of all levels, of the NEAREST locations of every level to a point (x, y)."""
    rows, first = [], 0
    for points, _ in levels:
        distance = np.linalg.norm(points - centre, axis=1)
        rows.append(first + np.argsort(distance, kind="stable")[:NEAREST])
        first += len(points)
    return np.concatenate(rows)


def sides(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Distances left, top, right, bottom from points to the sides of their boxes, or of one box for all."""
    return np.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=1)


def losses(network: GFocalV2, batch: Batch) -> Losses:
    """Quality focal loss of the scores; GIoU and distribution focal loss of the boxes, weighted by the best score."""
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = network.neck(*network.backbone(image)[1:])
    scores, logits = network.bbox_head([x.float() for x in features])
    scores = every_anchor(scores, network.score_columns)
    logits = every_anchor(logits, network.bbox_head.gfl_reg.out_channels)
    labels = batch["labels"]
    positive = labels != BACKGROUND
    logits, wanted = logits[positive], batch["distances"][positive]
    overlap, generalised = box_overlaps(network.bbox_head.integral(logits), wanted)
    quality = torch.zeros_like(scores)
    quality[positive, labels[positive]] = overlap.detach()
    weight = scores.detach().amax(-1)[positive]
    total = weight.sum().clamp(min=TINY)
    return {
        "score": quality_focal_loss(scores, quality) / positive.sum().clamp(min=1),
        "box": GIOU_WEIGHT * (weight * (1 - generalised)).sum() / total,
        "sides": DFL_WEIGHT * (weight * distribution_focal_loss(logits, wanted)).sum() / total,
    }


def quality_focal_loss(scores: Tensor, quality: Tensor) -> Tensor:
    """Sum over all locations and classes of |y - p|^beta times the cross entropy of p with y."""
    entropy = F.binary_cross_entropy(scores, quality, reduction="none")
    return ((quality - scores).abs() ** BETA * entropy).sum()


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """[P], mean of the four sides: cross entropy with the two bins next to a distance, the nearer weighing more."""
    bins = logits.shape[-1] // 4
    target = distances.clamp(max=bins - 1 - LAST_GAP).reshape(-1, 1)
    lower = target.floor()
    index = torch.cat([lower, lower + 1], dim=1).long()
    shares = torch.cat([lower + 1 - target, target - lower], dim=1)
    chosen = logits.reshape(-1, bins).log_softmax(1).gather(1, index)
    return -(shares * chosen).sum(1).view(-1, 4).mean(1)


def box_overlaps(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes given as distances left, top, right, bottom from a point inside both."""
    overlap = area(torch.minimum(found, wanted))
    union = area(found) + area(wanted) - overlap
    hull = area(torch.maximum(found, wanted))
    ratio = overlap / union
    return ratio, ratio - (hull - union) / hull


def area(distances: Tensor) -> Tensor:
    """Of boxes given as distances left, top, right, bottom."""
    return (distances[:, 0] + distances[:, 2]) * (distances[:, 1] + distances[:, 3])


if __name__ == "__main__":
    cli.run(main)
