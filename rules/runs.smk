# One run at a time in a folder, and room on its disk. Only code.


def begin() -> None:
    """Before a real run locks its files: be the only run here, and clear away what earlier ones left.

    Input functions call it, because only when they are evaluated does Snakemake know whether it is a real run.
    """
    real = workflow.executor_plugin is not None and not workflow.dryrun
    if not (real and workflow.is_main_process and workflow.execution_settings.lock) or detport_runs.holds():
        return
    notemp, needed_by = workflow.storage_settings.notemp, temporary_folders()
    tops = sorted({str(path.parent) for path in needed_by})
    try:
        said, before = detport_runs.claim(Path(), {"notemp": notemp, "temporary": tops})
    except Failure as error:
        give_up(error, 1)
    detport_stopped.watch(os.environ[detport_processes.VARIABLE])
    if before and not (notemp or before.get("notemp")):
        for path in detport_disk.remove_used(Path(), needed_by):
            said.append(f"removed {path}, which an earlier run had used up")
    if not notemp:
        kept = {f"results/{model}/{backend}/outputs" for model in KEEPING_OUTPUTS for backend in BACKENDS}
        once = filter(re.compile(r"results(/[\w-][\w.-]*){2}/outputs").fullmatch, (before or {}).get("temporary", []))
        for path in detport_disk.remove_strangers(Path(), map(Path, {*tops, *once} - kept), needed_by):
            said.append(f"removed {path}, which an earlier run left and no shard of this one owns")
    for line in said:
        print(f"detport: {line}", file=sys.stderr)


def only_asks(wildcards) -> list:
    """No input; a target that makes nothing leaves the folder's locks alone if it is the only one, whosever they are."""
    if len(workflow.dag_settings.targets) == 1:
        workflow.persistence.lock = workflow.persistence.noop
    return []


@functools.cache
def targeted() -> list[str]:
    """Models that the run's targets name; all if there is none or one that is not of a single model."""
    named = set()
    for target in map(Path, workflow.dag_settings.targets):
        top, *rest = target.parts
        name = rest[0] if top == "results" and len(rest) > 1 else target.stem if top == "reports" and rest else None
        if name not in MODELS:
            return list(MODELS)
        named.add(name)
    return [name for name in MODELS if name in named] or list(MODELS)


@functools.cache
def windows() -> dict[str, int]:
    """How many shards of each model may be there at once: those of the run share what kept outputs of all leave."""
    sizes = {name: BUDGET.shards[name] for name in targeted()}
    return detport_disk.windows(sizes, sum(BUDGET.kept.values()), SETTINGS["disk_limit_gb"] * detport_disk.GB)


def temporary_folders() -> dict[Path, list[Path]]:
    """Every temporary folder of a run, and what it is needed for."""
    needed_by = {}
    for model in targeted():
        for shard in shard_names(model):
            done = done_files(model, shard)
            needed_by[Path(f"results/{model}/shards/{shard}")] = done
            if model not in KEEPING_OUTPUTS:
                detections = shard_files(model, shard, DETECTIONS)
                needed_by |= {
                    outputs: [found]
                    for outputs, found in zip(shard_files(model, shard, OUTPUTS), detections, strict=True)
                }
    return needed_by


def done_files(model: str, shard: str) -> list[Path]:
    """What exists as soon as a shard takes no temporary disk any more: outputs that are kept, else detections."""
    return shard_files(model, shard, OUTPUTS if model in KEEPING_OUTPUTS else DETECTIONS)


def shard_files(model: str, shard: str, form: str) -> list[Path]:
    """A shard's outputs or detections of every backend."""
    return [Path(form.format(model=model, backend=name, shard=shard)) for name in BACKENDS]


def room(wildcards):
    """Input: a mark that there is room for the shard, or only the index where there is from the start.

    The mark is flagged so that Snakemake records it by a fixed name: that another limit makes the shard wait for
    another one, or the run has other backends, is no reason to prepare it again. A cluster's job has waited already.
    """
    before = int(wildcards.shard) - windows()[wildcards.model]
    if before < 0 or not workflow.is_main_process:
        mark = index_of(wildcards)
    else:
        mark = f"results/{wildcards.model}/room/{BACKENDS_DIGEST}/{wildcards.shard}-after-{before:04d}"
    return flag(mark, "sourcecache_entry", "room")


def order_times() -> None:
    """At the end of a run: see detport.disk.order_times."""
    for model in MODELS:
        inputs = [f"results/datasets/{MODELS[model]['dataset']}/index.tsv"]
        inputs += [file for name in BACKENDS for file in runnable_files(model, name)]
        files = [
            {
                "benchmarks": [Path(f"benchmarks/preprocess/{model}/{shard}.tsv")],
                "outputs": shard_files(model, shard, OUTPUTS),
                "detections": shard_files(model, shard, DETECTIONS),
            }
            for shard in shard_names(model)
        ]
        results = [f"results/{model}/{name}/accuracy.json" for name in BACKENDS]
        detport_disk.order_times([Path(path) for path in inputs], files, [Path(path) for path in results])
