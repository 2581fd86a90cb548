"""What the training recipes share: rendered scenes, the optimiser's loop, norms that can be trained, checkpoints."""

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from detport import images
from detport.files import atomic
from detport.networks.blocks import FrozenNorm
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
    tensor, placement = images.to_tensor(image, settings)
    return tensor, placement["scale"]


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
