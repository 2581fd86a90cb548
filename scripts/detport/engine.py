"""What detport uses of Snakemake beyond its documented interface, and nothing else does.

Tried with Snakemake OLDEST to NEWEST (in 9.14 a limit that is set here does not hold); tests/workflow/test_engine.py
fails where a version behaves otherwise.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import snakemake
from snakemake.settings.types import RerunTrigger

OLDEST, NEWEST = "9.27", "9.27"
LARGE = 10**12  # bytes: contents decide below, whatever the file times are


def untried() -> str | None:
    """A warning if this Snakemake is newer than the newest that was tried."""
    version = snakemake.__version__
    if [int(part) for part in version.split(".")[:2]] <= [int(part) for part in NEWEST.split(".")]:
        return None
    return f"Snakemake {version} is newer than {NEWEST}, the newest that detport was tried with"


def leave_reruns_to_records(workflow: Any, stale: Iterable[str]) -> None:
    """Have stale files made again if the run needs them, and nothing else that is there, unless a newer input says so.

    Parameters, code and sets of inputs are in detport's own records, which know more than Snakemake's: what moves with
    the repository is no reason to run anything. To be called by an input function: only then is there a plan, and it
    is not known yet which jobs of it are needed.
    """
    workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
    workflow.dag_settings.force_incomplete = True
    workflow.dag.max_checksum_file_size = workflow.persistence.max_checksum_file_size = LARGE  # compared and recorded
    workflow.dag.forcefiles.update(stale)


def is_real_run(workflow: Any) -> bool:
    """Whether this process is about to run jobs, and not one of the jobs or somebody who only asks."""
    runs = workflow.executor_plugin is not None and not (workflow.dryrun or workflow.touch)
    return runs and not is_job(workflow) and workflow.execution_settings.lock


def is_job(workflow: Any) -> bool:
    """Whether this process is a job of a run, here or on a cluster, which reads the workflow again."""
    return not workflow.is_main_process


def sends_jobs_to(workflow: Any) -> str | None:
    """The executor that takes the jobs of this run to other machines; None if they run here. Of a real run only."""
    return workflow.executor_plugin.name if is_real_run(workflow) and workflow.non_local_exec else None


def default_resource(workflow: Any, name: str) -> object:
    """What --default-resources, most likely of a profile, says of a resource; jobs on a cluster are told it too."""
    return workflow.resource_settings._parsed_default_resources.get(name).raw


def resource_values(workflow: Any, name: str) -> list[str]:
    """What the jobs that the run is going to do say of a resource, each value once."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.resources.get(name) is not None]
    return sorted({str(job.resources.get(name)) for job in jobs})


def forget_half_made(workflow: Any, paths: Iterable[str]) -> list[str]:
    """Of these files, those that Snakemake takes for half made, as it was killed before the end of their jobs; from
    now on they count."""
    found = sorted(workflow.persistence._filter_incomplete_keys(list(paths)))
    for path in found:
        workflow.persistence._unmark_incomplete(path)
    workflow.persistence._clear_cache()
    return found


def uses_conda(workflow: Any) -> bool:
    """Whether conda makes the environments of the jobs."""
    return any(str(method) == "conda" for method in workflow.deployment_settings.deployment_method)


def only_lists() -> bool:
    """Whether this process is asked for a list of files and jobs, and for nothing that needs the files of a person."""
    return "--summary" in sys.argv


def targets(workflow: Any) -> list[str]:
    """What the command line asks for; nothing for the default target."""
    return list(workflow.dag_settings.targets)


def cores(workflow: Any) -> int | None:
    """How many cores the run may use, where somebody has said so; a dry run without a word is given one."""
    given = workflow.resource_settings.cores
    return None if workflow.dryrun and given == 1 else given


def outputs(workflow: Any, pending: bool = False) -> list[str]:
    """Outputs of all jobs that the run knows, or of those that it is going to do; what is made last comes first."""
    jobs = [job for level in reversed(list(workflow.dag.toposorted())) for job in level]
    return [str(path) for job in jobs if not pending or workflow.dag.needrun(job) for path in job.output]


def several_outputs(workflow: Any) -> list[str]:
    """RULE=N of every rule whose jobs make more than one file."""
    return [f"{rule.name}={len(rule.output)}" for rule in workflow.rules if len(rule.output) > 1]


def limit(workflow: Any, resource: str, amount: int) -> None:
    """Set how much of a resource all jobs of this machine may take together, unless the command line does."""
    workflow.resource_settings.resources.setdefault(resource, amount)


def started_in(workflow: Any) -> str:
    """The folder in which the command was given, which is that of --directory no more."""
    return workflow.rundir


def configuration_files(workflow: Any, own: Path) -> list[Path]:
    """The files of the configuration, each over the one before it: the workflow's own, then those of --configfile."""
    given = list(workflow.overwrite_configfiles)
    return given if given and workflow.config_settings.replace_workflow_config else [own, *given]


def leave_locks_alone(workflow: Any) -> None:
    """For a run that makes nothing: no locks, and those of others stay."""
    workflow.persistence.lock = workflow.persistence.noop
