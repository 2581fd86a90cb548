# Configuration, and the functions that tell rules their parameters. Only code.

import functools
import hashlib
import os
import re
import shlex

from snakemake.io import flag

from detport import canvases as detport_canvases
from detport import code as detport_code
from detport import compilers as detport_compilers
from detport import datasets as detport_datasets
from detport import disk as detport_disk
from detport import runs as detport_runs
from detport import schemas as detport_schemas
from detport import yamlfile as detport_yaml
from detport.report import gates as detport_gates


def load_configuration() -> tuple[dict, dict, dict]:
    """The checked configuration, and the models and backends that it names."""
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
    models = {name: detport_config.load(Path(model_file(name)), "model") for name in settings["models"]}
    backends = {name: detport_config.load_backend(backend_file(name)) for name in settings["backends"]}
    for name, model in models.items():
        detport_config.check_backend_names(Path(model_file(name)), known_backends())
        detport_config.check_patches(Path(model_file(name)), backends.values())
        if model["dataset"] not in settings["datasets"]:
            known = ", ".join(settings["datasets"])
            raise UsageError(f"{model_file(name)}: dataset: no dataset {model['dataset']!r} in config; it has {known}")
        problem = detport_gates.check_references(model, model_file(name))
        if problem:
            raise UsageError(problem)
        for backend in backends.values():
            if "onnx" in model and backend["runs"] == "checkpoint":
                raise UsageError(f"{model_file(name)}: is ONNX already; backend {backend['name']} needs a checkpoint")
    return settings, models, backends


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


def dataset_file(name: str) -> str:
    """The configuration file that holds a dataset as it is in force."""
    for file in reversed(workflow.configfiles or ["config/config.yaml"]):
        datasets = (detport_yaml.read_yaml(Path(file))[0] or {}).get("datasets", {})
        if datasets.get(name) and detport_config.load_dataset(Path(file), name) == SETTINGS["datasets"][name]:
            return str(file)
    raise UsageError(f"datasets.{name}: differs from every configuration file; change it in a file, not with --config")


try:
    SETTINGS, MODELS, BACKENDS = load_configuration()
    DATASETS = SETTINGS["datasets"]
    DATASET_FILES = {model["dataset"]: dataset_file(model["dataset"]) for model in MODELS.values()}
except UsageError as error:
    give_up(error)

# No more jobs at once than there are devices; --resources npu=N sets another limit.
NPUS = {device for backend in BACKENDS.values() for device in backend.get("devices", [])}
if NPUS:
    workflow.resource_settings.resources.setdefault("npu", len(NPUS))

# Jobs run with this Python, unless conda provides one per rule. A prefix replaces Snakemake's own, which is bash's
# strict mode.
if not any(str(method) == "conda" for method in workflow.deployment_settings.deployment_method):
    shell.prefix(f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")
# The command line is for the report's provenance only; as a parameter it would make reports rerun.
# A job of a cluster reads this file again and keeps the command that it was given.
if not workflow.remote_exec:
    os.environ.update(DETPORT_COMMAND=shlex.join(["snakemake", *sys.argv[1:]]))


def alternatives(names) -> str:
    """A regular expression for exactly these names; for none it matches nothing."""
    return "|".join(re.escape(name) for name in sorted(names)) if names else "(?!)"


def image_count(dataset: dict) -> int:
    """Images of a dataset, 0 if it does not say how many and its annotations are not there or cannot be read."""
    try:
        if dataset["count"]:
            return dataset["count"]
        return detport_datasets.load(dataset["kind"]).count(dataset)
    except OSError:
        return 0  # what is wrong is told when a rule needs them


try:
    IMAGES = {name: image_count(dataset) for name, dataset in DATASETS.items()}
    BUDGET = detport_disk.budget(MODELS, DATASETS, IMAGES, BACKENDS, SETTINGS)
    KEEPING_OUTPUTS = set(BUDGET.kept)
except UsageError as error:
    give_up(f"config/config.yaml: {error}")


# Where a backend's work on a shard is, temporary or kept.
OUTPUTS = "results/{model}/{backend}/outputs/{shard}"
DETECTIONS = "results/{model}/{backend}/detections/{shard}.json.gz"
# A mark of room is waited for by its name, so the name tells for which backends.
BACKENDS_DIGEST = hashlib.sha256("\0".join(BACKENDS).encode()).hexdigest()[:8]


def script(name: str) -> str:
    """Path of a stage's script."""
    return os.path.relpath(ROOT / "scripts" / name)


def settings(stage: str):
    """Parameter: what the stage reads of the yaml files, and nothing else; of canvases only the job's own."""

    def text(wildcards):
        backend = BACKENDS[wildcards.backend] if hasattr(wildcards, "backend") else None
        model = MODELS[wildcards.model]
        if hasattr(wildcards, "canvas"):
            model = detport_canvases.select(model, canvas(wildcards))
        return detport_config.settings_text(model, backend, stage)

    return text


def code(stage: str):
    """Parameter: digest of the code that the stage runs for this model and backend."""

    def digest(wildcards):
        backend = BACKENDS[wildcards.backend] if hasattr(wildcards, "backend") else None
        plugins = detport_config.plugins(MODELS[wildcards.model], backend, stage)
        return detport_code.digest(f"{stage}.py", plugins)

    return digest


def script_code(name: str) -> str:
    """Parameter: digest of a script that reads neither a model's yaml nor a backend's."""
    return detport_code.digest(name, [])


def dataset_code(wildcards) -> str:
    """Parameter: digest of the code that indexes this kind of dataset."""
    kind = DATASETS[wildcards.dataset]["kind"]
    return detport_code.digest("index_dataset.py", [f"detport.datasets.{kind}"])


def model_yaml(wildcards) -> str:
    return model_file(wildcards.model)


def backend_yaml(wildcards) -> str:
    return str(backend_file(wildcards.backend))


def canvas_suffixes(model: str) -> list[str]:
    """What the file names of a model's graphs say of their canvas: nothing for the first, -HEIGHTxWIDTH for others."""
    return ["", *(f"-{name}" for name in list(detport_canvases.by_name(MODELS[model]["input"]))[1:])]


def canvas(wildcards) -> str:
    """Parameter: the canvas of a job, as HEIGHTxWIDTH."""
    return wildcards.canvas.removeprefix("-") or next(iter(detport_canvases.by_name(MODELS[wildcards.model]["input"])))


def dataset_of(wildcards) -> dict:
    return DATASETS[MODELS[wildcards.model]["dataset"]]


def shard_names(model: str) -> list[str]:
    return [f"{k:04d}" for k in range(DATASETS[MODELS[model]["dataset"]]["shards"])]


def index_of(wildcards) -> str:
    return f"results/datasets/{MODELS[wildcards.model]['dataset']}/index.tsv"
