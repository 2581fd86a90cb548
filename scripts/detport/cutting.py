"""How many shards a dataset is cut into for a model on a backend, and why.

It follows from the configuration alone, so that neither another machine, nor --cores, nor a speed that was measured
makes other shards. A shard is large enough that what its job costs whatever its size is at most SHARE of it, and small
enough that as many jobs as the backend is fed by find room within disk_limit_gb.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from detport import disk, shards

FEWEST = 16  # images for which another shard is worth while, so that every core and device has some
MANY = 10_000  # shards of all models on all backends: of more, planning and starting jobs costs more than it saves
SHARE = 0.05  # of a shard's time: what it costs to start Python three times, load the model and get hold of a device


class Speed(NamedTuple):
    """What a class of backends is taken to be like."""

    fixed_s: float  # of a shard, whatever its size
    slow: float  # images per second of a job
    fast: float
    jobs: int  # at once: on the cores of a usual machine; on two devices, while as many others prepare


# docs/performance.md tells where the seconds were measured. The speeds of a device are those that the guides publish,
# from RetinaMask to GFocalV2 (1000 / 28.99 ms), those of a processor core are of the same networks.
SPEEDS = {"cpu": Speed(1.5, 0.1, 2.0, 8), "device": Speed(3.0, 4.3, 34.5, 4)}


# Who makes shards for tools elsewhere has cores to make them on.
ELSEWHERE = {"speed": "cpu"}


class Cut(NamedTuple):
    """Shards of a dataset."""

    shards: int
    images: int
    reason: str
    enough_gb: int | None = None  # disk_limit_gb with which starting a job takes at most SHARE of it, if more than now

    @property
    def largest(self) -> int:
        """Images of the largest shard."""
        return math.ceil(self.images / self.shards)


def class_of(backend: dict) -> str:
    """What a backend's yaml says of its speed, or else what it computes on tells."""
    places = [backend.get("device", "cpu"), *backend.get("providers", [])]
    elsewhere = "runner" in backend or any(not place.lower().startswith("cpu") for place in places)
    return backend["speed"] or ("device" if elsewhere else "cpu")


def of_all(
    models: Mapping[str, dict],
    images: Mapping[str, int],
    datasets: Mapping[str, dict],
    backends: Mapping[str, dict],
    limit_gb: float,
) -> dict[tuple[str, str | None], Cut]:
    """Shards of every model on every backend, and under None of shards/MODEL, which no backend has a say in;
    `images` is the size of each dataset."""
    most = share(len(models) * len(backends))
    return {
        (name, key): cut(datasets[model["dataset"]], images[model["dataset"]], model, backend, limit_gb, most)
        for name, model in models.items()
        for key, backend in {None: ELSEWHERE, **backends}.items()
    }


def share(pairs: int) -> int:
    """Shards of a model on a backend, of which a configuration has so many pairs. It changes at 10, 100 and 1000 only:
    one model more must not cut the shards of all others anew."""
    return MANY // 10 ** len(str(max(pairs - 1, 1)))


def cut(dataset: dict, images: int, model: dict, backend: dict, limit_gb: float, most: int = MANY // 10) -> Cut:
    """Shards of a dataset of so many images: the number that the configuration gives, or what suits the backend, but no
    more than `most` where the disk allows."""
    if dataset["shards"] != "auto":
        return Cut(dataset["shards"], images, "as the configuration says")
    kind = class_of(backend)
    fixed_s, slow, fast, jobs = SPEEDS[kind]
    image_gb = disk.image_bytes(model, backend, kept=False) / disk.GB
    wanted = math.ceil(fixed_s * (1 / SHARE - 1) * fast)
    whole_gb = (images + jobs) * image_gb  # of all shards at once, which have up to an image each more than their part
    fits = round_down(max(1, int(limit_gb / jobs / image_gb)))
    if whole_gb <= limit_gb and images >= 2 * FEWEST:  # of two shards or more, so that none takes all of the limit
        fits = images
    fed = backend.get("devices_per_card", 2) if kind == "device" else jobs  # cores, or devices, to be fed at least
    found = Cut(max(math.ceil(images / fits), min(images // wanted, most), min(fed, images // FEWEST), 1), images, "")
    if found.shards > shards.MOST:
        return Cut(shards.MOST, images, "more are not possible")
    low, high = (fixed_s / (fixed_s + found.largest / speed) if images else 1 for speed in (slow, fast))
    reason = f"{kind}: starting a job takes {low:.0%} of it at {slow:g} images/s, {high:.0%} at {fast:g}"
    if not fits < wanted <= images:
        return found._replace(reason=reason)
    enough = math.ceil(min(whole_gb, 2 * wanted * jobs * image_gb))
    return found._replace(reason=f"{reason}; at most {SHARE:.0%} with disk_limit_gb {enough}", enough_gb=enough)


def advice(of: tuple[str, str | None], backend: dict, found: Cut) -> str | None:
    """What a run says at its start of shards that keep a device from its work; those of a processor lose less."""
    if found.enough_gb is None or class_of(backend) != "device":
        return None
    return f"{of[0]} on {of[1]}: {found.reason}"


def round_down(number: int) -> int:
    """The last of 1, 2, 3, 4, 6, 8, 12, 16, …: a limit that is a little larger cuts no other shards."""
    return max(factor << i for factor in (1, 3) for i in range(number.bit_length()) if factor << i <= number)
