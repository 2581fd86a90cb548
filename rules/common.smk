# The checked configuration, and what rules are told of it. Only code.

import functools
import itertools
import json
import os
import re
import shlex

from detport import canvases as detport_canvases
from detport import compared as detport_compared
from detport import compilers as detport_compilers
from detport import cutting as detport_cutting
from detport import datasets as detport_datasets
from detport import demands as detport_demands
from detport import disk as detport_disk
from detport import lineage as detport_lineage
from detport import made as detport_made
from detport import memory as detport_memory
from detport import schemas as detport_schemas
from detport import shards as detport_shards
from detport import yamlfile as detport_yaml
from detport.report import gates as detport_gates


def load_configuration() -> tuple[dict, dict, dict, dict]:
    """The checked configuration, the models and backends that it names, and what is wrong with other models of it.

    One yaml with a mistake in a zoo of many stops no other model, but the run ends with the exit status of a mistake.
    """
    settings = detport_config.check({key: given(key) for key in config}, "config", "--config")
    for backend, entries in settings["brought"].items():
        require_name(f"brought.{backend}", backend, known_backends())
        for model in entries:
            require_name(
                f"brought.{backend}.{model}", model, {path.stem for path in Path("config/models").glob("*.yaml")}
            )
    for name in settings["backends"]:
        if name not in known_backends():
            expected = detport_yaml.expectation(name, sorted(known_backends()))
            raise UsageError(f"backends: no file config/backends/{name}.yaml; {expected}")
    backends = {name: detport_config.load_backend(backend_file(name)) for name in settings["backends"]}
    models, broken = {}, {}
    for name in settings["models"]:
        try:
            models[name] = checked_model(name, settings["datasets"], backends)
        except UsageError as error:
            broken[name] = error
    for name, error in broken.items():
        if not models or detport_engine.mentions(name):
            raise error
    return settings, models, backends, broken


def checked_model(name: str, known_datasets: dict, backends: dict) -> dict:
    """A model's yaml, if nothing in it is wrong."""
    path = Path(model_file(name))
    model = detport_config.load(path, "model")
    detport_config.check_backend_names(path, known_backends())
    detport_config.check_patches(path, backends.values())
    if model["dataset"] not in known_datasets:
        known = ", ".join(known_datasets)
        raise UsageError(f"{path}: dataset: no dataset {model['dataset']!r} in config; it has {known}")
    if problem := detport_gates.check_references(model, str(path)):
        raise UsageError(problem)
    return model


def require_name(key: str, name: str, known: set[str]) -> None:
    """Refuse a key of the configuration that names a model or a backend that nobody has."""
    if name not in known:
        raise UsageError(f"{key}: there is no {name!r}; {detport_yaml.expectation(name, sorted(known))}")


def given(key: str) -> object:
    """A value of the configuration; --config hands some over as text, for example true."""
    value = config[key]
    return detport_yaml.parse_yaml(value, f"--config: {key}")[0] if isinstance(value, str) else value


def known_backends() -> set[str]:
    """Names of the working directory's and the repository's backends."""
    return {path.stem for folder in (Path(), ROOT) for path in (folder / "config" / "backends").glob("*.yaml")}


def model_file(name: str) -> str:
    return f"config/models/{name}.yaml"


def backend_file(name: str) -> Path:
    """The working directory's own backend of that name, else the repository's."""
    own = Path("config/backends") / f"{name}.yaml"
    return own if own.exists() else ROOT / own


def configurations_of(dataset: str) -> list[str]:
    """The configuration files that say something of a dataset, which together give it as it is in force."""
    files = [file for file in CONFIGURATIONS if dataset in detport_yaml.read_yaml(file)[0].get("datasets", {})]
    if not files or detport_config.load_dataset(files, dataset) != DATASETS[dataset]:
        raise UsageError(f"datasets.{dataset}: change it in a file (--configfile), not with --config")
    return list(map(str, files))


def image_count(dataset: dict) -> int:
    """Images of a dataset, 0 if it does not say how many and its annotations are not there or cannot be read."""
    try:
        return dataset["count"] or detport_datasets.load(dataset["kind"]).count(dataset)
    except OSError:
        return 0  # what is wrong is told when a rule needs them


# On a cluster a shard's tensors lie on the disk of the node that works on it: its profile says `scratch: tmpdir`. Only
# detections, reports and logs go through the shared file system then, so no outputs are kept.
ON_NODES = detport_engine.default_resource(workflow, "scratch") == "tmpdir"

try:
    SETTINGS, MODELS, BACKENDS, BROKEN = load_configuration()
    DATASETS = SETTINGS["datasets"]
    DATASET_FILES = {name: configurations_of(name) for name in DATASETS}
    IMAGES = {name: image_count(dataset) for name, dataset in DATASETS.items()}
    for name, dataset in DATASETS.items():
        IMAGES[name], dataset["shards"] = detport_shards.sizes(
            dataset, IMAGES[name], detport_config.sample_size(dataset, SETTINGS["sample"])
        )
    CUTS = detport_cutting.of_all(MODELS, IMAGES, DATASETS, BACKENDS, SETTINGS["disk_limit_gb"])
    KEEP_GB = 0 if ON_NODES else SETTINGS["keep_outputs_gb"]
    BUDGET = detport_disk.budget(
        MODELS,
        IMAGES,
        {of: cut.largest for of, cut in CUTS.items()},
        BACKENDS,
        SETTINGS | {"keep_outputs_gb": KEEP_GB},
    )
except UsageError as error:
    give_up(error)

if BROKEN and not detport_engine.is_job(workflow):
    for name, error in BROKEN.items():
        print(f"detport: error: {error}; {name} is left out of this run", file=sys.stderr)
    detport_engine.end_with(2, f"detport: error: left out: {'; '.join(map(str, BROKEN.values()))}")

for name in () if detport_engine.is_job(workflow) else DATASET_FILES:
    advice = detport_shards.advice(IMAGES[name], DATASETS[name]["shards"])
    if advice:
        print(f"detport: warning: datasets.{name}.shards: {advice}", file=sys.stderr)

for of, cut in CUTS.items() if not detport_engine.is_job(workflow) else ():
    if of[1] in BACKENDS and (advice := detport_cutting.advice(of, BACKENDS[of[1]], cut)):
        print(f"detport: warning: {advice}", file=sys.stderr)

if not ON_NODES:  # there scratch.sh shares out the disk of each node
    detport_engine.limit(workflow, "scratch_mb", BUDGET.scratch_mb)
MEMORY_MB = None  # elsewhere a scheduler knows what its machines have
if not ON_NODES and detport_engine.runs_here(workflow):
    MEMORY_MB = detport_engine.limit(workflow, "mem_mb", detport_memory.machine_mb())
    for name, backend in () if detport_engine.is_job(workflow) else itertools.product(MODELS, BACKENDS):
        if advice := detport_memory.advice(name, MODELS[name], backend, BACKENDS[backend], MEMORY_MB):
            print(f"detport: warning: {advice}", file=sys.stderr)
SCRIPTS = os.path.relpath(ROOT / "scripts")
# Packages of conda's environments are those of the lock; else jobs run with this Python. A prefix replaces Snakemake's
# own, which is bash's strict mode.
PINNED = detport_engine.uses_conda(workflow)
OWN_PYTHON = "" if PINNED else f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
NODE_DISK = 'export DETPORT_SCRATCH=$TMPDIR/detport-$(id -u); mkdir -p -m 700 "$DETPORT_SCRATCH"; ' * ON_NODES
shell.prefix(f"set -euo pipefail; {ON_KILL}{OWN_PYTHON}{NODE_DISK}")
# The command line is for the report's provenance only. A job of a cluster reads this file again and keeps what it was
# given: it may use all cores of its node as far as Snakemake knows.
if not detport_engine.is_job(workflow):
    os.environ.update(
        DETPORT_COMMAND=shlex.join(["snakemake", *sys.argv[1:]]),
        DETPORT_CORES=str(detport_engine.cores(workflow) or 1),
    )
# For stages that run alone on the machine.
CORES = int(os.environ.get("DETPORT_CORES") or detport_engine.cores(workflow) or 1)


def alternatives(names) -> str:
    """A regular expression for exactly these names; for none it matches nothing."""
    return "|".join(re.escape(name) for name in sorted(names)) if names else "(?!)"


def model_yaml(wildcards) -> str:
    return model_file(wildcards.model)


def backend_yaml(wildcards) -> str:
    return str(backend_file(wildcards.backend))


def canvas_suffixes(model: str) -> list[str]:
    return list(detport_canvases.suffixes(MODELS[model]["input"]).values())


def canvas(wildcards) -> str:
    """Parameter: the canvas of a job, as HEIGHTxWIDTH."""
    names = detport_canvases.suffixes(MODELS[wildcards.model]["input"])
    return next(name for name, suffix in names.items() if suffix == wildcards.canvas)


def dataset_of(wildcards) -> dict:
    return DATASETS[MODELS[wildcards.model]["dataset"]]


def part(wildcards) -> str:
    """Parameter: which shard of how many."""
    return f"{int(wildcards.shard)}/{CUTS[wildcards.model, wildcards.get('backend')].shards}"


def scratch(wildcards) -> str:
    """Parameter: how a job's shell makes $scratch, the folder of a shard's tensors, and removes it at its end."""
    if ON_NODES:
        needed = BUDGET.job_mb[wildcards.model, wildcards.backend]
        return f". {shlex.quote(SCRIPTS)}/scratch.sh {needed} {BUDGET.scratch_mb}"
    return (
        f"scratch=results/{wildcards.model}/{wildcards.backend}/scratch/{wildcards.shard}; trap 'rm -rf $scratch' EXIT"
    )


def scratch_mb(wildcards) -> int:
    """Resource: what they take."""
    return BUDGET.job_mb[wildcards.model, wildcards.backend]


def minutes(wildcards, attempt) -> int:
    """Resource: time of a job that runs a model over a shard, or over a few images."""
    of = wildcards.model, wildcards.backend
    images = CUTS[of].largest if wildcards.get("shard") else SETTINGS["parity"]["images"]
    return detport_demands.minutes(BACKENDS[wildcards.backend], images, attempt)


def few_mb(stage: str):
    """Resource: what the tensors of the few images of a stage take, which a job may need all of."""

    def megabytes(wildcards) -> int:
        model, backend = MODELS[wildcards.model], BACKENDS[wildcards.backend]
        size = SETTINGS[stage]["images"] * detport_disk.image_bytes(model, backend, kept=True)
        return min(max(1, int(size / detport_disk.MB)), BUDGET.scratch_mb)

    return megabytes


def mem_mb(stage: str):
    """Resource: what a job takes that holds a model. More than a local run has is all that it has, so that such a job
    runs alone; where one is started again, it gets more."""

    def megabytes(wildcards, attempt) -> int:
        model, backend = MODELS[wildcards.model], BACKENDS.get(wildcards.get("backend"))
        found = (
            detport_memory.job_mb(stage, model, backend, beside(stage, model)) + ON_NODES * detport_demands.ENGINE_MB
        )
        return int(found * detport_memory.AGAIN ** (attempt - 1))

    return megabytes


def beside(stage: str, model: dict) -> float:
    """Megabytes that a stage keeps beside the model it runs: outputs of three forms of it, tensors that wait for a node."""
    if stage == "layers":
        return SETTINGS["layers"]["memory_gb"] * 1000
    images = SETTINGS["parity"]["images"] if stage in ("parity", "mixed") else 0
    return 3 * images * detport_disk.output_bytes(model) / detport_disk.MB


@functools.cache
def products(model: str) -> list:
    """Everything that is made for a model, the index of its dataset first."""
    dataset = DATASETS[MODELS[model]["dataset"]]
    cuts = {key: CUTS[model, key].shards for key in (None, *BACKENDS)}
    made = detport_lineage.of_model(model, MODELS[model], dataset, BACKENDS, SETTINGS, cuts, PINNED)
    return [index_product(MODELS[model]["dataset"]), *made]


@functools.cache
def resampled_measures(model: str) -> dict[str, list[str]]:
    """The figures that are resampled, by backend or file of recorded detections."""
    dataset = DATASETS[MODELS[model]["dataset"]]
    return detport_compared.measures(MODELS[model], dataset, BACKENDS, SETTINGS["sample"])


@functools.cache
def index_product(dataset: str):
    return detport_lineage.of_dataset(dataset, DATASETS[dataset], SETTINGS, PINNED)


@functools.cache
def identities(*models: str) -> dict[str, str]:
    """What everything that is made for some models has to be; of all models with their summary."""
    made = [product for model in models for product in products(model)]
    return detport_lineage.identities(made + detport_lineage.of_all(MODELS, PINNED) * (list(models) == list(MODELS)))


def expect(wildcards, output) -> str:
    """Parameter: the identity that the output must have."""
    if wildcards.get("dataset"):
        known = detport_lineage.identities([index_product(wildcards.dataset)])
    else:
        known = identities(*([wildcards.model] if wildcards.get("model") else MODELS))
    path = detport_made.told_by(output[0])
    if path not in known:
        give_up(f"{path}: not of this configuration; correct the target, or models, backends, canvases or shards")
    return known[path]


def shard_names(model: str, backend: str | None = None) -> list[str]:
    """Shards of a model on a backend, or of those for tools elsewhere."""
    return [f"{k:04d}" for k in range(CUTS[model, backend].shards)]
