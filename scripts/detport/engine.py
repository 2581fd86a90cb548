"""What detport uses of Snakemake beyond its documented interface, and nothing else does.

Tried with Snakemake OLDEST to NEWEST (in 9.14 a limit that is set here does not hold); tests/workflow/test_engine.py
fails where a version behaves otherwise.
"""

import atexit
import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import snakemake
import snakemake.common
import snakemake.jobs
import snakemake.rules
import snakemake.scheduling.job_scheduler
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.settings.types import RerunTrigger
from snakemake_interface_logger_plugins.common import LogEvent

from detport.console import screen
from detport.console.jobs import Job
from detport.console.live import Console

OLDEST, NEWEST = "9.27", "9.27"
# What a run says of itself that the console says shorter, or that tells a person nothing.
CHATTER = {
    *(LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.RUN_INFO, LogEvent.RULEGRAPH, LogEvent.PROGRESS),
    *(LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.GROUP_INFO),
    LogEvent.SHELLCMD,
}
ASIDES = ("Using shell: ", "Conda environments: ignored", "Select jobs to execute", "Removing temporary output")
FAILED = "CalledProcessError in file"  # of a job whose failure is told by another event
LARGE = 10**12  # bytes: contents decide below, whatever the file times are


def untried() -> str | None:
    """A warning if this Snakemake is newer than the newest that was tried."""
    version = snakemake.__version__
    if [int(part) for part in version.split(".")[:2]] <= [int(part) for part in NEWEST.split(".")]:
        return None
    return f"Snakemake {version} is newer than {NEWEST}, the newest that detport was tried with"


def plan_quickly() -> None:
    """Take a third off the time that a plan of thousands of jobs needs: a function is inspected once and not for every
    job, a command is put together once where a job is told of, which asks for it again and again, and the many objects
    of a plan, which all stay, are looked through for garbage less often."""
    remembered = functools.cache(snakemake.common.get_function_params)
    for module in (snakemake.common, snakemake.jobs, snakemake.rules):
        module.get_function_params = remembered
    kind = snakemake.jobs.Job
    command, tell = kind.shellcmd.fget, kind.log_info
    known: dict[int, str | None] = {}  # of the jobs that are being told of

    def tell_of(self: Any, *args: Any, **options: Any) -> None:
        known[id(self)] = command(self)
        try:
            tell(self, *args, **options)
        finally:
            del known[id(self)]

    kind.shellcmd = property(lambda self: known[id(self)] if id(self) in known else command(self))
    kind.log_info = tell_of
    gc.set_threshold(200_000, 20, 20)


def look_for_jobs_when_some_end() -> None:
    """Have Snakemake look for jobs to start when one has ended, and by the clock only where its limit of jobs per
    second (--max-jobs-per-timespan) has held some back.

    By itself it looks again a second after every look, and each of these is followed by another: N looks a second after
    N jobs, which take a core to themselves in a run of some hundreds, and a second in which the run does not end.
    """
    scheduler = snakemake.scheduling.job_scheduler.JobScheduler
    later = scheduler._schedule_reevalutation

    def look_later(self: Any, delay: float) -> None:
        held_back = self.job_rate_limiter is None or self.job_rate_limiter.get_free_jobs() == 0
        if held_back or self.workflow.dag.has_unfinished_queue_input_jobs():
            later(self, delay)

    scheduler._schedule_reevalutation = look_later


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


def runs_here(workflow: Any) -> bool:
    """Whether jobs run on this machine; a run that sends them elsewhere has an executor that does."""
    return workflow.local_exec


def uses_conda(workflow: Any) -> bool:
    """Whether conda makes the environments of the jobs."""
    return any(str(method) == "conda" for method in workflow.deployment_settings.deployment_method)


def only_lists() -> bool:
    """Whether this process is asked for a list of files and jobs, and for nothing that needs the files of a person."""
    return "--summary" in sys.argv


def mentions(name: str) -> bool:
    """Whether a word of the command line is a path about this name; while rules are read no targets are known."""
    return any(name in (*Path(word).parts, Path(word).stem) for word in sys.argv[1:])


def end_with(status: int, message: str) -> None:
    """Have this process say something at its very end and exit with this status, whatever Snakemake thinks of the run;
    it calls nobody where there is nothing to do, or nothing but a plan."""

    def end() -> None:
        print(message, file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(status)

    atexit.register(end)


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


def limit(workflow: Any, resource: str, amount: int) -> int:
    """Set how much of a resource all jobs of this machine may take together, unless the command line does; what is in
    force. A job that asks for more is given all of it, so that it runs alone."""
    return workflow.resource_settings.resources.setdefault(resource, amount).value


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


def jobs(workflow: Any) -> list[Job]:
    """All jobs that the run knows and that do something, whether it is going to do them or not."""
    dag = workflow.dag
    real = [job for level in dag.toposorted() for job in level if not job.is_norun]
    return [
        Job(
            id=dag.jobid(job),
            rule=job.rule.name,
            wildcards=dict(job.wildcards_dict),
            output=[str(path) for path in job.output],
            log=[str(path) for path in job.log],
            benchmark=str(job.benchmark) if job.benchmark else None,
            threads=job.threads,
            needs=[dag.jobid(each) for each in dag.dependencies[job]],
            pending=dag.needrun(job),
        )
        for job in real
    ]


def places(workflow: Any) -> int:
    """How many threads may be at work at once; on other machines, where nobody counts threads, how many jobs."""
    return (cores(workflow) if workflow.local_exec else workflow.nodes) or 1


def let_jobs_end(workflow: Any) -> None:
    """When this process is told to end (SIGTERM), the jobs at work come to their end. Snakemake would wait for itself
    for ever where the signal comes while it notes that a job is done: who waits for that is a thread here."""

    def end(*_: object) -> None:
        threading.Thread(target=workflow.scheduler.exit_gracefully, name="end", daemon=True).start()

    signal.signal(signal.SIGTERM, end)


def watch(workflow: Any, console: Console) -> None:
    """Have the console say what Snakemake would say on the terminal, unless somebody has chosen how that looks.

    Snakemake's own log gets every job's command all the same.
    """
    settings, manager = workflow.output_settings, workflow.logger_manager
    own = next((each for each in manager.logger.handlers if each.name == "DefaultStreamHandler"), None)
    chosen = settings.printshellcmds or settings.verbose or settings.debug_dag or settings.quiet or settings.dryrun
    if own is None or chosen or is_job(workflow):
        return
    for handler in manager.logfile_handlers:
        for each in handler.filters if handler.name == "DefaultLogFileHandler" else ():
            each.printshellcmds = True
    console.attach(own.stream, Path(*manager.get_logfile()[:1]), Path(started_in(workflow)))
    own.nocolor = own.nocolor or not screen.has_colours(own.stream)
    manager.logger.removeHandler(own)
    manager.logger.addHandler(Listener(own, console))


class Listener(logging.Handler):
    """What Snakemake logs, to a console; before that is quiet, as Snakemake itself shows it."""

    def __init__(self, own: logging.Handler, console: Console):
        super().__init__()
        self.own, self.console = own, console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.tell(record)
        except Exception:  # noqa: BLE001, as every handler does: a run does not end because of what is said of it
            self.handleError(record)

    def tell(self, record: logging.LogRecord) -> None:
        """Show a record, or let the console know what it means."""
        event = getattr(record, "event", None)
        if not self.console.quiet:
            if event != LogEvent.WORKFLOW_STARTED:
                self.own.handle(record)
        elif event == LogEvent.JOB_INFO:
            self.console.start(record.jobid)
        elif event == LogEvent.JOB_FINISHED:
            self.console.finish(record.job_id)
        elif event == LogEvent.JOB_ERROR and self.console.knows(record.jobid):
            self.console.fail(record.jobid, record.log, lambda text: self.own.decorate(record, text))
        elif self.own.filter(record) and not self.is_chatter(record, event):
            self.console.say(self.own.decorate(record, self.own.format(record)), record.levelno == logging.WARNING)
        if record.msg == NOTHING_TO_BE_DONE_MSG:
            self.console.idle()

    def is_chatter(self, record: logging.LogRecord, event: LogEvent | None) -> bool:
        """Whether a record tells nothing that the console does not tell."""
        text = str(record.msg or "")
        aside = record.levelno <= logging.INFO and text.startswith(ASIDES)
        return event in CHATTER or not text or aside or FAILED in text

    def close(self) -> None:
        self.console.end()
        self.own.close()
        super().close()
