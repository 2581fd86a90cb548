"""What follows from what: every file that a configuration makes, by which recipe and from what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from detport import canvases, compilers, config, datasets, made, sampling
from detport.errors import UsageError


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
    kind, sample = datasets.load(dataset["kind"]), settings["sample"]
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
    return made.recipe("check", settings | {"split": dataset.get("split"), "sample": sample}, plugins, pinned)


def evaluate_recipe(model: dict, dataset: dict, pinned: bool = False, **more: object) -> dict:
    """The recipe of the evaluation, which reads the ground truth by the code of the dataset's kind."""
    settings = config.settings(model, None, "evaluate") | {"dataset": dataset["kind"]} | more
    plugins = [*config.plugins(model, None, "evaluate"), f"detport.datasets.{dataset['kind']}"]
    return made.recipe("evaluate", settings, plugins, pinned)


def doctor_recipe(model: dict, dataset: dict, pinned: bool = False) -> dict:
    """The recipe of the doctor, which reads the ground truth too."""
    settings = config.settings(model, None, "doctor") | {"dataset": dataset["kind"]}
    plugins = [*config.plugins(model, None, "doctor"), f"detport.datasets.{dataset['kind']}"]
    return made.recipe("doctor", settings, plugins, pinned)


def of_model(
    name: str, model: dict, dataset: dict, backends: Mapping[str, dict], settings: dict, pinned: bool = False
) -> list[Product]:
    """Everything that is made for a model behind the index of its dataset, each after what it is made from."""

    def recipe(stage: str, backend: dict | None = None, canvas: str | None = None, **more: object) -> dict:
        selected = canvases.select(model, canvas) if canvas else model
        return stage_recipe(stage, config.visible(selected, stage, backend), backend, pinned, **more)

    def evaluated(**more: object) -> dict:
        return evaluate_recipe(config.visible(model, "evaluate", None), dataset, pinned, **more)

    top, index = f"results/{name}", index_path(model["dataset"])
    weights = f"{top}/weights.safetensors"
    parts = [
        {"shard": f"{k}/{dataset['shards']}", "on_bad_image": settings["on_bad_image"]}
        for k in range(dataset["shards"])
    ]
    prepare = [recipe("preprocess", **part) for part in parts]
    found = [Product(f"shards/{name}/{k:04d}", each, {"index": [index]}, {}) for k, each in enumerate(prepare)]
    truth = {"annotations": Source(*readable(datasets.load(dataset["kind"]).scored, dataset, (Path(), [])))}
    checked = f"{top}/checked.json"
    found.append(Product(checked, check_recipe(model, dataset, settings["sample"], pinned), {}, truth))
    reported = {"accuracy": [], "performance": [], "patches": []}
    if "checkpoint" in model:
        found.append(
            Product(weights, recipe("convert_checkpoint"), {}, {"checkpoint": file(model["checkpoint"]["file"])})
        )
    flavours = [backend["flavour"] for backend in backends.values() if backend["runs"] == "compiled"]
    for flavour in dict.fromkeys([*flavours, "standard"]):  # that of the doctor
        for canvas, suffix in canvases.suffixes(model["input"]).items():
            exported, simplified = (f"{top}/onnx/{flavour}/{step}{suffix}.onnx" for step in ("exported", "simplified"))
            start = (
                ({}, {"onnx": Source(Path(model["onnx"]).parent, None)})
                if "onnx" in model
                else ({"weights": [weights]}, {})
            )
            found.append(Product(exported, recipe("export", canvas=canvas, flavour=flavour), *start))
            found.append(Product(simplified, recipe("simplify", canvas=canvas), {"onnx": [exported]}, {}))
    examined = {"index": [index], "onnx": [f"{top}/onnx/standard/simplified.onnx"]}
    found.append(
        Product(
            f"{top}/doctor.txt", doctor_recipe(config.visible(model, "doctor", None), dataset, pinned), examined, truth
        )
    )
    for key, backend in backends.items():
        own, runnable = f"{top}/{key}", [] if backend["runs"] == "compiled" else [weights]
        brought = settings["brought"].get(key, {}).get(name, {})
        for canvas, suffix in canvases.suffixes(model["input"]).items() if backend["runs"] == "compiled" else ():
            inputs = {"onnx": [f"{top}/onnx/{backend['flavour']}/simplified{suffix}.onnx"]}
            graph, told = f"{own}/patched{suffix}.onnx", f"{own}/patches{suffix}.json"
            found += [Product(path, recipe("patch", backend, canvas), inputs, {}) for path in (graph, told)]
            runnable.append(f"{own}/model{suffix}.{compilers.suffix(backend['family'])}")
            found.append(Product(runnable[-1], recipe("compile", backend, canvas), {"onnx": [graph]}, {}))
            reported["patches"] += [told] * ("outputs" not in brought)
        runs = (
            ({}, {"outputs": Source(Path(brought["outputs"]), None)})
            if "outputs" in brought
            else ({"compiled": runnable}, {})
        )
        infer, decode, detections = recipe("infer", backend), recipe("decode"), []
        for k, each in enumerate(prepare):
            shard, outputs = f"{own}/scratch/{k:04d}", f"{own}/outputs/{k:04d}"
            found.append(Product(shard, each, {"index": [index]}, {}, folder=True))
            found.append(Product(outputs, infer, {"shard": [shard], **runs[0]}, runs[1], folder=True))
            detections.append(f"{own}/detections/{k:04d}.json.gz")
            found.append(Product(detections[-1], decode, {"outputs": [outputs]}, {}))
        scored = {"index": [index], "checked": [checked], "detections": detections}
        check = {"cross_check": settings["cross_check"]}
        found.append(Product(f"{own}/accuracy.json", evaluated(**check), scored, truth))
        results = evaluated(image_set=Path(dataset.get("image_set", "test")).stem)
        found.append(Product(f"{own}/comp4", results, scored | {"checked": []}, truth))
        timed = ({}, {"log": file(brought["log"])}) if "log" in brought else ({"compiled": runnable}, {})
        found.append(Product(f"{own}/performance.json", recipe("benchmark", backend), *timed))
        reported["accuracy"].append(f"{own}/accuracy.json")
        reported["performance"].append(f"{own}/performance.json")
    titles = {key: backend["title"] for key, backend in backends.items()}
    paths = (f"reports/{name}.txt", f"reports/{name}.json")
    return found + [Product(path, recipe("report", backends=titles), reported, {}) for path in paths]


def of_all(models: Iterable[str], pinned: bool = False) -> list[Product]:
    """The summary of all models."""
    inputs = {"reports": [f"reports/{name}.json" for name in models]}
    paths = ("reports/summary.txt", "reports/summary.json")
    return [Product(path, made.recipe("summary", {}, pinned=pinned), inputs, {}) for path in paths]


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
