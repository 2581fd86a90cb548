"""How far a stage is, in its log, and what is read of it."""

import logging
import time

import pytest

from detport import cli, progress


class Clock:
    """Time as a test tells it."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said(caplog) -> logging.Handler:
    caplog.set_level(logging.INFO, "detport")
    return caplog


def test_a_line_every_ten_seconds_and_one_at_the_end(said):
    clock = Clock()
    count = progress.counter(500, clock)
    for _ in range(500):
        clock.now += 0.0625
        count()
    assert said.messages == [
        "160 of 500 images, 16 images/s",
        "320 of 500 images, 16 images/s",
        "480 of 500 images, 16 images/s",
        "500 of 500 images, 16 images/s",
    ]


def test_what_is_fast_says_one_line(said):
    assert list(progress.each("abc")) == ["a", "b", "c"]
    assert [line.split(",")[0] for line in said.messages] == ["3 of 3 images"]


@pytest.mark.parametrize(("done", "seconds", "rate"), [(500, 16, "31"), (5, 2, "2.5"), (1, 30, "0.033"), (0, 0, "0")])
def test_rates_in_digits_that_mean_something(done, seconds, rate):
    assert progress.rate(done, seconds) == rate


def test_what_cannot_be_counted_says_that_it_goes_on(said, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.05)
    with progress.step("scoring"):
        time.sleep(0.2)
    assert said.messages[0] == "scoring ..."
    assert said.messages[1] == "scoring, 0 s so far ..."
    assert said.messages[-1] == "scoring took 0.2 s"


def test_and_ends_with_what_went_wrong(said):
    with pytest.raises(ValueError, match="no"), progress.step("scoring"):
        raise ValueError("no")
    assert said.messages == ["scoring ..."]


def test_what_a_log_says(tmp_path, monkeypatch, capfd):
    """As the stage itself writes it."""

    def main(argv: object) -> None:
        count = progress.counter(2)
        count()
        cli.log.warning("bad image %r: 中文", "a b.jpg")
        count()

    monkeypatch.setattr(cli.sys, "argv", ["infer.py"])
    monkeypatch.setattr(logging.root, "handlers", [])
    cli.run(main)
    log = tmp_path / "x.log"
    log.write_text("noise\n" * 9999 + capfd.readouterr().err, encoding="utf-8")
    assert progress.read(log) == (2, 2, ["infer: bad image 'a b.jpg': 中文"])


def test_a_log_that_says_nothing(tmp_path):
    assert progress.read(tmp_path / "missing.log") == (None, None, [])
    (tmp_path / "x.log").write_bytes(b"\xff of \xfe images")
    assert progress.read(tmp_path / "x.log") == (None, None, [])
