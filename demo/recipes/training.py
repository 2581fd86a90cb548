"""What the training recipes share: rendered scenes, the optimiser's loop, norms that can be trained, checkpoints."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from detport import cli, tensors
from detport.files import atomic
from detport.networks.blocks import FrozenNorm, per_anchor
from make_images import QUALITY
from shapes import TRAINING, Scene, render_scene

EMPTY_EVERY = 50  # one scene in so many has no object
REPORT_EVERY = 100  # steps between progress lines
WARM_UP = 0.15  # part of the steps in which the learning rate rises
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 10.0  # longer gradients are shortened to this

Sample = dict[str, np.ndarray]
MakeSample = Callable[[Scene, np.random.Generator], Sample]
Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


def arguments(
    description: str | None, argv: Sequence[str] | None, steps: int, model: bool = True
) -> argparse.Namespace:
    """The options of a recipe, of one that reads no model's yaml without --model; PyTorch is seeded and told its
    threads."""
    parser = cli.parser(description)
    if model:
        parser.add_argument("--model", type=Path, required=True, help="the model's yaml")
    parser.add_argument("--data", type=Path, required=True, help="folder that make_images.py made")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--seed", type=int, default=1, help="of weights and scenes (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=steps, help="of training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="scenes per step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2.5e-3, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the training process (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="rendering processes (default: %(default)s)")
    found = parser.parse_args(argv)
    torch.manual_seed(found.seed)
    torch.set_num_threads(found.threads)
    return found


class Scenes(Dataset):
    """Training scenes 0..count-1 of a seed, each made into one dict of arrays whose shapes are always the same."""

    def __init__(self, sample: MakeSample, seed: int, count: int) -> None:
        self.sample, self.seed, self.count = sample, seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        scene = render_scene((TRAINING, self.seed, index), objects=index % EMPTY_EVERY != 0)
        jitter = np.random.default_rng((TRAINING, self.seed, index, 1))
        return self.sample(scene._replace(image=through_jpeg(scene.image)), jitter)


def through_jpeg(image: np.ndarray) -> np.ndarray:
    """The RGB image after being a jpg of the demo's quality."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def batches(sample: MakeSample, seed: int, steps: int, batch: int, workers: int) -> DataLoader:
    """`steps` batches of samples, rendered by worker processes; the same for the same seed."""
    scenes = Scenes(sample, seed, steps * batch)
    return DataLoader(scenes, batch, num_workers=workers, worker_init_fn=use_one_thread)


def use_one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def network_input(settings: dict, image: np.ndarray) -> tuple[np.ndarray, float]:
    """The tensor [3, H, W] of an RGB image as the model's yaml wants it, and the scale of the image."""
    tensor, placement = tensors.to_tensor(image, settings)
    return tensor, placement["scale"]


def train(
    network: nn.Module,
    sample: MakeSample,
    losses: Callable[[nn.Module, Batch], Losses],
    options: argparse.Namespace,
) -> None:
    """Train as the options of a recipe say, and tell how large the network is and how long it took."""
    network.to(memory_format=torch.channels_last)
    print(f"{parameters(network)} parameters")
    begin = time.monotonic()
    data = batches(sample, options.seed, options.steps, options.batch, options.workers)
    fit(network, losses, data, options.rate)
    print(f"trained for {(time.monotonic() - begin) / 60:.1f} minutes")
    network.to(memory_format=torch.contiguous_format)


def fit(network: nn.Module, losses: Callable[[nn.Module, Batch], Losses], data: DataLoader, rate: float) -> None:
    """One pass over the data with AdamW; the learning rate rises to `rate` and falls to nothing (one cycle)."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]  # biases and norms are not decayed
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=len(data), pct_start=WARM_UP)
    network.train()
    begin = time.monotonic()
    recent: list[dict[str, float]] = []
    for step, batch in enumerate(data, start=1):
        parts = losses(network, batch)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        recent.append({name: value.item() for name, value in parts.items()})
        if step % REPORT_EVERY == 0 or step == len(data):
            means = "  ".join(f"{name} {np.mean([row[name] for row in recent]):.4f}" for name in recent[0])
            seconds = time.monotonic() - begin
            speed = step * data.batch_size / seconds
            print(f"step {step}/{len(data)}  {means}  {speed:.1f} images/s  {seconds:.0f} s", flush=True)
            recent.clear()
    network.eval()


def every_anchor(levels: list[Tensor], values: int) -> Tensor:
    """[B, A, values] of all levels, in the order of the network's anchors or locations."""
    return torch.cat([per_anchor(x, values).view(len(x), -1, values) for x in levels], dim=1)


def thaw_norms(module: nn.Module) -> None:
    """Puts a trainable nn.BatchNorm2d in place of every FrozenNorm."""
    for name, child in module.named_children():
        if isinstance(child, FrozenNorm):
            setattr(module, name, nn.BatchNorm2d(len(child.weight)))
        else:
            thaw_norms(child)


def frozen_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict that the network with FrozenNorm has: that norm adds no epsilon, so the variance carries it."""
    state = {name: value.detach().contiguous().clone() for name, value in module.state_dict().items()}
    for name, child in module.named_modules():
        if isinstance(child, nn.BatchNorm2d):
            state[f"{name}.running_var"] += child.eps
            del state[f"{name}.num_batches_tracked"]
    return state


def parameters(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in network.parameters())


def save(path: Path, checkpoint: dict) -> None:
    with atomic(path) as partial:
        torch.save(checkpoint, partial)
