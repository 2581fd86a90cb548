"""The ideal schedule that a run is compared with, and what it is made from."""

import os

import pytest

import schedule
from schedule import Job


def job(name: str, seconds: float, *inputs: str, threads: int = 1) -> Job:
    return Job(name, seconds, 0.0, threads, list(inputs), [f"{name}.out"])


@pytest.mark.parametrize(
    ("jobs", "cores", "seconds"),
    [
        ([job("a", 3), job("b", 2), job("c", 2)], 1, 7),
        ([job("a", 3), job("b", 2), job("c", 2)], 2, 4),
        ([job("a", 3), job("b", 2, "a.out"), job("c", 2, "b.out", "brought")], 2, 7),
        ([job("a", 1), job("b", 1), job("c", 1), job("d", 3, "c.out")], 2, 4),
        ([job("a", 3), job("b", 1, threads=2), job("c", 1)], 2, 4),
    ],
    ids=["one core", "two cores", "a chain", "the longest chain goes first", "one that needs all cores"],
)
def test_the_ideal_schedule(jobs, cores, seconds):
    assert schedule.ideal(jobs, cores) == seconds


LOG = """Building DAG of jobs...
[Mon Nov 30 02:18:01 2026]
localrule first:
    output: a, b
    log: first.log
    jobid: 1
    benchmark: first.tsv
    threads: 8
    resources: tmpdir=/tmp
Shell command: touch a b
[Mon Nov 30 02:18:03 2026]
rule then:
    input: b, c
    output: d
    jobid: 2
    benchmark: then.tsv
Shell command: touch d
localrule all:
    input: d
    jobid: 0
"""


def test_the_jobs_of_a_run(tmp_path):
    (tmp_path / ".snakemake" / "log").mkdir(parents=True)
    (tmp_path / ".snakemake" / "log" / "2026.snakemake.log").write_text(LOG, encoding="utf-8")
    for name, seconds in (("first", 1.5), ("then", 2.0)):
        (tmp_path / f"{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t0:00:01\n", encoding="utf-8")
        os.utime(tmp_path / f"{name}.tsv", (100, 100))
    first, then = schedule.of_run(tmp_path, cores=2)
    assert first == Job("first.tsv", 1.5, 100.0, 2, [""], ["a", "b"])
    assert then == Job("then.tsv", 2.0, 100.0, 1, ["b", "c"], ["d"])
    assert schedule.needs([first, then]) == {"first.tsv": set(), "then.tsv": {"first.tsv"}}
