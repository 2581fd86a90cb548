"""A job as the console knows it, and how it is named to people."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Job(NamedTuple):
    """One job of a run. `needs` are the jobs before it, `pending` whether this run does it, `images` how many it
    takes, where that is known."""

    id: int
    rule: str
    wildcards: Mapping[str, str]
    output: Sequence[str]
    log: Sequence[str]
    benchmark: str | None
    threads: int
    needs: Sequence[int]
    pending: bool
    images: int | None = None


Kind = tuple[str, str]  # subject and rule: jobs that differ in nothing but their shard


def subject(job: Job) -> str:
    """What a job is about: a model, with its backend if it has one, or a dataset; nothing for what is about all."""
    names = [job.wildcards[key] for key in ("dataset", "model", "backend") if job.wildcards.get(key)]
    return "/".join(names)


def kind(job: Job) -> Kind:
    return subject(job), job.rule


def title(job: Job, shards: int) -> str:
    """A job in words, where its kind has so many."""
    more = {key: value for key, value in job.wildcards.items() if key not in ("dataset", "model", "backend")}
    if "shard" in more:
        more["shard"] = f"{int(more['shard']) + 1} of {shards}"
    words = [f"{key} {value.strip('-_.')}" for key, value in more.items() if value]
    return ", ".join([f"{job.rule} of {subject(job)}" if subject(job) else job.rule, *words])


def with_images(jobs: Sequence[Job], images: Callable[[Mapping[str, str], str], int | None]) -> list[Job]:
    """The jobs with the number of images that each takes, by its wildcards and rule."""
    return [job._replace(images=images(job.wildcards, job.rule)) for job in jobs]


def counted_log(job: Job) -> Path | None:
    """The log that tells how many images a job has done: that of the model's run, where a job has several."""
    logs = [Path(name) for name in job.log]
    return next((path for path in logs if "infer" in path.parts[:2]), logs[0] if logs else None)
