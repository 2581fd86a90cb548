"""How long a run still takes, and where nobody knows."""

import os
import time
from pathlib import Path

import pytest

from detport.console import estimate
from detport.console.estimate import Left, Sample
from detport.console.jobs import Job


def job(number: int, rule: str = "detect", needs: tuple = (), threads: int = 1, **more) -> Job:
    found = {"wildcards": {"model": "m", "backend": "b"}, "output": ["x"], "log": [], "benchmark": None}
    return Job(id=number, rule=rule, needs=needs, threads=threads, pending=True, **found | more)


def seconds(jobs: list[Job], each: float | None = 10) -> dict[int, float | None]:
    return {found.id: each for found in jobs}


def test_jobs_side_by_side_and_one_behind_them():
    jobs = [*(job(i) for i in range(6)), job(6, "evaluate", needs=tuple(range(6)))]
    assert estimate.left(jobs, seconds(jobs), {}, 1).seconds == 70
    assert estimate.left(jobs, seconds(jobs), {}, 2).seconds == 40
    assert estimate.left(jobs, seconds(jobs), {}, 8).seconds == 20


def test_a_job_that_takes_all_cores_runs_alone():
    jobs = [job(0, threads=9), job(1), job(2)]
    assert estimate.left(jobs, seconds(jobs), {}, 2).seconds == 20


def test_what_was_done_counts_no_more():
    """Jobs that are done are not among those asked for; one at work has a part behind it, or is late."""
    jobs = [job(0), job(1, needs=(7,))]
    assert estimate.left(jobs, seconds(jobs), {0: 4}, 2).seconds == 10
    assert estimate.left(jobs[:1], seconds(jobs[:1]), {0: 4}, 2).seconds == 6
    assert estimate.left(jobs[:1], seconds(jobs[:1]), {0: 44}, 2).seconds == 0


def test_no_estimate_that_nothing_founds():
    jobs = [job(0), job(1, "report", needs=(0,))]
    assert estimate.left(jobs, seconds(jobs, None), {}, 2) == Left(None, ["detect", "report"])
    assert estimate.left(jobs, {0: 10, 1: None}, {}, 2) == Left(10, ["report"])
    assert estimate.left([], {}, {}, 2) == Left(0, [])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Left(None, ["export"]), "no estimate yet"),
        (Left(30, ["parity", "report"]), "more than 30 s left (parity, report not timed yet)"),
        (Left(0.2, []), "about 1 s left"),
        (Left(99.6, []), "about 2 min left"),
        (Left(5000, []), "about 83 min left"),
        (Left(9000, []), "about 2 h 30 min left"),
    ],
)
def test_it_promises_no_more_than_is_known(found, words):
    assert estimate.said(found) == words


def test_in_proportion_to_images():
    """A record without a count of images tells nothing of a job that has some."""
    shard = job(0, images=100)
    assert estimate.expected(shard, estimate.pace([Sample(10, 20), Sample(14, 28)])) == 50
    assert estimate.expected(shard, estimate.pace([Sample(10, None)])) is None
    assert estimate.expected(shard, estimate.pace([])) is None
    assert estimate.expected(job(0, "report"), estimate.pace([Sample(10, None), Sample(14, None)])) == 12


@pytest.fixture
def earlier(tmp_path) -> Job:
    """A job of an earlier run: 20 images in 8 seconds."""
    (tmp_path / "infer.log").write_text("2026-01-01 10:00:00,0 infer: 20 of 20 images, 3 images/s\n")
    (tmp_path / "x.tsv").write_text("s\th:m:s\n8.0\t0:00:08\n")
    names = {"log": [str(tmp_path / "infer.log")], "benchmark": str(tmp_path / "x.tsv")}
    return job(0, images=50, **names)


def test_records_of_earlier_runs(earlier):
    assert estimate.recorded([earlier, job(1)]) == {("m/b", "detect"): [Sample(8.0, 20)]}


def test_a_log_of_a_run_that_was_killed_since_tells_nothing(earlier):
    later = time.time() + 60
    os.utime(earlier.log[0], (later, later))
    assert estimate.record(earlier) == Sample(8.0, None)


def test_half_a_record_is_none(earlier):
    Path(earlier.benchmark).write_text("s\th:m:s\n")
    assert estimate.record(earlier) is None


def test_thousands_of_jobs_take_no_time():
    """The view asks every second."""
    jobs = [*(job(i) for i in range(5000)), job(5000, "evaluate", needs=tuple(range(5000)))]
    begun = time.process_time()
    assert estimate.left(jobs, seconds(jobs, 1), {}, 8).seconds == 626
    assert time.process_time() - begun < 0.5
