# The functions that tell rules their inputs. Only code.


def required(*needs: tuple[str, str, str]) -> None:
    """Stop with a few lines if something that only the user can bring is missing, or is not of its kind."""
    for path, _, what in needs:
        if "{" in path or "}" in path:
            give_up(f"{path}  ({what}): Snakemake takes braces in a path for a wildcard; rename it")
        if path.startswith("-"):
            give_up(f"{path}  ({what}): programs take a path that begins with a dash for an option; rename it")
    if detport_engine.only_lists():
        return
    problems = [(path, problem(Path(path), kind), what) for path, kind, what in needs]
    lines = [f"  {path}  {found}  ({what})" for path, found, what in problems if found]
    if lines:
        reports_are_stale()
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
    return [weights, *dataset_files(settings["dataset"]), *brought_files(model), *recorded_files(model)]


def dataset_files(name: str) -> list[tuple[str, str, str]]:
    """Every file of a dataset that only the user can bring: path, kind, and what it is."""
    truth = detport_datasets.load(DATASETS[name]["kind"]).ANNOTATIONS
    what = {
        "images": ("folder", "images"),
        "annotations": (truth, "ground truth"),
        "image_set": ("file", "list of images"),
    }
    return [
        (DATASETS[name][key], kind, f"{text}, {', '.join(DATASET_FILES[name])}: datasets.{name}.{key}")
        for key, (kind, text) in what.items()
        if key in DATASETS[name]
    ]


def brought_files(model: str) -> list[tuple[str, str, str]]:
    """What other machines have made of a model: path, kind, and what it is."""
    return [
        (
            path,
            "file" if what == "log" else "folder",
            f"brought, config/config.yaml: brought.{backend}.{model}.{what}",
        )
        for backend in BACKENDS
        for what, path in SETTINGS["brought"].get(backend, {}).get(model, {}).items()
    ]


def recorded_files(model: str) -> list[tuple[str, str, str]]:
    """Recorded detections that gates of a model compare with: path, kind, and what it is."""
    paths = [path for path in resampled_measures(model) if path not in BACKENDS]
    return [(path, "file", f"recorded detections, {model_file(model)}: gates, against") for path in paths]


def recorded_path(wildcards) -> str:
    """The file of recorded detections that a product's name stands for."""
    paths = [path for path, _, _ in recorded_files(wildcards.model)]
    return next(path for path in paths if detport_compared.short(path) == wildcards.recorded)


def recorded_file(wildcards) -> list[str]:
    """The same as an input."""
    return there(recorded_path(wildcards))


def resampled_files(wildcards) -> list[str]:
    """What is resampled for a report, of its backends and of recorded detections."""
    wanted = resampled_measures(wildcards.model)
    return list(detport_compared.places(wildcards.model, wanted, BACKENDS).values())


def index_of(wildcards) -> str:
    """The index of a model's dataset."""
    begin()
    required(*user_files(wildcards.model))
    return detport_lineage.index_path(MODELS[wildcards.model]["dataset"])


def truth_waits(wildcards) -> list:
    """No input: the ground truth is in the record of what is checked, which tells more than file times."""
    begin()
    required(*user_files(wildcards.model))
    return []


def index_waits(wildcards) -> list:
    """No input: the ground truth is in the record of the index, which tells more than file times."""
    begin()
    required(*dataset_files(wildcards.dataset))
    if not detport_engine.is_job(workflow):
        tell_unpaired(wildcards.dataset)
    return []


@functools.cache
def tell_unpaired(dataset: str) -> None:
    """Print what of the classes that models name, and of the dataset's categories, has no partner."""
    try:
        for name, model in MODELS.items():
            if model["dataset"] == dataset:
                for line in detport_datasets.unpaired(DATASETS[dataset], model["decode"]["categories"]):
                    print(f"detport: {name}: {line}", file=sys.stderr)
    except UsageError as error:
        give_up(f"{model_file(name)}: {error}")


def there(path: str) -> list[str]:
    """What only the user can bring, as an input; a list of jobs is possible without.

    Its time says nothing, a folder's least of all: the records compare by content.
    """
    return [] if detport_engine.only_lists() and not Path(path).exists() else [ancient(path)]


def weights_file(wildcards) -> list[str]:
    """The checkpoint, or the ready .onnx, that a model starts from."""
    begin()
    required(*user_files(wildcards.model))
    return there(user_files(wildcards.model)[0][0])


def export_source(wildcards) -> list[str]:
    """Converted weights, or the .onnx of a model that needs no export."""
    ready = "onnx" in MODELS[wildcards.model]
    return weights_file(wildcards) if ready else [f"results/{wildcards.model}/weights.safetensors"]


def simplified_graph(wildcards) -> str:
    """The simplified graph in the flavour that the backend takes."""
    flavour = BACKENDS[wildcards.backend]["flavour"]
    return f"results/{wildcards.model}/onnx/{flavour}/simplified{wildcards.canvas}.onnx"


def calibration(wildcards) -> list[str]:
    """The ranges of tensors that a graph is quantised by, where its backend wants them."""
    calibrates = detport_compilers.calibrates(BACKENDS[wildcards.backend])
    return ["results/{model}/{backend}/calibration{canvas}.json".format(**wildcards)] * calibrates


def mixed_calibration(wildcards) -> list[str]:
    """The same for the graph of the default canvas, which is the one that is searched in."""
    calibrates = detport_compilers.calibrates(BACKENDS[wildcards.backend])
    return [f"results/{wildcards.model}/{wildcards.backend}/calibration.json"] * calibrates


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
        if path is not None:
            required(*brought_files(wildcards.model))
            return there(path)
        if BACKENDS[wildcards.backend]["runs"] == "checkpoint":
            return [f"results/{wildcards.model}/weights.safetensors"]
        return compiled_models(wildcards.model, wildcards.backend)

    return files


def preview_source(wildcards) -> list[str]:
    """What the backend opens; there is nothing to look at before a run of what was brought."""
    if brought(wildcards.model, wildcards.backend, "outputs"):
        give_up(
            f"preview of {wildcards.backend}: its outputs come from another machine, and nothing runs here: look at"
            f" reports/{wildcards.model}.html, or take outputs out of brought.{wildcards.backend}.{wildcards.model}"
        )
    return source_of("outputs")(wildcards)


def source_flag(what: str):
    """Parameter: how the stage is told about its source."""
    return lambda wildcards: f"--from-{what}" if brought(wildcards.model, wildcards.backend, what) else "--compiled"


def layers_graph(wildcards) -> str:
    """The float32 graph that a backend's is compared with: that of the default canvas."""
    return f"results/{wildcards.model}/onnx/{BACKENDS[wildcards.backend]['flavour']}/simplified.onnx"


def layers_source(wildcards) -> list[str]:
    """The compiled graph whose nodes are looked into, that of the default canvas, or the tensors of a device."""
    if brought(wildcards.model, wildcards.backend, "dump"):
        return source_of("dump")(wildcards)
    if not detport_compilers.steps(BACKENDS[wildcards.backend]):
        give_up(
            f"layers of {wildcards.backend}: its tensors can only be looked into where it runs; bring them, and name"
            f" their folder under brought.{wildcards.backend}.{wildcards.model}.dump"
        )
    return compiled_models(wildcards.model, wildcards.backend)[:1]


def family_env(wildcards) -> str:
    """The environment that a family runs models in."""
    family = detport_schemas.plugin("backends", BACKENDS[wildcards.backend]["family"])
    return f"../envs/{family.get('environment', 'run')}.yaml"


# A function is called for every job, also where nobody makes environments: a quarter of a dry run's time.
RUNNER_ENV = family_env if PINNED else "../envs/run.yaml"


def shards_of(form: str):
    """Input: one file per shard, in order."""

    def files(wildcards) -> list[str]:
        return [form.format(**wildcards, shard=shard) for shard in shard_names(wildcards.model, wildcards.backend)]

    return files


def detections_of(wildcards) -> list[str]:
    """Detections of every backend, one behind the other, each in the order of its shards."""
    return [
        f"results/{wildcards.model}/{backend}/detections/{shard}.json.gz"
        for backend in BACKENDS
        for shard in shard_names(wildcards.model, backend)
    ]


def sample_flag(wildcards) -> str:
    """Parameter: how many images of the dataset, if not all."""
    return f"--sample {SETTINGS['sample']}" if SETTINGS["sample"] else ""


def image_set(wildcards) -> str:
    """Name of the dataset's list of images."""
    return Path(dataset_of(wildcards).get("image_set", "test")).stem


def result_files(wildcards) -> list[str]:
    """Folders of VOC's result files that belong to a report, if the configuration asks for them."""
    kind = MODELS[wildcards.model]["metric"]["kind"]
    if not SETTINGS["comp4"] or not detport_schemas.plugin("metrics", kind).get("result_files"):
        return []
    return [f"results/{wildcards.model}/{backend}/comp4" for backend in BACKENDS]


def run_here(wildcards) -> list[str]:
    """Backends that compile the model, of which no outputs were brought."""
    return [
        name
        for name, backend in BACKENDS.items()
        if backend["runs"] == "compiled" and brought(wildcards.model, name, "outputs") is None
    ]


def patch_files(wildcards) -> list[str]:
    """What the patches of every compiled graph of a report did."""
    begin()
    suffixes = canvas_suffixes(wildcards.model)
    return [
        f"results/{wildcards.model}/{name}/patches{suffix}.json" for name in run_here(wildcards) for suffix in suffixes
    ]


def parity_files(wildcards) -> list[str]:
    """What every step changes on each backend, if the configuration asks for it."""
    asked = SETTINGS["parity"]["images"] > 0
    return [f"results/{wildcards.model}/{name}/parity.json" for name in BACKENDS if asked]


def rung(step: str):
    """Input of parity: the files of a form of the model, if there is such a one on this machine."""

    def files(wildcards) -> list[str]:
        begin()
        model, backend = MODELS[wildcards.model], BACKENDS[wildcards.backend]
        if brought(wildcards.model, wildcards.backend, "outputs") is not None:
            return []
        if step == "weights":
            return [f"results/{wildcards.model}/weights.safetensors"] if "network" in model else []
        if backend["runs"] != "compiled":
            return []
        if step == "compiled":
            return compiled_models(wildcards.model, wildcards.backend)
        folder = wildcards.backend if step == "patched" else f"onnx/{backend['flavour']}"
        return [
            f"results/{wildcards.model}/{folder}/{step}{suffix}.onnx" for suffix in canvas_suffixes(wildcards.model)
        ]

    return files


def calibration_files(wildcards) -> list[str]:
    """What the graphs of a report were quantised by."""
    begin()
    return [
        f"results/{wildcards.model}/{name}/calibration{suffix}.json"
        for name in run_here(wildcards)
        if detport_compilers.calibrates(BACKENDS[name])
        for suffix in canvas_suffixes(wildcards.model)
    ]


def packed_files(wildcards) -> list[str]:
    """What a bundle holds of what was made: the report and all that it rests on."""
    bundle = next(found for found in products(wildcards.model) if found.path == f"reports/{wildcards.model}.zip")
    return bundle.inputs["files"]


def provenance_files(wildcards) -> list[str]:
    """Every file between the checkpoint and the compiled models of a report."""
    model = wildcards.model
    ready = MODELS[model].get("onnx")
    files = [f"results/{model}/weights.safetensors"] if ready is None else [ready] * Path(ready).exists()
    for name in run_here(wildcards):
        graphs = f"results/{model}/onnx/{BACKENDS[name]['flavour']}"
        for suffix in canvas_suffixes(model):
            files += [f"{graphs}/exported{suffix}.onnx", f"{graphs}/simplified{suffix}.onnx"]
            files.append(f"results/{model}/{name}/patched{suffix}.onnx")
        files += compiled_models(model, name)
    files += [path for path, _, _ in recorded_files(model) if Path(path).exists()]
    return list(dict.fromkeys(files))
