"""Random damage to good files: whatever is read is taken or refused in one line. DETPORT_FUZZ_EXAMPLES sets how many
cases each target gets; docs/reliability.md says how many have run."""

import itertools
import os
import signal

import hypothesis
import pytest
from hypothesis import strategies

import targets

EXAMPLES = int(os.environ.get("DETPORT_FUZZ_EXAMPLES", "60"))
LONGEST = 30  # seconds that a case may take, on a machine that does other things as well


class Hang(BaseException):
    """Not an Exception, so that no target takes it for a broken file."""


def check(name: str, content: bytes) -> bool:
    """As targets.check, but a case that takes too long is stopped and fails where it was."""

    def stop(*_: object) -> None:
        raise Hang(f"{name}: more than {LONGEST} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        return targets.check(name, content)
    finally:
        signal.alarm(0)


def test_a_hang_is_found():
    """Else none of the tests below would show that there is none."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Hang, match="more than 1 seconds"):
        patch.setitem(globals(), "LONGEST", 1)
        patch.setitem(
            targets.TARGETS, "endless", targets.Target(lambda path: next(i for i in itertools.count() if i < 0), [b""])
        )
        check("endless", b"")


@strategies.composite
def damaged(draw: strategies.DrawFn, seeds: list[bytes]) -> bytes:
    """A good file with a few places cut, overwritten, doubled or filled with awkward words."""
    content = draw(strategies.sampled_from(seeds))
    for _ in range(draw(strategies.integers(0, 3))):
        begin = draw(strategies.integers(0, len(content)))
        end = min(begin + draw(strategies.integers(0, 12)), len(content))
        piece = draw(
            strategies.one_of(
                strategies.sampled_from(targets.WORDS),
                strategies.binary(max_size=6),
                strategies.just(b""),
                strategies.just(content[begin:end] * 2),
            )
        )
        rest = content[end:] if draw(strategies.integers(0, 5)) else b""
        content = content[:begin] + piece + rest
    return content


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_examples_themselves_are_read_or_refused(name):
    for seed in targets.TARGETS[name].seeds:
        check(name, seed)
    assert any(check(name, seed) for seed in targets.TARGETS[name].seeds), "none of them is good"


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damaged(name):
    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(damaged(targets.TARGETS[name].seeds))
    def run(content: bytes) -> None:
        check(name, content)

    run()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_awkward_word_in_place_of_every_number_and_text(name):
    """Where chance would take long: each value of a small file, replaced by each word."""
    for seed in targets.TARGETS[name].seeds[:1]:
        if len(seed) > 600:
            continue
        for begin in range(0, len(seed), 7):
            for word in targets.WORDS[:8]:
                check(name, seed[:begin] + word + seed[begin + 1 :])


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_and_noise(name):
    for content in (b"", b"\0" * 100, b"\xff" * 100, bytes(range(256)) * 4, "ünï ".encode() * 50):
        check(name, content)
