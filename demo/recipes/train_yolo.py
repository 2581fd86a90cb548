"""Trains a small YOLO-style detector on rendered scenes, writes it as ONNX and measures it on the demo's images.

    PYTHONPATH=scripts python demo/recipes/train_yolo.py --data demo/data --output demo/weights/yolo.onnx

What comes out is what such a project's exporter gives: one graph from letterboxed pixels to boxes and scores before
NMS, [1, 4 + classes, N], and metadata with names, stride and size. Nothing here is read from a model's yaml, and the
accuracy at the end comes from a letterbox and an NMS of its own: detport must find the same from the file alone.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detport import cli
from detport.boxes import overlaps
from detport.files import atomic
from evaluation import print_coco
from make_images import CATEGORY_IDS
from shapes import KINDS, MAX_OBJECTS, Scene, visible_box
from training import Batch, Losses, Sample, arguments, every_anchor, train

SIDE = 256  # of the input, pixels
STRIDES = (8, 16, 32)
BINS = 16  # of the distribution of a side's distance, one stride apart
GREY = 114  # around the image
OPSET = 17
NO_OBJECT = -1  # label of the rows that fill up a sample
PRIOR = 0.01  # class probability of every location at the beginning
NEAREST = 10  # task-aligned assignment: locations per object at most
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0  # of the alignment of score and overlap
SCORE_WEIGHT, BOX_WEIGHT, SIDES_WEIGHT = 0.5, 7.5, 1.5
LAST_GAP = 0.1  # targets stay so far, in strides, below the last bin, so that there is a bin on either side
TINY = 1e-6  # a sum of weights is at least so much
MIN_SCORE, NMS_IOU, MOST = 0.001, 0.7, 300  # of the evaluation, as the family publishes its figures


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv, steps=4000, model=False)
    network = Yolo()
    initialise(network)
    train(network, sample, losses, options)

    export(network, options.output)
    rows = detect(options.output, options.data)
    print_coco(rows, options.data, ("bbox",))


class Conv(nn.Sequential):
    """Convolution, norm and SiLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
        )


class Residual(nn.Module):
    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.convs = nn.Sequential(Conv(channels, channels, 3), Conv(channels, channels, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convs(x) if self.shortcut else self.convs(x)


class Split(nn.Module):
    """Half of the channels goes through residual blocks; everything on the way is joined at the end."""

    def __init__(self, inputs: int, outputs: int, blocks: int, shortcut: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = Conv(inputs, outputs)
        self.blocks = nn.ModuleList(Residual(half, shortcut) for _ in range(blocks))
        self.leave = Conv((2 + blocks) * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Pooling(nn.Module):
    """Maxima over 5, 9 and 13 pixels beside the features themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.leave = Conv(channels, channels // 2), Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.leave(torch.cat(parts, 1))


class Branch(nn.Sequential):
    """One level's boxes or scores."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__(Conv(inputs, width, 3), Conv(width, width, 3), nn.Conv2d(width, outputs, 1))


class Yolo(nn.Module):
    """Backbone, neck down and up again, and for each of three levels a head of boxes and one of scores."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = 12, 24, 36, 56, 72
        self.level2 = nn.Sequential(Conv(3, a, 3, 2), Conv(a, b, 3, 2), Split(b, b, 1, True))
        self.level3 = nn.Sequential(Conv(b, c, 3, 2), Split(c, c, 2, True))
        self.level4 = nn.Sequential(Conv(c, d, 3, 2), Split(d, d, 2, True))
        self.level5 = nn.Sequential(Conv(d, e, 3, 2), Split(e, e, 1, True), Pooling(e))
        self.down4, self.down3 = Split(e + d, d, 1), Split(d + c, c, 1)
        self.shrink3, self.up4 = Conv(c, c, 3, 2), Split(c + d, d, 1)
        self.shrink4, self.up5 = Conv(d, d, 3, 2), Split(d + e, e, 1)
        self.boxes = nn.ModuleList(Branch(width, 28, 4 * BINS) for width in (c, d, e))
        self.scores = nn.ModuleList(Branch(width, 32, len(KINDS)) for width in (c, d, e))
        points, strides = grid()
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the distances' bins [B, N, 4 * BINS] and of the classes [B, N, C]."""
        x3 = self.level3(self.level2(image))
        x4 = self.level4(x3)
        x5 = self.level5(x4)
        y4 = self.down4(torch.cat([double(x5), x4], 1))
        y3 = self.down3(torch.cat([double(y4), x3], 1))
        y4 = self.up4(torch.cat([self.shrink3(y3), y4], 1))
        y5 = self.up5(torch.cat([self.shrink4(y4), x5], 1))
        levels = (y3, y4, y5)
        boxes = [head(x).float() for head, x in zip(self.boxes, levels, strict=True)]
        scores = [head(x).float() for head, x in zip(self.scores, levels, strict=True)]
        return every_anchor(boxes, 4 * BINS), every_anchor(scores, len(KINDS))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 4 + C, N]: centre x and y, width and height in pixels, then the classes' scores."""
        bins, logits = self.raw(image)
        corners = self.corners(bins)
        low, high = corners.split(2, -1)
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], -1).transpose(1, 2)

    def corners(self, bins: Tensor) -> Tensor:
        """Boxes x1 y1 x2 y2 [B, N, 4] in pixels, from the expected distances of their sides."""
        shares = bins.view(*bins.shape[:2], 4, BINS).softmax(-1)
        distances = (shares * torch.arange(BINS, dtype=shares.dtype)).sum(-1) * self.strides
        return torch.cat([self.points - distances[..., :2], self.points + distances[..., 2:]], -1)


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def grid() -> tuple[Tensor, Tensor]:
    """Centres (x, y) of all cells [N, 2] in pixels, row by row and level by level, and their strides [N, 1]."""
    points, strides = [], []
    for stride in STRIDES:
        centres = (torch.arange(SIDE // stride) + 0.5) * stride
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        points.append(torch.stack([x, y], -1).view(-1, 2))
        strides.append(torch.full((len(points[-1]), 1), float(stride)))
    return torch.cat(points), torch.cat(strides)


def initialise(network: Yolo) -> None:
    """He's weights everywhere; the outputs begin small, the class logits around the prior."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for head in (*network.boxes, *network.scores):
        nn.init.normal_(head[2].weight, std=0.01)
        nn.init.zeros_(head[2].bias)
    for head in network.scores:
        nn.init.constant_(head[2].bias, -math.log((1 - PRIOR) / PRIOR))


def letterbox(image: np.ndarray) -> tuple[np.ndarray, float, tuple[int, int]]:
    """The RGB image [H, W, 3] in the middle of a grey square, as a tensor [3, SIDE, SIDE] between 0 and 1; its scale,
    and the pixels left of and above it."""
    height, width = image.shape[:2]
    scale = min(SIDE / height, SIDE / width)
    new_w, new_h = round(width * scale), round(height * scale)
    left, top = round((SIDE - new_w) / 2 - 0.1), round((SIDE - new_h) / 2 - 0.1)
    canvas = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    resized = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + new_h, left : left + new_w] = resized
    return canvas.transpose(2, 0, 1).astype(np.float32) / 255, scale, (left, top)


def sample(scene: Scene, rng: np.random.Generator) -> Sample:
    """Network input, and the objects' boxes x1 y1 x2 y2 and labels, filled up to the most that a scene can have."""
    image, scale, (left, top) = letterbox(scene.image)
    boxes = np.zeros((MAX_OBJECTS, 4), np.float32)
    labels = np.full(MAX_OBJECTS, NO_OBJECT)
    for i, shape in enumerate(scene.shapes):
        boxes[i] = np.array(visible_box(scene.owner == i)) * scale + (left, top, left, top)
        labels[i] = shape.kind
    return {"image": image, "boxes": boxes, "labels": labels}


def losses(network: Yolo, batch: Batch) -> Losses:
    """Cross entropy of the scores with the alignment; CIoU and distribution focal loss of the boxes, weighted by it."""
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        bins, logits = network.raw(image)
    corners = network.corners(bins)
    wanted, targets = assign(network.points, corners.detach(), logits.detach().sigmoid(), batch)
    weight = targets.sum(-1)
    total = weight.sum().clamp(min=TINY)
    own = weight > 0
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    box = 1 - complete_iou(corners[own], wanted[own])
    sides = distribution_focal_loss(bins[own], distances(network, wanted)[own])
    return {
        "score": SCORE_WEIGHT * entropy / total,
        "box": BOX_WEIGHT * (weight[own] * box).sum() / total,
        "sides": SIDES_WEIGHT * (weight[own] * sides).sum() / total,
    }


def assign(points: Tensor, corners: Tensor, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """For every location its object's box [B, N, 4] and wanted scores [B, N, C]: task-aligned assignment.

    The locations inside an object whose score and overlap agree best become its own, one of two objects that of the
    larger overlap; an object's best location is wanted to have the score of its best overlap, the others less.
    """
    boxes, labels = batch["boxes"], batch["labels"]
    real = labels != NO_OBJECT
    nearer = torch.cat([points - boxes[:, :, None, :2], boxes[:, :, None, 2:] - points], -1)  # [B, M, N, 4]
    inside = (nearer.amin(-1) > 0) & real[..., None]
    overlap = complete_iou(corners[:, None], boxes[:, :, None]).clamp(min=0) * inside
    chosen = scores.transpose(1, 2).gather(1, labels.clamp(min=0)[..., None].expand_as(overlap))
    alignment = chosen**SCORE_POWER * overlap**OVERLAP_POWER * inside
    least = alignment.topk(NEAREST, -1).values[..., -1:]
    own = (alignment >= least) & (alignment > 0)
    own &= overlap == torch.where(own, overlap, 0).amax(1, keepdim=True)
    alignment, overlap = alignment * own, overlap * own
    share = alignment / alignment.amax(-1, keepdim=True).clamp(min=TINY**2) * overlap.amax(-1, keepdim=True)
    value, owner = share.max(1)
    targets = torch.zeros_like(scores)
    targets.scatter_(2, labels.clamp(min=0).gather(1, owner)[..., None], value[..., None])
    return boxes.gather(1, owner[..., None].expand(-1, -1, 4)), targets


def complete_iou(found: Tensor, wanted: Tensor) -> Tensor:
    """IoU of boxes x1 y1 x2 y2, less for centres that are far apart and for another ratio of the sides."""
    low, high = torch.maximum(found[..., :2], wanted[..., :2]), torch.minimum(found[..., 2:], wanted[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    size, other = found[..., 2:] - found[..., :2], wanted[..., 2:] - wanted[..., :2]
    iou = common / (size.prod(-1) + other.prod(-1) - common).clamp(min=TINY)
    hull = torch.maximum(found[..., 2:], wanted[..., 2:]) - torch.minimum(found[..., :2], wanted[..., :2])
    apart = (found[..., :2] + found[..., 2:] - wanted[..., :2] - wanted[..., 2:]).square().sum(-1) / 4
    ratio, other_ratio = ((each[..., 0] / each[..., 1].clamp(min=TINY)).atan() for each in (size, other))
    shape = 4 / math.pi**2 * (ratio - other_ratio).square()
    weight = (shape / (1 - iou + shape).clamp(min=TINY)).detach()
    return iou - apart / hull.square().sum(-1).clamp(min=TINY) - weight * shape


def distances(network: Yolo, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom from every location to the sides of its box, in strides."""
    sides = torch.cat([network.points - boxes[..., :2], boxes[..., 2:] - network.points], -1)
    return (sides / network.strides).clamp(0, BINS - 1 - LAST_GAP)


def distribution_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """[P], mean of the four sides: cross entropy with the two bins next to a distance, the nearer weighing more."""
    target = wanted.reshape(-1, 1)
    lower = target.floor()
    index = torch.cat([lower, lower + 1], 1).long()
    shares = torch.cat([lower + 1 - target, target - lower], 1)
    chosen = logits.reshape(-1, BINS).log_softmax(1).gather(1, index)
    return -(shares * chosen).sum(1).view(-1, 4).mean(1)


def export(network: Yolo, path: Path) -> None:
    """The graph with its norms folded, and metadata in the form that Ultralytics gives it."""
    metadata = {
        "description": "YOLO-style detector of rendered shapes, trained by demo/recipes/train_yolo.py of detport",
        "license": "Apache-2.0",
        "stride": str(max(STRIDES)),
        "task": "detect",
        "batch": "1",
        "imgsz": str([SIDE, SIDE]),
        "names": str(dict(enumerate(KINDS))),
        "channels": "3",
    }
    with atomic(path) as partial, warnings.catch_warnings():
        # The tracing exporter says on every call that there is a newer one, and warns of shapes that become constants.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, SIDE, SIDE),),
            str(partial),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
        )
        graph = onnx.load(partial)
        onnx.helper.set_model_props(graph, metadata)
        onnx.save(graph, partial)


def detect(file: Path, data: Path) -> list[dict]:
    """COCO result rows of the file in ONNX Runtime on the demo's images."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rows = []
    for path in sorted((data / "images").glob("*.jpg")):
        image = cv2.imread(str(path))[..., ::-1]
        tensor, scale, corner = letterbox(image)
        (output,) = session.run(None, {"images": tensor[None]})
        for box, score, label in select(output[0].T):
            x1, y1, x2, y2 = (box - (*corner, *corner)) / scale
            x1, x2 = np.clip((x1, x2), 0, image.shape[1])
            y1, y2 = np.clip((y1, y2), 0, image.shape[0])
            row = {"image_id": int(path.stem), "category_id": CATEGORY_IDS[label], "score": float(score)}
            rows.append(row | {"bbox": [float(each) for each in (x1, y1, x2 - x1, y2 - y1)]})
    return rows


def select(output: np.ndarray) -> list[tuple[np.ndarray, float, int]]:
    """Box x1 y1 x2 y2, score and label of what NMS, class by class, leaves of the rows cx cy w h scores…"""
    centre, size, scores = output[:, :2], output[:, 2:4], output[:, 4:]
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
    kept = []
    for label in range(scores.shape[1]):
        left = [i for i in np.argsort(-scores[:, label], kind="stable") if scores[i, label] > MIN_SCORE]
        while left:
            best, *rest = left
            kept.append((boxes[best], scores[best, label], label))
            iou = overlaps(boxes[best], boxes[rest], plus=0)
            left = [i for i, shared in zip(rest, iou, strict=True) if shared <= NMS_IOU]
    return sorted(kept, key=lambda each: -each[1])[:MOST]


if __name__ == "__main__":
    cli.run(main)
