"""How large shards are when nobody says: starting a job costs little of it, and jobs at work fit within the limit."""

import re

import hypothesis
import pytest
from hypothesis import strategies

from detport import config, cutting, disk, shards

CONFIG = config.ROOT / "config"
RETINAMASK = config.load(CONFIG / "models" / "retinamask.yaml", "model")
BACKENDS = {name: config.load_backend(CONFIG / "backends" / f"{name}.yaml") for name in ("onnxruntime", "ascend310p")}
SMALL = config.load(config.ROOT / "demo" / "config" / "models" / "retinamask.yaml", "model")  # the limit is far away
AUTO = {"shards": "auto"}


def cut(images: int = 5000, name: str = "onnxruntime", limit_gb: float = 4, model: dict = RETINAMASK, **backend):
    return cutting.cut(AUTO, images, model, BACKENDS[name] | backend, limit_gb)


@pytest.mark.parametrize(("name", "fps"), [("ascend310p", 4.3), ("ascend310p", 34.5), ("onnxruntime", 2)])
def test_starting_a_job_is_at_most_a_twentieth_of_it(name, fps):
    found = cut(name=name, model=SMALL, limit_gb=400)
    fixed_s = cutting.SPEEDS[cutting.class_of(BACKENDS[name])].fixed_s
    assert fixed_s / (fixed_s + found.largest / fps) <= cutting.SHARE


def test_where_the_limit_decides_the_reason_says_what_it_costs_and_what_would_help():
    found = cut(name="ascend310p")
    needed = float(re.search(r"at most 5% with disk_limit_gb (\d+)", found.reason)[1])
    assert "disk_limit_gb" not in cut(name="ascend310p", limit_gb=needed).reason
    assert found.largest < cut(name="ascend310p", limit_gb=needed).largest
    everything = 5000 * disk.image_bytes(RETINAMASK, BACKENDS["ascend310p"], kept=False) / disk.GB
    assert everything < needed < everything + 2, "no more than all shards of the dataset take together"


def test_a_device_that_shards_keep_from_its_work_is_told_of_at_the_start_of_a_run():
    def told(name: str, limit_gb: float) -> str | None:
        return cutting.advice(("retinamask", name), BACKENDS[name], cut(name=name, limit_gb=limit_gb))

    found = told("ascend310p", 4)
    assert re.match(r"retinamask on ascend310p: device: .* at most 5% with disk_limit_gb \d+$", found)
    assert told("ascend310p", float(found.split()[-1])) is None
    assert told("onnxruntime", 4) is None


@hypothesis.given(strategies.sampled_from(sorted(BACKENDS)), strategies.floats(0.5, 100), strategies.integers(1, 10**6))
def test_jobs_at_work_fit_within_the_limit(name, limit_gb, images):
    found, known = cut(images, name, limit_gb), cutting.SPEEDS[cutting.class_of(BACKENDS[name])]
    taken = found.largest * disk.image_bytes(RETINAMASK, BACKENDS[name], kept=False)
    assert 1 <= found.shards <= shards.MOST
    together = taken * min(known.jobs, found.shards)
    assert together <= limit_gb * disk.GB or found.largest == 1 or found.shards == shards.MOST


def test_another_device_cuts_no_other_shards():
    """What is done stays done when a run goes on with more of them."""
    assert cut(name="ascend310p", devices=[0, 1, 2, 3]) == cut(name="ascend310p")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "cpu"),
        ({"device": "cpu"}, "cpu"),
        ({"device": "cuda:1"}, "device"),
        ({"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}, "device"),
        ({"providers": ["CUDAExecutionProvider"], "speed": "cpu"}, "cpu"),
    ],
)
def test_the_class_is_told_by_what_a_backend_computes_on(given, expected):
    assert cutting.class_of(BACKENDS["onnxruntime"] | given) == expected
    assert cutting.class_of(BACKENDS["ascend310p"]) == "device"


@pytest.mark.parametrize(("number", "below"), [(1, 1), (5, 4), (7, 6), (24, 24), (1967, 1536)])
def test_round_numbers(number, below):
    assert cutting.round_down(number) == below


def test_a_small_dataset_still_feeds_every_core_and_device():
    assert cut(80).shards == 5
    assert cut(80, name="ascend310p", model=SMALL).shards == 2
    assert cut(80, name="ascend310p", model=SMALL, devices_per_card=4).shards == 4


def test_a_number_in_the_configuration_is_the_number():
    assert cutting.cut({"shards": 7}, 20, RETINAMASK, BACKENDS["onnxruntime"], 4)[:2] == (7, 20)


@pytest.mark.parametrize(("images", "count"), [(0, 1), (1, 1), (16, 1), (17, 2), (10**7, shards.MOST)])
def test_small_and_large_datasets(images, count):
    assert cut(images).shards == count


def test_a_large_dataset_is_cut_into_larger_shards_not_into_more_jobs_than_a_plan_can_hold():
    """A million images are a thousand shards where the disk allows, of which starting the job takes even less."""
    assert cut(5000, model=SMALL, limit_gb=400).shards == 87
    assert cut(10**6, model=SMALL, limit_gb=400).shards == 1000


@pytest.mark.parametrize(("models", "expected"), [(1, 87), (10, 87), (11, 87), (100, 87), (101, 10), (1000, 10)])
def test_so_are_the_datasets_of_a_large_zoo(models, expected):
    names = {f"m{k}": SMALL | {"dataset": "d"} for k in range(models)}
    backends = {"onnxruntime": BACKENDS["onnxruntime"]}
    found = cutting.of_all(names, {"d": 5000}, {"d": AUTO}, backends, limit_gb=400)
    assert found["m0", "onnxruntime"].shards == expected
