"""Trains the demo's small R-FCN on rendered scenes and measures it on the demo's images.

    cd demo; PYTHONPATH=../scripts python recipes/train_rfcn.py \\
        --model config/models/rfcn.yaml --data data --output weights/rfcn.pth

The network's sizes, the preparation of images and the decoding come from the model's yaml; proposals and detections
are trained together. The checkpoint has the published one's form: a dict with `model` and `epoch`.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport import cli, config, networks
from detport.boxes import overlaps
from detport.decoders.rfcn import decode
from detport.networks.rfcn import RFCN, pair_softmax
from evaluation import evaluate_voc
from shapes import Scene, visible_box
from training import Batch, Losses, Sample, arguments, network_input, save, train

POSITIVE, NEGATIVE = 0.7, 0.3  # IoU from which an anchor holds an object, and below which it holds none
IGNORED = -1  # label of the anchors between, and of those that are not drawn
DRAWN, OBJECTS_DRAWN = 128, 64  # anchors of a scene that count, and how many of them hold an object at most
FOREGROUND = 0.5  # IoU from which a roi belongs to an object
MAX_OBJECTS = 32  # of a scene
CANDIDATES, PROPOSALS = 400, 64  # that enter and leave the proposals' NMS in training: fewer, for speed
BETA_PROPOSALS, BETA = 1 / 9, 1.0  # where smooth L1 turns from a parabola into a line


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv, steps=2200)
    settings = config.load(options.model, "model")
    network = networks.build(settings)
    initialise(network)
    network.pre_nms, network.proposals = CANDIDATES, PROPOSALS
    make = functools.partial(sample, settings, network.anchors.numpy())
    train(network, make, functools.partial(losses, np.float32(settings["decode"]["box_stds"])), options)

    state = dict(network.state_dict())
    save(options.output, {"model": state, "epoch": 1})
    network = networks.build(settings)
    network.load_state_dict(state)
    evaluate_voc(network, decode, settings, options.data)


def initialise(network: RFCN) -> None:
    """He's weights everywhere; the outputs begin small."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    proposals = network.RCNN_rpn
    for output in (proposals.RPN_cls_score, proposals.RPN_bbox_pred, network.RCNN_cls_base, network.RCNN_bbox_base):
        nn.init.normal_(output.weight, std=0.01)


def sample(settings: dict, anchors: np.ndarray, scene: Scene, rng: np.random.Generator) -> Sample:
    """Network input; boxes and labels of its objects (label 0: no object); what the drawn anchors should say."""
    image, scale = network_input(settings, scene.image)
    found = [visible_box(scene.owner == i) for i in range(len(scene.shapes))][:MAX_OBJECTS]
    boxes, labels = np.zeros((MAX_OBJECTS, 4), np.float32), np.zeros(MAX_OBJECTS, np.int64)
    # The last pixel is inside a box.
    boxes[: len(found)] = (np.array(found, np.float32).reshape(-1, 4) - (0, 0, 1, 1)) * scale
    labels[: len(found)] = [shape.kind + 1 for shape in scene.shapes[:MAX_OBJECTS]]
    objects, codes = anchor_targets(anchors, boxes[: len(found)], rng)
    return {"image": image, "boxes": boxes, "labels": labels, "objects": objects, "codes": codes}


def anchor_targets(anchors: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For every anchor 1 (object), 0 or IGNORED, and the codes of its object; an object's best anchors are its own."""
    codes = np.zeros((len(anchors), 4), np.float32)
    highest = np.zeros(len(anchors))
    own = np.zeros(len(anchors), bool)
    if len(boxes):
        iou = np.stack([overlaps(box, anchors, plus=1) for box in boxes])
        best, highest = iou.argmax(axis=0), iou.max(axis=0)
        for i, row in enumerate(iou):
            best[row == row.max()] = i
            own |= row == row.max()
        codes = encode(anchors, boxes[best])
    holds = own | (highest >= POSITIVE)
    positive, negative = np.flatnonzero(holds), np.flatnonzero(~holds & (highest < NEGATIVE))
    positive = rng.permutation(positive)[:OBJECTS_DRAWN]
    objects = np.full(len(anchors), IGNORED)
    objects[rng.permutation(negative)[: DRAWN - len(positive)]] = 0
    objects[positive] = 1
    return objects, codes


def encode(references: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """dx, dy, dw, dh that the decoding turns into exactly these boxes: it adds 1 to a reference's sides, no other."""
    sides = references[:, 2:] - references[:, :2] + 1
    centres = references[:, :2] + sides / 2
    box_sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    shift = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centres) / sides
    return np.concatenate([shift, np.log(box_sides / sides)], axis=1).astype(np.float32)


def losses(stds: np.ndarray, network: RFCN, batch: Batch) -> Losses:
    """Cross entropy and smooth L1, of the anchors and of the rois that the network proposes."""
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        base = network.RCNN_base(image)
        head = network.RCNN_conv_new(base)
        maps = (*network.RCNN_rpn(base), network.RCNN_cls_base(head), network.RCNN_bbox_base(head))
    logits, deltas, class_maps, box_maps = (x.float().contiguous() for x in maps)  # no longer channels_last
    found = []
    for i in range(len(image)):
        rois, labels, codes = roi_targets(network, logits[i : i + 1], deltas[i : i + 1], batch, i)
        scores = vote(network, class_maps[i : i + 1], rois, network.outputs)
        boxes = vote(network, box_maps[i : i + 1], rois, 4 * network.outputs).view(len(labels), -1, 4)
        found.append((scores, boxes[torch.arange(len(labels)), labels], labels, codes / torch.from_numpy(stds)))
    scores, boxes, labels, codes = (torch.cat(each) for each in zip(*found, strict=True))
    own = labels > 0
    return proposal_losses(logits, deltas, batch) | {
        "class": F.cross_entropy(scores, labels),
        "box": F.smooth_l1_loss(boxes[own], codes[own], beta=BETA, reduction="sum") / len(labels),
    }


def proposal_losses(logits: Tensor, deltas: Tensor, batch: Batch) -> Losses:
    """Of the drawn anchors; channel a is the background's logit of anchor a, channel A + a the object's."""
    pairs = logits.permute(0, 2, 3, 1).unflatten(3, (2, -1)).transpose(3, 4).reshape(-1, 2)
    codes = deltas.permute(0, 2, 3, 1).reshape(-1, 4)
    objects = batch["objects"].flatten()
    own = objects == 1
    drawn = (objects != IGNORED).sum()
    box = F.smooth_l1_loss(codes[own], batch["codes"].flatten(0, 1)[own], beta=BETA_PROPOSALS, reduction="sum")
    return {"object": F.cross_entropy(pairs, objects, ignore_index=IGNORED), "proposal": box / drawn}


@torch.no_grad()
def roi_targets(
    network: RFCN, logits: Tensor, deltas: Tensor, batch: Batch, index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rois [5, R] of one image, the proposals and the objects' own boxes, with their labels and codes."""
    exists = (batch["labels"][index] > 0).numpy()
    boxes, labels = batch["boxes"][index].numpy()[exists], batch["labels"][index].numpy()[exists]
    proposals = network.propose(pair_softmax(logits), deltas, network.limits)[0, :, 1:].numpy()
    rois = np.concatenate([proposals[proposals.any(axis=1)], boxes])
    roi_labels, codes = np.zeros(len(rois), np.int64), np.zeros((len(rois), 4), np.float32)
    if len(boxes):
        iou = np.stack([overlaps(box, rois, plus=1) for box in boxes])
        best = iou.argmax(axis=0)
        roi_labels = np.where(iou.max(axis=0) >= FOREGROUND, labels[best], 0)
        codes = encode(rois, boxes[best])
    columns = np.concatenate([np.zeros((len(rois), 1), np.float32), rois.astype(np.float32)], axis=1)
    return torch.from_numpy(columns).t(), torch.from_numpy(roi_labels), torch.from_numpy(codes)


def vote(network: RFCN, score_map: Tensor, rois: Tensor, outputs: int) -> Tensor:
    """[R, outputs], as the network's own for any number of rois."""
    return network.pool(score_map, rois[None], outputs, network.group).mean((2, 3))


if __name__ == "__main__":
    cli.run(main)
