# The functions that tell rules their inputs. Only code.

from collections import UserString


def required(*needs: tuple[str, str, str]) -> None:
    """Stop with a few lines if something that only the user can bring is missing, or is not of its kind."""
    begin()
    for path, _, what in needs:
        if "{" in path or "}" in path:
            give_up(f"{path}  ({what}): Snakemake takes braces in a path for a wildcard; rename it")
        if path.startswith("-"):
            give_up(f"{path}  ({what}): programs take a path that begins with a dash for an option; rename it")
    problems = [(path, problem(Path(path), kind), what) for path, kind, what in needs]
    lines = [f"  {path}  {found}  ({what})" for path, found, what in problems if found]
    if lines:
        give_up(
            "files are missing or cannot be used. Put them there, or correct their paths:\n"
            + "\n".join(lines)
            + f"\nPaths are relative to {os.getcwd()}. To try detport without any data: make demo"
        )


def problem(path: Path, kind: str) -> str:
    """Why a path is not a readable file or folder, as `kind` says; empty if it is."""
    if not path.exists():
        return "is missing"
    if path.is_dir() != (kind == "folder"):
        return f"is not a {kind}"
    return "" if os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK) else "may not be read"


def user_files(model: str) -> list[tuple[str, str, str]]:
    """Every file of a model that only the user can bring: path, kind, and what it is."""
    settings = MODELS[model]
    if "onnx" in settings:
        weights = (settings["onnx"], "file", f"the model, {model_file(model)}: onnx")
    else:
        weights = (settings["checkpoint"]["file"], "file", f"trained weights, {model_file(model)}: checkpoint.file")
    return [weights, *dataset_files(settings["dataset"])]


def dataset_files(name: str) -> list[tuple[str, str, str]]:
    """Every file of a dataset that only the user can bring: path, kind, and what it is."""
    truth = detport_datasets.load(DATASETS[name]["kind"]).ANNOTATIONS
    what = {
        "images": ("folder", "images"),
        "annotations": (truth, "ground truth"),
        "image_set": ("file", "list of images"),
    }
    return [
        (DATASETS[name][key], kind, f"{text}, config/config.yaml: datasets.{name}.{key}")
        for key, (kind, text) in what.items()
        if key in DATASETS[name]
    ]


def weights_file(wildcards) -> str:
    """The checkpoint, or the ready .onnx, that a model starts from."""
    required(*user_files(wildcards.model))
    return user_files(wildcards.model)[0][0]


def dataset_name(wildcards) -> str:
    """The dataset of a job, which is about one or about a model."""
    return wildcards.dataset if hasattr(wildcards, "dataset") else MODELS[wildcards.model]["dataset"]


def truth_file(wildcards) -> str:
    """The file of the ground truth that Snakemake watches."""
    name = dataset_name(wildcards)
    required(*(user_files(wildcards.model) if hasattr(wildcards, "model") else dataset_files(name)))
    return detport_datasets.load(DATASETS[name]["kind"]).watched(DATASETS[name])


@functools.cache
def truth_signatures(name: str) -> tuple[str, str]:
    required(*dataset_files(name))
    try:
        return detport_datasets.load(DATASETS[name]["kind"]).signatures(DATASETS[name])
    except UsageError as error:
        give_up(error)


def index_signature(wildcards) -> str:
    """Parameter: changes with what the index depends on in annotations that Snakemake does not watch."""
    return truth_signatures(dataset_name(wildcards))[0]


def truth_signature(wildcards) -> str:
    """Parameter: changes with any of the annotations that Snakemake does not watch."""
    return truth_signatures(dataset_name(wildcards))[1]


def detections_of(wildcards) -> list[str]:
    """Detections of every shard, in order."""
    folder = f"results/{wildcards.model}/{wildcards.backend}/detections"
    return [f"{folder}/{shard}.json.gz" for shard in shard_names(wildcards.model)]


def result_files(wildcards) -> list[str]:
    """Folders of VOC's result files that belong to a report, if the configuration asks for them."""
    kind = MODELS[wildcards.model]["metric"]["kind"]
    if not SETTINGS["comp4"] or not detport_schemas.plugin("metrics", kind).get("result_files"):
        return []
    return [f"results/{wildcards.model}/{backend}/comp4" for backend in BACKENDS]


def image_set(wildcards) -> str:
    """Name of the dataset's list of images."""
    return Path(dataset_of(wildcards).get("image_set", "test")).stem


def masks_flag(wildcards) -> UserString:
    """Parameter: whether a model is scored on the masks of this dataset, so that bad ones are found before inference.

    The index is the same either way. Snakemake does not record parameters of a class of its own, so nothing reruns.
    """
    metrics = [model["metric"] for model in MODELS.values() if model["dataset"] == wildcards.dataset]
    return UserString("--masks" if any(map(detport_config.scored_masks, metrics)) else "")


def images_signature(wildcards) -> str:
    """Changes when an image is added, removed, or replaced by one of another size; not with file times."""
    required(*dataset_files(wildcards.dataset))
    digest, folder = hashlib.sha256(), DATASETS[wildcards.dataset]["images"]
    for name, size in sorted(detport_disk.sizes(folder)):
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:12]


def export_source(wildcards) -> str:
    """Converted weights, or the .onnx of a model that needs no export."""
    if "onnx" in MODELS[wildcards.model]:
        return weights_file(wildcards)
    return f"results/{wildcards.model}/weights.safetensors"


def simplified_graph(wildcards) -> str:
    """The simplified graph in the flavour that the backend takes."""
    flavour = BACKENDS[wildcards.backend]["flavour"]
    return f"results/{wildcards.model}/onnx/{flavour}/simplified{wildcards.canvas}.onnx"


def runnable(wildcards) -> list[str]:
    """What the backend of a job opens."""
    return runnable_files(wildcards.model, wildcards.backend)


def runnable_files(model: str, backend: str) -> list[str]:
    """A backend's compiled model of every canvas, or the converted checkpoint itself."""
    if BACKENDS[backend]["runs"] == "checkpoint":
        return [f"results/{model}/weights.safetensors"]
    return compiled_models(model, backend)


def compiled_models(model: str, backend: str) -> list[str]:
    """Of every canvas model.onnx or, for Ascend, model.om."""
    kind = detport_compilers.suffix(BACKENDS[backend]["family"])
    return [f"results/{model}/{backend}/model{suffix}.{kind}" for suffix in canvas_suffixes(model)]


def brought(model: str, backend: str, what: str) -> str | None:
    """The outputs or the log that another machine has made for a model on a backend."""
    return SETTINGS["brought"].get(backend, {}).get(model, {}).get(what)


def source_of(what: str):
    """Input of a stage that runs the model: what was brought from another machine, or else what the backend opens."""

    def files(wildcards) -> list[str]:
        path = brought(wildcards.model, wildcards.backend, what)
        if path is None:
            return runnable(wildcards)
        kind = "folder" if what == "outputs" else "file"
        key = f"brought.{wildcards.backend}.{wildcards.model}"
        required((path, kind, f"brought from another machine, config.yaml: {key}"))
        return [path]

    return files


def source_flag(what: str):
    """Parameter: how the stage is told about its source."""
    return lambda wildcards: f"--from-{what}" if brought(wildcards.model, wildcards.backend, what) else "--compiled"


def devices(wildcards) -> int:
    """Resource npu: one device per running job of a backend that has devices."""
    own = "devices" in BACKENDS[wildcards.backend]
    return 1 if own and brought(wildcards.model, wildcards.backend, "outputs") is None else 0


def runner_env(wildcards) -> str:
    """The environment that a family runs models in."""
    family = detport_schemas.plugin("backends", BACKENDS[wildcards.backend]["family"])
    return f"../envs/{family.get('environment', 'run')}.yaml"


def patch_files(wildcards) -> list[str]:
    """What the patches of every compiled graph of a report did."""
    return [
        f"results/{wildcards.model}/{name}/patches{suffix}.json"
        for name, backend in BACKENDS.items()
        if backend["runs"] == "compiled" and brought(wildcards.model, name, "outputs") is None
        for suffix in canvas_suffixes(wildcards.model)
    ]


def provenance_files(wildcards) -> list[str]:
    """Every file between the checkpoint and the compiled models of a report."""
    model = wildcards.model
    ready = MODELS[model].get("onnx")
    files = [f"results/{model}/weights.safetensors"] if ready is None else [ready] * Path(ready).exists()
    for name, backend in BACKENDS.items():
        if backend["runs"] == "compiled" and brought(model, name, "outputs") is None:
            graphs = f"results/{model}/onnx/{backend['flavour']}"
            for suffix in canvas_suffixes(model):
                files += [f"{graphs}/exported{suffix}.onnx", f"{graphs}/simplified{suffix}.onnx"]
                files.append(f"results/{model}/{name}/patched{suffix}.onnx")
            files += compiled_models(model, name)
    return list(dict.fromkeys(files))
