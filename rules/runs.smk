# The beginning and the end of a run: one at a time in a folder, and nothing there that it is going to replace. Only code.

import time

from detport import files as detport_files
from detport import processes as detport_processes
from detport import results as detport_results
from detport import runs as detport_runs
from detport import slurm as detport_slurm
from detport import stale as detport_stale
from detport import stopped as detport_stopped
from detport.console import jobs as detport_jobs
from detport.console import live as detport_live
from detport.report import ending as detport_ending

BEGUN = time.strftime("%Y-%m-%dT%H:%M:%S")


@functools.cache
def begin() -> None:
    """Once, before Snakemake decides which jobs are needed: claim the folder for a real run, and find what is stale.

    Input functions call it, because only when they are evaluated does Snakemake know whether it is a real run.
    """
    if detport_engine.is_job(workflow):
        return
    CONSOLE.quiet = detport_engine.is_real_run(workflow)
    try:
        refuse_without_checkpoint()
        said = claim() if detport_engine.is_real_run(workflow) else []
        found = stale_files()
        if detport_engine.is_real_run(workflow):
            said += count_whole(found)
    except UsageError as error:
        give_up(error)
    except Failure as error:
        give_up(error, 1)
    detport_engine.leave_reruns_to_records(workflow, found)
    for line in said + detport_stale.summary(found):
        print(f"detport: {line}", file=sys.stderr)


def refuse_without_checkpoint() -> None:
    """Refuse a model that is ONNX already, if the run is about it, on a backend that runs checkpoints."""
    for name in targeted():
        for backend in BACKENDS.values():
            if "onnx" in MODELS[name] and backend["runs"] == "checkpoint":
                raise UsageError(
                    f"{model_file(name)}: is ONNX already; backend {backend['name']} needs a checkpoint. Ask for the"
                    " reports of other models, or leave the backend out"
                )


def claim() -> list[str]:
    """Be the only run here, and clear away what earlier ones left; what was done, one line each."""
    executor = detport_engine.sends_jobs_to(workflow)
    said = detport_runs.claim(Path(), executor)
    if executor is None:
        detport_stopped.watch(os.environ[detport_processes.VARIABLE])
    elif executor == "slurm":
        detport_slurm.do_without_accounting(Path())
        detport_slurm.watch(Path())
    if executor is not None and not ON_NODES:
        said.append(
            f"warning: executor {executor} without `default-resources: scratch: tmpdir` in its profile: the tensors of"
            " all shards go through the shared file system"
        )
    if warning := detport_engine.untried():
        said.append(warning)
    kept = {
        f"results/{model}/{backend}/outputs/{shard}"
        for model in (MODELS if ON_NODES else BUDGET.kept)
        for backend in BACKENDS
        for shard in shard_names(model, backend)
    }
    for path in detport_disk.leftovers(Path(), MODELS, kept, alone=executor == "slurm"):
        detport_files.remove(path)
        said.append(f"removed {path}, which an earlier run left")
    return said


def only_asks(wildcards) -> list:
    """No input; a target that makes nothing leaves the folder's locks alone if it is the only one, whosever they are."""
    CONSOLE.quiet = detport_engine.is_real_run(workflow)
    if len(detport_engine.targets(workflow)) == 1:
        detport_engine.leave_locks_alone(workflow)
    return []


def targeted() -> list[str]:
    """Models that the run's targets name; all if there is none or one that is not of a single model."""
    named = set()
    for target in map(Path, detport_engine.targets(workflow)):
        top, *rest = target.parts
        name = rest[0] if top in ("results", "shards") and rest else target.stem if top == "reports" and rest else None
        if name not in MODELS:
            return list(MODELS)
        named.add(name)
    return [name for name in MODELS if name in named] or list(MODELS)


def stale_files() -> dict[str, str]:
    """What is stale of the models that the run is about, by the file that Snakemake knows it by, with the reason."""
    models = targeted()
    made = [product for model in models for product in products(model)]
    made += detport_lineage.of_all(MODELS, PINNED) * (models == list(MODELS))
    found = detport_stale.find(made, detport_engine.cores(workflow))
    return {f"{path}/made.json" if detport_disk.is_shard(path) else path: reason for path, reason in found.items()}


def reports_are_stale() -> None:
    """Before a real run stops for want of a file: reports of what it was about do not count any more."""
    if detport_engine.is_real_run(workflow):
        detport_stale.invalidate(f"reports/{name}.txt" for name in targeted())


def count_whole(stale: dict[str, str]) -> list[str]:
    """Have files count that jobs finished after their run was killed: their records say that they are whole."""
    there = [file for model in targeted() for product in products(model) for file in files_of(product)]
    found = detport_engine.forget_half_made(workflow, [path for path in there if path not in stale])
    return [f"{len(found)} files that jobs of an earlier run have finished count: {found[0]}, …"] if found else []


def files_of(product) -> list[str]:
    """The file that Snakemake knows a product by, if it is there."""
    path = f"{product.path}/made.json" if detport_disk.is_shard(product.path) else product.path
    return [path] if Path(path).exists() else []


def clear_away() -> None:
    """At the start of a real run: what it is going to make again is gone."""
    if detport_engine.sends_jobs_to(workflow) == "slurm":
        try:
            complaint = detport_slurm.unknown_partitions(detport_engine.resource_values(workflow, "slurm_partition"))
        except Failure as error:
            give_up(error, 1)
        if complaint:
            give_up(complaint)
    if detport_engine.is_real_run(workflow):
        jobs = detport_jobs.with_images(detport_engine.jobs(workflow), images_of)
        detport_stale.invalidate(detport_engine.outputs(workflow, pending=True))
        detport_engine.let_jobs_end(workflow)
        CONSOLE.begin(jobs, detport_engine.places(workflow))


def images_of(wildcards, rule: str) -> int | None:
    """How many images a job takes, if it takes those of a dataset or of a shard of it."""
    name = wildcards.get("dataset") or MODELS.get(wildcards.get("model"), {}).get("dataset")
    if "shard" in wildcards:
        shards = CUTS[wildcards["model"], wildcards.get("backend")].shards
        return len(detport_shards.part(range(IMAGES[name]), int(wildcards["shard"]), shards))
    return IMAGES[name] if rule in ("index_dataset", "evaluate", "resample") else None


def check_again() -> None:
    """At the end of a run that went well: what was made is still what the files on disk give, or it is said to be stale."""
    CONSOLE.end()
    if not detport_engine.is_real_run(workflow):
        return
    mine = set(detport_engine.outputs(workflow))
    found = {path: reason for path, reason in stale_files().items() if path in mine}
    for line in detport_stale.summary(found):
        print(f"detport: {line}", file=sys.stderr)
    if found:
        detport_stale.invalidate(found)
        give_up("files were changed while the run was at work; run the same command again", 1)
    tell_end([name for name in MODELS if f"reports/{name}.json" in mine])


def tell_failures() -> None:
    """At the end of a run that failed: a line for every job on the cluster that did."""
    if detport_engine.sends_jobs_to(workflow) != "slurm":
        return
    try:
        lines = detport_slurm.failures(Path(), BEGUN, Path(".snakemake/slurm_logs").resolve())
    except Failure as error:
        lines = [str(error)]
    for line in lines:
        print(f"detport: error: {line}", file=sys.stderr)


def tell_end(models: list[str]) -> None:
    """What came out, for every report of the run."""
    for name in models:
        try:
            found = detport_results.read(Path(f"reports/{name}.json"), "report")
        except Failure as error:
            give_up(error, 1)
        for line in detport_ending.lines(found, f"reports/{name}.txt"):
            print(f"detport: {line}", file=sys.stderr)


def tell_end_again() -> None:
    """The same of a run that finds all its reports made."""
    if detport_engine.is_real_run(workflow):
        there = set(detport_engine.outputs(workflow))
        tell_end([name for name in MODELS if f"reports/{name}.json" in there])


CONSOLE = detport_live.Console(idle=tell_end_again)
detport_engine.watch(workflow, CONSOLE)
