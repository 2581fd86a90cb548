"""What follows from what: every file of a configuration once, behind what it is made from, with its identity."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from detport import config, lineage, several

DEMO = config.ROOT / "demo"
COCO = {"kind": "coco", "images": "data/images", "annotations": "data/annotations/instances.json", "shards": 2}
VOC = {
    "kind": "voc",
    "images": "data/images",
    "annotations": "data/voc/Annotations",
    "image_set": "data/voc/ImageSets/Main/test.txt",
    "shards": 2,
}
SETTINGS = {"on_bad_image": "fail", "cross_check": False, "brought": {}, "sample": None, "report": {"images": "all"}}
SETTINGS["parity"] = {"images": 8, "seed": 0, "score": 0.3}
SETTINGS |= {"preview": {"images": 8, "seed": 0}, "layers": {"images": 2, "memory_gb": 6}, "mixed": {"steps": 24}}


@pytest.fixture(autouse=True)
def in_the_demo(monkeypatch):
    monkeypatch.chdir(DEMO)


def model(name: str = "retinamask") -> dict:
    return config.load(DEMO / "config" / "models" / f"{name}.yaml", "model")


def backends(*names: str) -> dict[str, dict]:
    return {name: config.load_backend(config.ROOT / "config" / "backends" / f"{name}.yaml") for name in names}


def products(found: dict | None = None, dataset: dict = COCO, names=("onnxruntime",), **settings) -> list:
    found = found or model()
    given = SETTINGS | settings
    index = lineage.of_dataset(found["dataset"], dataset, given)
    cuts = dict.fromkeys([None, *names], dataset["shards"])
    return [index, *lineage.of_model("m", found, dataset, backends(*names), given, cuts)]


def paths(**given) -> list[str]:
    return [product.path for product in products(**given)]


RUN = {
    "results/datasets/shapes/index.tsv",
    "results/m/weights.safetensors",
    "results/m/checked.json",
    "results/m/doctor.txt",
    *(f"results/m/onnx/standard/{step}.onnx" for step in ("exported", "simplified")),
    *(f"results/m/onnxruntime/{name}" for name in ("patched.onnx", "patches.json", "model.onnx")),
    *(f"results/m/onnxruntime/{name}/000{k}" for name in ("scratch", "outputs") for k in range(2)),
    *(f"results/m/onnxruntime/detections/000{k}.json.gz" for k in range(2)),
    *(f"results/m/onnxruntime/{name}" for name in ("accuracy.json", "analysis.json", "comp4", "coco_results.json")),
    *(f"results/m/onnxruntime/{name}" for name in ("performance.json", "parity.json", "preview.html")),
    *(f"results/m/onnxruntime/{name}" for name in ("layers.tsv", "layers.html", "mixed.yaml")),
    *("reports/m.txt", "reports/m.json", "reports/m.html", "reports/m.zip", "shards/m/0000", "shards/m/0001"),
}


def test_every_file_is_there_once():
    found = paths()
    assert len(found) == len(set(found))
    assert set(found) == RUN


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"names": ("onnxruntime", "pytorch", "ascend310", "ascend310p")},
        {"names": ("onnxruntime_fp16", "onnxruntime_int8", "openvino_bf16")},
        {"found": model("gfocalv2_portrait"), "names": ("onnxruntime", "ascend310")},
        {"found": model("rfcn"), "dataset": VOC},
    ],
    ids=["one backend", "all backends", "precisions", "two canvases", "VOC"],
)
def test_everything_stands_behind_what_it_is_made_from(given):
    seen = set()
    for product in products(**given):
        needed = [path for found in product.inputs.values() for path in found]
        assert set(needed) <= seen, product.path
        assert needed or product.sources, product.path
        seen.add(product.path)


def test_graphs_are_shared_by_backends_of_a_flavour():
    found = paths(names=("onnxruntime", "pytorch", "ascend310", "ascend310p"))
    graphs = [path for path in found if "/onnx/" in path]
    assert sorted(graphs) == [
        f"results/m/onnx/{flavour}/{step}.onnx"
        for flavour in ("ascend", "standard")
        for step in ("exported", "simplified")
    ]
    assert "results/m/ascend310/model.om" in found
    assert not [path for path in found if path.startswith("results/m/pytorch/") and path.endswith((".onnx", ".om"))]


def test_a_canvas_more_has_its_own_graphs_and_all_run_together():
    found = {product.path: product for product in products(model("gfocalv2_portrait"))}
    compiled = ["results/m/onnxruntime/model.onnx", "results/m/onnxruntime/model-288x192.onnx"]
    assert found["results/m/onnxruntime/outputs/0000"].inputs["compiled"] == compiled
    assert found["results/m/onnxruntime/performance.json"].inputs["compiled"] == compiled
    assert found[compiled[1]].inputs == {"onnx": ["results/m/onnxruntime/patched-288x192.onnx"]}
    assert found["reports/m.txt"].inputs["patches"] == [
        "results/m/onnxruntime/patches.json",
        "results/m/onnxruntime/patches-288x192.json",
    ]


def test_int8_is_quantised_by_ranges_on_images_of_the_dataset():
    found = {product.path: product for product in products(model("gfocalv2_portrait"), names=("onnxruntime_int8",))}
    own = "results/m/onnxruntime_int8"
    for suffix in ("", "-288x192"):
        ranges = found[f"{own}/calibration{suffix}.json"]
        assert ranges.inputs == {
            "index": ["results/datasets/shapes/index.tsv"],
            "onnx": [f"{own}/patched{suffix}.onnx"],
        }
        assert found[f"{own}/model{suffix}.onnx"].inputs["calibration"] == [ranges.path]
    assert found["reports/m.txt"].inputs["calibration"] == [
        f"{own}/calibration.json",
        f"{own}/calibration-288x192.json",
    ]


def test_another_mean_calibrates_again():
    """The ranges are of tensors that preprocessing makes."""
    expected = {"onnxruntime_int8/calibration.json", "onnxruntime_int8/model.onnx"}
    found = changed(lambda model: model["preprocess"].update(mean=[1, 2, 3]), names=("onnxruntime_int8",))
    assert expected <= found and "onnxruntime_int8/patched.onnx" not in found


def test_what_gates_with_a_margin_compare_is_resampled():
    """Of each side once; a change of the margin is the report's alone, one of the draws is not."""
    margin = {"name": "g", "reference": None, "minus": 0, "times": 1, "margin": 0.01, "measure": "bbox.AP"}
    gates = [
        margin | {"against": "pytorch", "backends": None},
        margin | {"against": "old.json.gz", "backends": ["pytorch"]},
    ]
    names = ("onnxruntime", "pytorch")
    found = {product.path: product for product in products(model() | {"gates": gates}, names=names)}
    own = [f"results/m/{name}/resampled.json" for name in names]
    recorded = next(path for path in found if path.startswith("results/m/recorded/old-"))
    assert found["reports/m.txt"].inputs["resampled"] == [*own, recorded]
    assert found[own[0]].inputs == found["results/m/onnxruntime/accuracy.json"].inputs
    assert found[recorded].sources["recorded"] == lineage.file("old.json.gz")
    assert {found[path].recipe["settings"]["measures"][0] for path in (*own, recorded)} == {"bbox.AP"}
    assert "results/m/onnxruntime/resampled.json" not in paths(found=model() | {"gates": gates})

    def identities(changes: dict, statistics: dict) -> dict:
        changed = model() | {"gates": [gates[0] | changes], "statistics": model()["statistics"] | statistics}
        return lineage.identities(products(changed, names=names))

    told = {f"reports/m.{form}" for form in ("txt", "json", "html", "zip")}
    before, wider, other = identities({}, {}), identities({"margin": 0.02}, {}), identities({}, {"seed": 1})
    assert {path for path in before if before[path] != wider[path]} == told
    assert {path for path in before if before[path] != other[path]} == {*told, *own}


def test_a_sample_has_its_figures_resampled():
    for given in ({"dataset": COCO | {"sample": 3}}, {"sample": 3}):
        found = {product.path: product for product in products(**given)}
        settings = found["results/m/onnxruntime/resampled.json"].recipe["settings"]
        assert settings["measures"] == ["bbox.AP", "segm.AP"]
        assert found["results/datasets/shapes/index.tsv"].recipe["settings"]["sample"] == 3
    both = {product.path: product for product in products(dataset=COCO | {"sample": 3}, sample=2)}
    assert both["results/datasets/shapes/index.tsv"].recipe["settings"]["sample"] == 2, "the smaller one"


def ready() -> dict:
    found = {key: value for key, value in model().items() if key not in ("checkpoint", "network")}
    return found | {"onnx": "weights/ready.onnx"}


def test_a_ready_graph_starts_at_export():
    found = {product.path: product for product in products(ready())}
    assert "results/m/weights.safetensors" not in found
    exported = found["results/m/onnx/standard/exported.onnx"]
    assert exported.inputs == {}
    assert exported.sources["onnx"] == lineage.Source(Path("weights"), None), "it and its external data"


def test_what_another_machine_has_made_takes_the_place_of_its_stage():
    brought = {"onnxruntime": {"m": {"outputs": "elsewhere/outputs", "log": "elsewhere/log"}}}
    found = {product.path: product for product in products(brought=brought)}
    outputs, speed = (found[f"results/m/onnxruntime/{name}"] for name in ("outputs/0000", "performance.json"))
    assert outputs.inputs == {"shard": ["results/m/onnxruntime/scratch/0000"]}
    assert outputs.sources == {"outputs": lineage.Source(Path("elsewhere/outputs"), None)}
    assert (speed.inputs, speed.sources) == ({}, {"log": lineage.file("elsewhere/log")})
    assert found["reports/m.txt"].inputs["patches"] == [], "what was patched here has nothing to do with them"


def changed(change: Callable[[dict], object], **given) -> set[str]:
    """What has another identity after a change of the model, by its last two names; of shards the first."""
    before, after = model(), copy.deepcopy(model())
    change(after)
    old, new = (lineage.identities(products(found, **given)) for found in (before, after))
    assert old.keys() == new.keys()
    return {"/".join(Path(path).parts[-2:]) for path in old if old[path] != new[path] and "0001" not in path}


REPORT = {"reports/m.txt", "reports/m.json", "reports/m.html", "reports/m.zip"}
MIXED = {"onnxruntime/mixed.yaml"}
PREVIEW = {"onnxruntime/preview.html"}
LAYERS = MIXED | {"onnxruntime/layers.tsv", "onnxruntime/layers.html"}
EVALUATE = REPORT | {f"onnxruntime/{name}" for name in ("accuracy.json", "analysis.json", "comp4", "coco_results.json")}
PARITY = REPORT | {"onnxruntime/parity.json"}
DOCTOR = {"m/doctor.txt"}
METRIC = EVALUATE | DOCTOR | PREVIEW | {"m/checked.json"}
DECODE = EVALUATE | {"detections/0000.json.gz"}
INFER = DECODE | {"outputs/0000"}
PREPROCESS = INFER | PARITY | LAYERS | PREVIEW | {"scratch/0000", "m/0000"}
SPEED = REPORT | {"onnxruntime/performance.json"}
COMPILE = INFER | SPEED | PARITY | LAYERS | PREVIEW | {"onnxruntime/model.onnx"}
PATCH = COMPILE | {"onnxruntime/patched.onnx", "onnxruntime/patches.json"}
SIMPLIFY = PATCH | DOCTOR | {"standard/simplified.onnx"}
EXPORT = SIMPLIFY | {"standard/exported.onnx"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda model: None, set()),
        (lambda model: model.update(gates=[]), REPORT),
        (lambda model: model["parity"]["levels"].update(largest=9), REPORT),
        (lambda model: model["benchmark"].update(min_runs=7), SPEED),
        (lambda model: model["metric"].update(iou_types=["bbox"]), METRIC),
        (lambda model: model["decode"].update(nms_iou=0.1), DECODE | DOCTOR | PARITY | MIXED | PREVIEW),
        (lambda model: model["preprocess"].update(mean=[1, 2, 3]), PREPROCESS | DOCTOR),
        (lambda model: model.update(patches={"onnxruntime": [{"name": "int64_to_int32"}]}), PATCH),
        (lambda model: model.update(patches={"ascend": []}), set()),
        (lambda model: model["simplify"].update(tolerance=1), SIMPLIFY),
        (lambda model: model["export"].update(opset=12), EXPORT),
        (lambda model: model["checkpoint"].update(prefix="x."), EXPORT | {"m/weights.safetensors"}),
    ],
    ids=[
        *(
            "nothing",
            "gates",
            "tolerances",
            "benchmark",
            "metric",
            "decode",
            "preprocess",
            "patches",
            "patches of others",
        ),
        *("simplify", "export", "checkpoint"),
    ],
)
def test_what_a_change_of_the_model_reaches(change, expected):
    """The doctor tries other settings of what stands before patches, so that it is told of these alone."""
    assert changed(change) == expected


@pytest.mark.parametrize("image_set", ["no/such.txt", "data/voc/Annotations", "data/images/000000000005.jpg"])
def test_a_ground_truth_that_cannot_be_read_is_what_no_record_has(image_set):
    """So that what was made from another one is stale; the index complains."""
    found = {product.path: product for product in products(model("rfcn"), VOC | {"image_set": image_set})}
    truth = found["results/datasets/shapes_voc/index.tsv"].sources["truth"]
    assert truth.names == []
    assert image_set in truth.signature()
    assert found["results/m/onnxruntime/accuracy.json"].sources["annotations"].names == []


def test_what_parity_is_made_from():
    """Of a ready graph no weights, of a checkpoint's backend no graphs, of what was brought the images alone."""
    backends = ("onnxruntime", "pytorch")
    found = {product.path: product for product in products(names=backends)}
    graphs = {"exported", "simplified", "patched", "compiled"}
    assert found["results/m/onnxruntime/parity.json"].inputs.keys() == {"index", "weights", *graphs}
    assert found["results/m/pytorch/parity.json"].inputs.keys() == {"index", "weights"}
    (ready_one,) = (product for product in products(ready()) if product.path.endswith("parity.json"))
    assert ready_one.inputs.keys() == {"index", *graphs}
    brought = {"onnxruntime": {"m": {"outputs": "elsewhere"}}}
    (alone,) = (product for product in products(brought=brought) if product.path.endswith("parity.json"))
    assert alone.inputs == {"index": ["results/datasets/shapes/index.tsv"]}
    assert alone.recipe["settings"]["brought"] is True
    none = products(parity={"images": 0, "seed": 0, "score": 0})
    assert not [product for product in none if product.path.endswith("parity.json")]


def test_a_preview_needs_no_more_than_the_index_and_what_the_backend_opens():
    """There is none of what another machine has made; and which images, and how they are shown, is its own affair."""
    own = "results/m/onnxruntime/preview.html"
    found = {product.path: product for product in products(names=("onnxruntime", "pytorch"))}
    index = ["results/datasets/shapes/index.tsv"]
    assert found[own].inputs == {"index": index, "compiled": ["results/m/onnxruntime/model.onnx"]}
    assert found["results/m/pytorch/preview.html"].inputs == {
        "index": index,
        "compiled": ["results/m/weights.safetensors"],
    }
    assert own not in paths(brought={"onnxruntime": {"m": {"outputs": "elsewhere"}}})
    before = lineage.identities(products())
    for settings, more in (
        ({"preview": {"images": 8, "seed": 1}}, set()),
        ({"report": {"images": "none"}}, {"reports/m.html"}),
    ):
        after = lineage.identities(products(**settings))
        assert {path for path in before if before[path] != after[path]} == {own} | more


def test_tensors_of_a_device_take_the_place_of_its_graph():
    """Without them there is nothing to look into; with them the search may follow, on the device."""
    names = ("ascend310",)
    assert "results/m/ascend310/layers.tsv" not in paths(names=names)
    brought = {"ascend310": {"m": {"dump": "elsewhere/dump"}}}
    found = {product.path: product for product in products(names=names, brought=brought)}
    table, mixed = (found[f"results/m/ascend310/{name}"] for name in ("layers.tsv", "mixed.yaml"))
    assert table.sources == {"dump": lineage.Source(Path("elsewhere/dump"), None)}
    assert table.inputs["onnx"] == ["results/m/onnx/ascend/simplified.onnx"]
    assert "compiled" not in table.inputs
    assert mixed.inputs["reference"] == ["results/m/onnx/standard/simplified.onnx"]


def test_numbers_of_a_yaml_and_of_a_command_line_are_the_same():
    backend = backends("onnxruntime")["onnxruntime"]
    allowed = several.allowed(model(), backend)
    one, other = (several.mixed_recipe(model(), backend, allowed, score=score) for score in (1, 1.0))
    assert one == other != several.mixed_recipe(model(), backend, allowed, score=0.5)


def test_the_tolerance_of_the_search_is_that_of_the_backends_precision():
    own = model() | {"parity": {"tolerances": {"float32": 1, "float16": 2, "int8": 3, "bfloat16": 4}}}
    asked = ("onnxruntime", "onnxruntime_fp16", "onnxruntime_int8", "ascend310p", "openvino", "openvino_bf16")
    assert [several.allowed(own, backend) for backend in backends(*asked).values()] == [1, 2, 3, 2, 1, 4]


def test_what_openvino_computes_is_not_looked_into_by_the_steps_of_its_graph():
    """They would say that bfloat16 costs nothing: the graph is in float32, and OpenVINO makes the precision."""
    found = paths(names=("onnxruntime", "openvino_bf16"))
    assert "results/m/onnxruntime/layers.tsv" in found
    assert not {"results/m/openvino_bf16/layers.tsv", "results/m/openvino_bf16/mixed.yaml"} & set(found)


def test_another_precision_of_openvino_makes_again_what_it_computes():
    one = backends("openvino")["openvino"]
    for stage in ("patch", "compile", "infer", "benchmark", "parity"):
        seen = config.visible(model(), stage, one)
        before, after = (lineage.stage_recipe(stage, seen, one | {"precision": name}) for name in ("f32", "bf16"))
        assert (before == after) == (stage == "patch"), stage


def test_an_int8_search_takes_the_ranges_that_were_measured():
    found = {product.path: product for product in products(names=("onnxruntime_int8",))}
    ranges = "results/m/onnxruntime_int8/calibration.json"
    assert found["results/m/onnxruntime_int8/mixed.yaml"].inputs["calibration"] == [ranges]


def test_every_shard_is_its_own():
    found = lineage.identities(products())
    assert found["results/m/onnxruntime/outputs/0000"] != found["results/m/onnxruntime/outputs/0001"]
    other = lineage.identities(products(dataset=COCO | {"shards": 3}))
    assert found["results/m/onnxruntime/outputs/0000"] != other["results/m/onnxruntime/outputs/0000"]


def test_the_pinned_versions_are_other_ones_where_others_are_installed(monkeypatch):
    """Conda's environments have those of the lock; of one lock there is one identity."""
    from detport import code

    monkeypatch.setattr(code.importlib.metadata, "version", lambda name: "99.1")
    code.version.cache_clear()
    code.of.cache_clear()
    here, pinned = (
        lineage.stage_recipe("decode", config.visible(model(), "decode", None), pinned=each)["versions"]
        for each in (False, True)
    )
    code.version.cache_clear()
    code.of.cache_clear()
    assert set(here.values()) == {"99.1"}
    assert pinned["numpy"] == code.pins()["numpy"]


def test_the_summary_is_made_from_all_reports():
    found = lineage.of_all(["a", "b"])
    assert [product.path for product in found] == [f"reports/summary.{form}" for form in ("txt", "json", "csv", "html")]
    assert all(product.inputs == {"reports": ["reports/a.json", "reports/b.json"]} for product in found)
