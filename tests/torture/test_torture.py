"""A sample of `make torture`: what once gave an old or a mixed number, and a few cases more."""

import random

import pytest

import torture
from torture import Case

ONCE_WRONG = [
    Case("mean", "kill -9 of the group", "infer", 1, False),
    Case("mean", "SIGTERM", "preprocess", 0, True),
    Case("mean", "out of memory", "preprocess", 0, True),
    Case("categories", "kill -9 of a job", "evaluate", 0, True),
    Case("an image gone", "a job fails", "index_dataset", 0, False),
    Case("detections edited", "Ctrl-C", "evaluate", 1, False),
]
DRAWN = random.Random(20).sample(list(torture.cases()), 1)


@pytest.fixture(scope="module")
def ground():
    with torture.small_disk() as folder:
        yield torture.Ground(folder)


@pytest.mark.parametrize("case", [*ONCE_WRONG, *DRAWN], ids=lambda case: ", ".join(map(str, case)))
def test_the_second_run_gives_what_a_run_from_nothing_gives(ground, case):
    _, wrong = torture.violations(ground, case, random.Random(1))
    assert not wrong
