"""What follows from what: every file that a configuration makes, by which recipe and from what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from detport import canvases, compared, compilers, config, datasets, made, sampling, several
from detport.errors import UsageError
from detport.page import templates


class Source(NamedTuple):
    """Files that a person brought: their folder, and their names; None for the names that are on record.

    Where only a part of their content matters, `signature` tells it, and the record holds what it was.
    """

    folder: Path
    names: Sequence[str] | None
    signature: Callable[[], str] | None = None


class Product(NamedTuple):
    """A file or folder that a stage makes."""

    path: str
    recipe: dict
    inputs: dict[str, list[str]]  # paths of other products by the role that they have
    sources: dict[str, Source]
    folder: bool = False  # what another stage reads and nobody else; once that is done it may be gone


def of_dataset(name: str, dataset: dict, settings: dict, pinned: bool = False) -> Product:
    """The index of a dataset, or of its sample."""
    kind, sample = datasets.load(dataset["kind"]), config.sample_size(dataset, settings["sample"])
    truth = Source(Path(), readable(kind.files, dataset, []), lambda: signature_of(kind, dataset, sample))
    sources = {"truth": truth, "images": Source(Path(dataset["images"]), None)}
    recipe = index_recipe(dataset, settings["on_bad_image"], sample, pinned)
    return Product(index_path(name), recipe, {}, sources)


def signature_of(kind: ModuleType, dataset: dict, sample: int | None) -> str:
    """What the index takes from the ground truth; of one that cannot be read, the complaint."""
    try:
        rows = kind.index_rows(dataset)
        if sample is not None:
            rows = sampling.choose(rows, kind.truth(dataset, rows), sample)
        return made.digest_of(rows)
    except (UsageError, OSError) as error:
        return str(error)


def readable(tell: Callable, dataset: dict, otherwise: object) -> object:
    """Which files a ground truth is in; of one that cannot be read, none on any record: its stage complains."""
    try:
        return tell(dataset)
    except (UsageError, OSError):
        return otherwise


def index_path(dataset: str) -> str:
    return f"results/datasets/{dataset}/index.tsv"


def index_recipe(dataset: dict, on_bad_image: str, sample: int | None, pinned: bool = False) -> dict:
    sample = config.sample_size(dataset, sample)
    settings = {"kind": dataset["kind"], "split": dataset.get("split"), "on_bad_image": on_bad_image, "sample": sample}
    return made.recipe("index_dataset", settings, [f"detport.datasets.{dataset['kind']}"], pinned)


def stage_recipe(stage: str, model: dict, backend: dict | None = None, pinned: bool = False, **more: object) -> dict:
    """The recipe of a stage, from what it sees of a model's yaml and what its command line adds."""
    settings = config.settings(model, backend, stage) | more
    return made.recipe(stage, settings, config.plugins(model, backend, stage), pinned)


def check_recipe(model: dict, dataset: dict, sample: int | None, pinned: bool = False) -> dict:
    """The recipe of the check, which reads the ground truth by the code of the dataset's kind."""
    settings = {"metric": model["metric"], "categories": model["decode"]["categories"], "dataset": dataset["kind"]}
    plugins = [f"detport.metrics.{model['metric']['kind']}", f"detport.datasets.{dataset['kind']}"]
    settings |= {"split": dataset.get("split"), "sample": config.sample_size(dataset, sample)}
    return made.recipe("check", settings, plugins, pinned)


def evaluate_recipe(model: dict, dataset: dict, pinned: bool = False, **more: object) -> dict:
    """The recipe of the evaluation, which reads the ground truth by the code of the dataset's kind."""
    settings = config.settings(model, None, "evaluate") | {"dataset": dataset["kind"]} | more
    plugins = [*config.plugins(model, None, "evaluate"), f"detport.datasets.{dataset['kind']}"]
    return made.recipe("evaluate", settings, plugins, pinned)


def resample_recipe(model: dict, dataset: dict, measures: list[str], pinned: bool = False) -> dict:
    """The recipe of the resamples of some figures, which reads the ground truth too."""
    settings = config.settings(model, None, "resample") | {"dataset": dataset["kind"], "measures": measures}
    plugins = [*config.plugins(model, None, "resample"), f"detport.datasets.{dataset['kind']}"]
    return made.recipe("resample", settings, plugins, pinned)


def doctor_recipe(model: dict, dataset: dict, pinned: bool = False) -> dict:
    """The recipe of the doctor, which reads the ground truth too."""
    settings = config.settings(model, None, "doctor") | {"dataset": dataset["kind"]}
    plugins = [*config.plugins(model, None, "doctor"), f"detport.datasets.{dataset['kind']}"]
    return made.recipe("doctor", settings, plugins, pinned)


def parity_recipe(model: dict, backend: dict, pinned: bool = False, **more: object) -> dict:
    """The recipe of the ladder, which runs the network itself too."""
    settings = config.settings(model, backend, "parity") | more
    plugins = config.plugins(model, backend, "parity")
    if "network" in model:
        plugins.append("detport.backends.pytorch")
    return made.recipe("parity", settings, dict.fromkeys(plugins), pinned)


def page_recipe(model: dict, dataset: dict, images: str, pinned: bool = False) -> dict:
    """The recipe of the page, which shows the ground truth on images, by templates that are no code; of the decoder it
    only needs the names of categories."""
    settings = {"metric": model["metric"], "categories": model["decode"]["categories"], "dataset": dataset["kind"]}
    settings |= {"images": images, "templates": templates.digest()}
    plugins = [f"detport.metrics.{model['metric']['kind']}", f"detport.datasets.{dataset['kind']}"]
    return made.recipe("page", settings, plugins, pinned)


def layers_page_recipe(name: str, pinned: bool = False) -> dict:
    """The recipe of the page of layers, whose templates are no code."""
    return made.recipe("layers_page", {"name": name, "templates": templates.digest()}, pinned=pinned)


def bundle_recipe(dataset: dict, pinned: bool = False) -> dict:
    """The recipe of the bundle, which packs the ground truth by the code of the dataset's kind."""
    settings = {"dataset": {key: dataset[key] for key in sorted(dataset) if key != "shards"}}
    return made.recipe("bundle", settings, [f"detport.datasets.{dataset['kind']}"], pinned)


class Plan(NamedTuple):
    """What is to be made of a model."""

    name: str
    model: dict
    dataset: dict
    backends: Mapping[str, dict]
    settings: dict
    cuts: Mapping[str | None, int]  # shards on every backend, and under None for tools elsewhere
    pinned: bool = False  # versions are those of the lock

    @property
    def top(self) -> str:
        return f"results/{self.name}"

    @property
    def index(self) -> list[str]:
        return [index_path(self.model["dataset"])]

    @property
    def weights(self) -> list[str]:
        return [f"{self.top}/weights.safetensors"]

    @property
    def checked(self) -> list[str]:
        return [f"{self.top}/checked.json"]

    def truth(self) -> dict[str, Source]:
        """The files that detections are scored against."""
        return {
            "annotations": Source(*readable(datasets.load(self.dataset["kind"]).scored, self.dataset, (Path(), [])))
        }

    def brought(self, key: str) -> dict[str, str]:
        """What another machine has made on a backend."""
        return self.settings["brought"].get(key, {}).get(self.name, {})

    def resampled(self, measures: list[str]) -> dict:
        """The recipe of the resamples of some figures."""
        return resample_recipe(config.visible(self.model, "resample", None), self.dataset, measures, self.pinned)

    def recipe(self, stage: str, backend: dict | None = None, canvas: str | None = None, **more: object) -> dict:
        """The recipe of a stage."""
        selected = canvases.select(self.model, canvas) if canvas else self.model
        return stage_recipe(stage, config.visible(selected, stage, backend), backend, self.pinned, **more)


def of_model(
    name: str,
    model: dict,
    dataset: dict,
    backends: Mapping[str, dict],
    settings: dict,
    cuts: Mapping[str | None, int],
    pinned: bool = False,
) -> list[Product]:
    """Everything that is made for a model behind the index of its dataset, each after what it is made from."""
    plan = Plan(name, model, dataset, backends, settings, cuts, pinned)
    found = [
        Product(f"shards/{name}/{k:04d}", each, {"index": plan.index}, {})
        for k, each in enumerate(prepared(plan, None))
    ]
    found.append(Product(plan.checked[0], check_recipe(model, dataset, settings["sample"], pinned), {}, plan.truth()))
    found += graphs(plan)
    examined = {"index": plan.index, "onnx": [f"{plan.top}/onnx/standard/simplified.onnx"]}
    doctor = doctor_recipe(config.visible(model, "doctor", None), dataset, pinned)
    found.append(Product(f"{plan.top}/doctor.txt", doctor, examined, plan.truth()))
    wanted = compared.measures(model, dataset, backends, settings["sample"])
    places = compared.places(name, wanted, backends)
    for path in (key for key in wanted if key not in backends):
        scored, truth = {"index": plan.index, "checked": plan.checked}, plan.truth() | {"recorded": file(path)}
        found.append(Product(places[path], plan.resampled(wanted[path]), scored, truth))
    for key in backends:
        compiled = compiled_graphs(plan, key)
        runnable = [product.path for product in compiled if product.recipe["stage"] == "compile"] or plan.weights
        own = measured(plan, key, runnable, wanted.get(key))
        found += [*compiled, *own, *explained(plan, key)]
    told = reports(plan, found, list(places.values()))
    return [*found, *told, bundle(plan, found, told)]


def prepared(plan: Plan, key: str | None) -> list[dict]:
    """The recipes of a backend's shards, with what the command line of preprocess says of each."""
    count, on_bad_image = plan.cuts[key], plan.settings["on_bad_image"]
    return [plan.recipe("preprocess", shard=f"{k}/{count}", on_bad_image=on_bad_image) for k in range(count)]


def graphs(plan: Plan) -> list[Product]:
    """From the checkpoint to simplified graphs, one for every flavour and canvas."""
    found, start, sources = [], {"weights": plan.weights}, {}
    if "onnx" in plan.model:
        start, sources = {}, {"onnx": Source(Path(plan.model["onnx"]).parent, None)}
    else:
        checkpoint = {"checkpoint": file(plan.model["checkpoint"]["file"])}
        found.append(Product(plan.weights[0], plan.recipe("convert_checkpoint"), {}, checkpoint))
    flavours = [backend["flavour"] for backend in plan.backends.values() if backend["runs"] == "compiled"]
    for flavour in dict.fromkeys([*flavours, "standard"]):  # that of the doctor
        for canvas, suffix in canvases.suffixes(plan.model["input"]).items():
            exported, simplified = (
                f"{plan.top}/onnx/{flavour}/{step}{suffix}.onnx" for step in ("exported", "simplified")
            )
            found.append(Product(exported, plan.recipe("export", canvas=canvas, flavour=flavour), start, sources))
            found.append(Product(simplified, plan.recipe("simplify", canvas=canvas), {"onnx": [exported]}, {}))
    return found


def compiled_graphs(plan: Plan, key: str) -> list[Product]:
    """From simplified graphs to what a backend opens; nothing for one that runs the checkpoint."""
    backend, found = plan.backends[key], []
    for canvas, suffix in canvases.suffixes(plan.model["input"]).items() if backend["runs"] == "compiled" else ():
        inputs = {"onnx": [f"{plan.top}/onnx/{backend['flavour']}/simplified{suffix}.onnx"]}
        graph, told = f"{plan.top}/{key}/patched{suffix}.onnx", f"{plan.top}/{key}/patches{suffix}.json"
        found += [Product(path, plan.recipe("patch", backend, canvas), inputs, {}) for path in (graph, told)]
        model, made_from = f"{plan.top}/{key}/model{suffix}.{compilers.suffix(backend['family'])}", {"onnx": [graph]}
        if compilers.calibrates(backend):
            made_from["calibration"] = [f"{plan.top}/{key}/calibration{suffix}.json"]
            images = {"index": plan.index, "onnx": [graph]}
            found.append(Product(*made_from["calibration"], plan.recipe("calibrate", backend, canvas), images, {}))
        found.append(Product(model, plan.recipe("compile", backend, canvas), made_from, {}))
    return found


def measured(plan: Plan, key: str, runnable: list[str], measures: list[str] | None) -> list[Product]:
    """From images to accuracy, and the speed, of what a backend opens, or of what was brought in its place."""
    own, backend, brought = f"{plan.top}/{key}", plan.backends[key], plan.brought(key)
    runs, outputs = {"compiled": runnable}, {}
    if "outputs" in brought:
        runs, outputs = {}, {"outputs": Source(Path(brought["outputs"]), None)}
    infer, decode, found, detections = plan.recipe("infer", backend), plan.recipe("decode"), [], []
    for k, each in enumerate(prepared(plan, key)):
        shard, kept = f"{own}/scratch/{k:04d}", f"{own}/outputs/{k:04d}"
        found.append(Product(shard, each, {"index": plan.index}, {}, folder=True))
        found.append(Product(kept, infer, {"shard": [shard], **runs}, outputs, folder=True))
        detections.append(f"{own}/detections/{k:04d}.json.gz")
        found.append(Product(detections[-1], decode, {"outputs": [kept]}, {}))

    def evaluated(**more: object) -> dict:
        return evaluate_recipe(config.visible(plan.model, "evaluate", None), plan.dataset, plan.pinned, **more)

    scored = {"index": plan.index, "checked": plan.checked, "detections": detections}
    accuracy = evaluated(cross_check=plan.settings["cross_check"])
    found += [Product(f"{own}/{name}.json", accuracy, scored, plan.truth()) for name in ("accuracy", "analysis")]
    if measures:
        found.append(Product(f"{own}/resampled.json", plan.resampled(measures), scored, plan.truth()))
    results = evaluated(image_set=Path(plan.dataset.get("image_set", "test")).stem)
    found.append(Product(f"{own}/comp4", results, scored | {"checked": []}, plan.truth()))
    listed = evaluated(coco_results=True)
    found.append(Product(f"{own}/coco_results.json", listed, scored | {"checked": []}, plan.truth()))
    found += [*parity(plan, key, runnable), *preview(plan, key, runnable)]
    timed = ({}, {"log": file(brought["log"])}) if "log" in brought else ({"compiled": runnable}, {})
    found.append(Product(f"{own}/performance.json", plan.recipe("benchmark", backend), *timed))
    return found


def explained(plan: Plan, key: str) -> list[Product]:
    """The nodes where error enters, of a graph that can be looked into here or of a device's tensors; what to keep."""
    backend, brought = plan.backends[key], plan.brought(key)
    graph, sources = f"{plan.top}/onnx/{backend['flavour']}/simplified.onnx", {}
    examined = {"index": plan.index, "onnx": [graph]}
    if "dump" in brought:
        sources = {"dump": Source(Path(brought["dump"]), None)}
    elif compilers.steps(backend):
        examined["compiled"] = [f"{plan.top}/{key}/model.onnx"]
    else:
        return []
    table, images = f"{plan.top}/{key}/layers.tsv", plan.settings["parity"]
    recipe = plan.recipe("layers", count=plan.settings["layers"]["images"], seed=images["seed"])
    found = [Product(table, recipe, examined, sources)]
    page = layers_page_recipe(f"{plan.name} on {key}", plan.pinned)
    found.append(Product(f"{plan.top}/{key}/layers.html", page, {"layers": [table]}, {}))
    if "keep_fp32" in backend and images["images"]:
        read = {"onnx": [f"{plan.top}/{key}/patched.onnx"], "layers": [table]}
        if compilers.calibrates(backend):
            read["calibration"] = [f"{plan.top}/{key}/calibration.json"]
        read |= {"index": plan.index, "reference": [f"{plan.top}/onnx/standard/simplified.onnx"]}
        drawn = {"count": images["images"], "seed": images["seed"], "score": images["score"]}
        tolerance = several.allowed(plan.model, backend)
        recipe = several.mixed_recipe(plan.model, backend, tolerance, plan.pinned, **drawn, **plan.settings["mixed"])
        found.append(Product(f"{plan.top}/{key}/mixed.yaml", recipe, read, {}))
    return found


def parity(plan: Plan, key: str, runnable: list[str]) -> list[Product]:
    """What every step does to a few images; of what was brought, only how they were preprocessed."""
    asked, backend = plan.settings["parity"], plan.backends[key]
    if not asked["images"]:
        return []
    inputs, brought = {"index": plan.index}, "outputs" in plan.brought(key)
    if not brought:
        if "network" in plan.model:
            inputs["weights"] = plan.weights
        if backend["runs"] == "compiled":
            suffixes = canvases.suffixes(plan.model["input"]).values()
            for step in ("exported", "simplified"):
                inputs[step] = [f"{plan.top}/onnx/{backend['flavour']}/{step}{suffix}.onnx" for suffix in suffixes]
            inputs["patched"] = [f"{plan.top}/{key}/patched{suffix}.onnx" for suffix in suffixes]
            inputs["compiled"] = runnable
    drawn = {"count": asked["images"], "seed": asked["seed"], "score": float(asked["score"]), "brought": brought}
    sections = config.visible(plan.model, "parity", backend)
    recipe = parity_recipe(sections, backend, plan.pinned, **drawn)
    return [Product(f"{plan.top}/{key}/parity.json", recipe, inputs, {})]


def preview(plan: Plan, key: str, runnable: list[str]) -> list[Product]:
    """A few images with what the model sees in them; not of what was brought, which nothing here runs."""
    if "outputs" in plan.brought(key):
        return []
    drawn = {**plan.settings["preview"], "shown": plan.settings["report"]["images"]}
    recipe = several.preview_recipe(plan.model, plan.backends[key], plan.dataset, drawn, plan.pinned)
    read = {"index": plan.index, "compiled": runnable}
    return [Product(f"{plan.top}/{key}/preview.html", recipe, read, plan.truth())]


def reports(plan: Plan, found: list[Product], resampled: list[str]) -> list[Product]:
    """The report over all backends, as text, as data and as a page."""
    own = [product.path for product in found if "outputs" not in plan.brought(Path(product.path).parent.name)]
    read = {
        "accuracy": [f"{plan.top}/{key}/accuracy.json" for key in plan.backends],
        "analysis": [f"{plan.top}/{key}/analysis.json" for key in plan.backends],
        "performance": [f"{plan.top}/{key}/performance.json" for key in plan.backends],
        "resampled": resampled,
        "patches": [path for path in own if Path(path).name.startswith("patches")],
        "calibration": [path for path in own if Path(path).name.startswith("calibration")],
        "parity": [product.path for product in found if Path(product.path).name == "parity.json"],
    }
    recipe = plan.recipe("report", backends={key: backend["title"] for key, backend in plan.backends.items()})
    texts = [Product(f"reports/{plan.name}.{form}", recipe, read, {}) for form in ("txt", "json")]
    detections = [product.path for product in found if product.recipe["stage"] == "decode"]
    shown = {"report": [texts[1].path], "index": plan.index, "detections": detections}
    page = page_recipe(plan.model, plan.dataset, plan.settings["report"]["images"], plan.pinned)
    return [*texts, Product(f"reports/{plan.name}.html", page, shown, plan.truth())]


def bundle(plan: Plan, found: list[Product], told: list[Product]) -> Product:
    """The report with all that its figures rest on; without the page, of which nobody can compute the images again."""
    told = [product for product in told if product.recipe["stage"] == "report"]
    by_path = {product.path: product for product in found}
    measured = [by_path[path] for paths in told[0].inputs.values() for path in paths]
    scored = [product for product in measured if product.recipe["stage"] == "evaluate"]
    behind = [path for product in scored for paths in product.inputs.values() for path in paths]
    packed = dict.fromkeys([*(product.path for product in (*told, *measured)), *behind])
    recipe = bundle_recipe(plan.dataset, plan.pinned)
    return Product(f"reports/{plan.name}.zip", recipe, {"files": list(packed)}, plan.truth())


def of_all(models: Iterable[str], pinned: bool = False) -> list[Product]:
    """The summary of all models."""
    inputs = {"reports": [f"reports/{name}.json" for name in models]}
    paths = [f"reports/summary.{form}" for form in ("txt", "json", "csv", "html")]
    return [Product(path, summary_recipe(pinned), inputs, {}) for path in paths]


def summary_recipe(pinned: bool = False) -> dict:
    """The recipe of the summary, whose page has templates that are no code."""
    return made.recipe("summary", {"templates": templates.digest()}, pinned=pinned)


def file(path: str) -> Source:
    """A single file as a source."""
    return Source(Path(path).parent, [Path(path).name])


def identities(products: Iterable[Product]) -> dict[str, str]:
    """The identity that each product has under the configuration in force."""
    found: dict[str, str] = {}
    for product in products:
        inputs = {role: [found[path] for path in paths] for role, paths in product.inputs.items()}
        found[product.path] = made.identity(product.recipe, inputs)
    return found
