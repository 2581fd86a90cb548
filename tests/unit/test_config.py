"""A mistake in a yaml is refused with file, line, key and what was expected."""

import itertools
from pathlib import Path

import pytest

from detport import config, yamlfile
from detport.errors import UsageError

MODEL = config.ROOT / "config" / "models" / "retinamask.yaml"


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = MODEL.read_text()
    assert old in text
    path = tmp_path / "model.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  height: 1344", "  heigth: 1344", ["input.heigth: unknown key", "did you mean 'height'"]),
        ("title:", "titel:", ["titel: unknown key", "did you mean 'title'"]),
        ("  top_k: 1000", "  topk: 1000", ["network.topk: unknown key", "did you mean 'top_k'"]),
        ("architecture: retinamask", "architecture: retinanet", ["network.architecture", "retinamask"]),
        ("  std: [1, 1, 1]\n", "", ["preprocess: missing key 'std'"]),
        ("nms_iou: 0.4\n", "nms_iou: high\n", ["decode.nms_iou: 'high' is not of type number"]),
        ("nms_iou: 0.4\n", "nms_iou: 1.5\n", ["decode.nms_iou: 1.5"]),
        ("decoder: pillow", "decoder: imageio", ["preprocess.decoder", "pillow, opencv"]),
        ("opset: 11", "opset: 20", ["export.opset: 20"]),
        ("mean: [102.9801,", "mean: [102.9801, 3,", ["preprocess.mean"]),
        ("checkpoint:", "onnx: model.onnx\ncheckpoint:", ["checkpoint and network, without onnx"]),
        ("title:", "title: x\ntitle:", ['model.yaml:3: YAML: found duplicate key "title"']),
        ("categories: coco80", "categories: coco81", ["decode.categories"]),
        ("rule: fit", "rule: short_side", ["preprocess.resize: missing key 'size'"]),
        ("rule: fit", "rule: fit, size: 5", ["preprocess.resize", "size belongs to rule short_side"]),
        ("  mean:", "  normalise: before_resize\n  mean:", ["preprocess.resize.library: 'opencv' was expected"]),
        (
            "cast_roi_concat_to_float16",
            "cast_roi",
            ["patches.ascend.0.name: unknown value 'cast_roi'"],
        ),
        ("matches: 1\n", "matches: 1\n      options: {x: 1}\n", ["patches.ascend.0.options.x: unknown key"]),
        ("ascend: {log: error}", "ascent: {log: error}", ["compile.ascent: unknown value 'ascent'", "'ascend'"]),
        ("ascend: {log: error}", "ascend: {log: errors}", ["compile.ascend.log: 'errors' is not known"]),
        ("measure: bbox.AP", "measure: voc07.mAP", ["gates.0.measure: 'voc07.mAP' is neither a figure of metric coco"]),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, expected):
    path = edited(tmp_path, old, new)
    with pytest.raises(UsageError) as refusal:
        config.load(path, "model")
    message = str(refusal.value)
    assert message.startswith(f"{path}")
    assert "\n" not in message
    for part in expected:
        assert part in message


BASE = """models: [m]
datasets:
  a: {kind: coco, images: here, annotations: a.json, shards: 1}
  b: {kind: coco, images: here, annotations: b.json, shards: 1}
"""


def overlaid(tmp_path: Path, text: str) -> list[Path]:
    """A configuration, and a file over it."""
    paths = [tmp_path / "config.yaml", tmp_path / "overlay.yaml"]
    for path, content in zip(paths, (BASE, text), strict=True):
        path.write_text(content)
    return paths


def test_a_file_over_the_configuration_may_say_as_little_as_one_folder(tmp_path):
    paths = overlaid(tmp_path, "datasets: {b: {images: there}}\n")
    assert config.load_configuration(paths)["models"] == ["m"]
    assert config.load_configuration(paths)["datasets"]["b"]["annotations"] == "b.json"
    assert config.load_dataset(paths, "b")["images"] == "there"
    assert config.load_dataset(paths, "a")["images"] == "here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "datasets:\n  b: {imagess: there}\n",
            r"overlay\.yaml:2: datasets\.b\.imagess: unknown key; did you mean 'images'",
        ),
        ("modells: [m]\n", r"overlay\.yaml:1: modells: unknown key; did you mean 'models'"),
        ("models: [m]\nmodels: [m]\n", 'overlay\\.yaml:2: YAML: found duplicate key "models"'),
        ("datasets:\n  c: {images: there}\n", r"overlay\.yaml:2: datasets\.c: missing key 'kind'"),
        ("- models\n", r"overlay\.yaml: expected keys of a configuration"),
        ("models: [\n", r"overlay\.yaml:2: YAML: expected"),
    ],
)
def test_a_mistake_in_it_names_the_file(tmp_path, text, expected):
    with pytest.raises(UsageError, match=expected):
        config.load_configuration(overlaid(tmp_path, text))


def test_a_dataset_that_no_file_has_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"config\.yaml: datasets\.c: no such dataset; expected one of a, b"):
        config.load_dataset(overlaid(tmp_path, "datasets: {b: {images: there}}\n"), "c")


def test_line_number_is_that_of_the_key(tmp_path):
    path = edited(tmp_path, "  height: 1344", "  heigth: 1344")
    line = 1 + path.read_text().splitlines().index(next(x for x in path.read_text().splitlines() if "heigth" in x))
    with pytest.raises(UsageError, match=f"model.yaml:{line}: input.heigth"):
        config.load(path, "model")


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\t- x", "a: &x [*x]", "- 1", "", "a: !!python/object:os.system x"]
)
def test_broken_yaml_is_one_line(tmp_path, text):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refusal:
        config.load(path, "model")
    assert str(path) in str(refusal.value)


def test_defaults_are_filled_in(tmp_path):
    model = config.load(MODEL, "model")
    assert model["preprocess"]["fill"] is None
    assert model["simplify"]["tolerance"] == 1e-4
    assert model["gates"][0]["times"] == 1


def test_a_stage_sees_its_own_sections_only():
    assert set(config.load_model(MODEL, "decode")) == {"name", "outputs", "decode"}


def test_every_shipped_yaml_is_valid():
    for path in config.ROOT.glob("config/models/*.yaml"):
        config.load(path, "model")
    for path in config.ROOT.glob("demo/config/models/*.yaml"):
        config.load(path, "model")
    for path in config.ROOT.glob("config/backends/*.yaml"):
        config.load_backend(path)
    for path in (config.ROOT / "config/config.yaml", config.ROOT / "demo/config/config.yaml"):
        config.load(path, "config")


def test_own_files_read_fast_are_the_same():
    files = [*(config.ROOT / "config").rglob("*.yaml"), *(config.ROOT / "scripts").rglob("*.yaml")]
    assert len(files) > 50
    assert [path for path in files if yamlfile.read_own(path) != yamlfile.read_yaml(path)[0]] == []


def test_own_files_have_the_words_of_yaml_1_2_and_a_complaint(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("a: 1e-3\nb: yes\nc: 0o14\n")
    assert yamlfile.read_own(own) == {"a": 0.001, "b": "yes", "c": 12}
    own.write_text("a: [1\n")
    with pytest.raises(UsageError, match=r"own\.yaml:2: YAML"):
        yamlfile.read_own(own)


def test_a_value_that_was_changed_is_read_anew(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1]\n")
    yamlfile.read_yaml(tmp_path / "a.yaml")[0]["a"].append(2)
    assert yamlfile.read_yaml(tmp_path / "a.yaml")[0] == {"a": [1]}


def test_models_can_be_read_side_by_side():
    """Sections stand in the schema's order, and what two models both say within one stands in the same order."""
    files = sorted(config.ROOT.glob("config/models/*.yaml")) + sorted(config.ROOT.glob("demo/config/models/*.yaml"))
    models = {path: yamlfile.read_yaml(path)[0] for path in files}
    order = list(config.schema_of("model")["properties"])
    for path, model in models.items():
        assert list(model) == sorted(model, key=order.index), path
    for (path, one), (other_path, other) in itertools.combinations(models.items(), 2):
        for section in one.keys() & other.keys():
            if isinstance(one[section], dict) and isinstance(other[section], dict):
                shared = [key for key in one[section] if key in other[section]]
                assert shared == [key for key in other[section] if key in shared], (path, other_path, section)


def test_every_schema_key_is_described():
    """docs/configuration.md names every key that the schemas know."""
    text = (config.ROOT / "docs" / "configuration.md").read_text()
    for name in ("model", "config", "backend"):
        for key in config.schema_of(name)["properties"]:
            assert f"`{key}" in text, f"{name}: {key}"


def models(folder: Path, **texts: str) -> Path:
    """A folder of models: the published RetinaMask as whole.yaml and the given ones."""
    (folder / "whole.yaml").write_text(MODEL.read_text())
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_model_says_only_what_differs_from_its_base(tmp_path):
    folder = models(
        tmp_path,
        small="base: whole\ntitle: Small\ninput: {height: 64}\ngates: []\n",
        smaller="base: small\ninput: {width: 32}\npreprocess: {resize: {library: opencv}}\n",
    )
    whole = config.load(folder / "whole.yaml", "model")
    found = config.load(folder / "smaller.yaml", "model")
    assert found["title"] == "Small"
    assert found["gates"] == []
    assert found["input"] == whole["input"] | {"height": 64, "width": 32}
    assert found["preprocess"]["resize"] == whole["preprocess"]["resize"] | {"library": "opencv"}
    same = whole.keys() - {"title", "gates", "input", "preprocess"}
    assert {key: found[key] for key in same} == {key: whole[key] for key in same}
    assert config.load_model(folder / "smaller.yaml", "decode")["name"] == "smaller"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: whole\ntitle: x\ninput: {heigth: 3}", ["model.yaml:3: input.heigth: unknown key", "'height'"]),
        ("base: broken\ntitle: x", ["broken.yaml:3: input.heigth: unknown key", "'height'"]),
        ("base: broken\ntitle: 3", ["model.yaml:2: title: 3 is not of type string"]),
        ("base: whole\ninput: {height: 0}", ["model.yaml:2: input.height: 0"]),
        ("base: low\ninput: {width: 5}", ["low.yaml:2: input.height: 0"]),
        ("base: listed\ntitle: x", ["listed.yaml:2: gates.0: missing key 'measure'"]),
        ("base: listed\ngates: [{name: x, reference: y}]", ["model.yaml:2: gates.0: missing key 'measure'"]),
        ("title: x\nbase: whale", ["model.yaml:2: base: no model 'whale' in", "did you mean 'whole'?", "broken, "]),
        ("base: model", ["model.yaml:1: base: model -> model goes round in a circle"]),
        ("base: ring", ["ring.yaml:1: base: model -> ring -> model goes round in a circle"]),
        ("base: ../models/whole", ["model.yaml:1: base: '../models/whole' is no name of a model"]),
        ("base: [whole]", ["model.yaml:1: base: ['whole'] is no name of a model"]),
        ("base:", ["model.yaml:1: base: None is no name of a model"]),
        ("base: empty", ["empty.yaml: expected the sections of a model"]),
        ("base: torn", ["torn.yaml:", "YAML: expected"]),
    ],
)
def test_mistakes_in_a_base_are_named_in_the_right_file(tmp_path, text, expected):
    folder = models(
        tmp_path,
        model=text,
        broken="base: whole\n\ninput: {heigth: 3}",
        low="base: whole\ninput: {height: 0}",
        listed="base: whole\ngates: [{name: x, reference: y}]",
        ring="base: model",
        empty="",
        torn="a: [1",
    )
    with pytest.raises(UsageError) as refusal:
        config.load(folder / "model.yaml", "model")
    message = str(refusal.value)
    assert message.startswith(str(folder))
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_every_class_needs_a_category(tmp_path):
    path = edited(tmp_path, "categories: coco80", "categories: [1, 2, 3]")
    with pytest.raises(UsageError, match=r"decode\.categories: has 3 categories, network\.classes is 80"):
        config.load(path, "model")


D7 = config.ROOT / "config" / "models" / "efficientdet_d7.yaml"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("contract: compact", "contract: raw", "contract raw at 1536x1536 has (any name) float32 [1, 810, 192, 192],"),
        ("[1, 5000], dtype: int32", "[1, 4000], dtype: int32", "index int32 [1, 5000]; declared are logits"),
        ("name: logits", "name: scores", "declared are scores float32 [1, 5000], box_codes"),
        ("name: index, shape: [1, 5000], dtype: int32", "name: index, shape: [1, 5000], dtype: float32", "index int32"),
        ("  candidates: 5000", "  candidates: 3000", "has logits float32 [1, 3000], box_codes float32 [1, 3000, 4]"),
    ],
)
def test_outputs_are_those_of_the_contract(tmp_path, old, new, expected):
    path = tmp_path / "model.yaml"
    path.write_text(D7.read_text().replace(old, new, 1))
    with pytest.raises(UsageError) as refusal:
        config.load(path, "model")
    line = D7.read_text().splitlines().index("outputs:") + 1
    assert str(refusal.value).startswith(f"{path}:{line}: outputs: network.contract ")
    assert expected in str(refusal.value)


def test_the_outputs_of_the_raw_contract_are_in_the_yaml(tmp_path):
    """As comments, one line each; a canvas of another shape has other maps."""
    text = D7.read_text().replace("contract: compact", "contract: raw")
    lines = [line for line in text.splitlines() if not (line.startswith("  - {name: ") and "5000" in line)]
    raw = [line.removeprefix("# ") if line.startswith("#   - {name: ") else line for line in lines]
    path = tmp_path / "model.yaml"
    path.write_text("\n".join(raw))
    assert len(config.load(path, "model")["outputs"]) == 10
    path.write_text("\n".join(raw).replace("  width: 1536", "  width: 1536\n  canvases: [{height: 768, width: 1536}]"))
    with pytest.raises(UsageError, match="contract raw at 768x1536 has"):
        config.load(path, "model")


@pytest.mark.parametrize("key", ["onnxruntime", "mine"])
def test_a_patch_that_its_backend_undoes_is_refused(tmp_path, key):
    path = tmp_path / "model.yaml"
    patch = "{name: pad_maxpool_with_zero, matches: 34, before: {}, after: {Pad: 34}}"
    path.write_text(f"title: x\npatches:\n  ascend: [{patch}]\n  {key}:\n    - {patch}\n")
    config.check_patches(path, [{"name": "ascend310", "family": "ascend"}])
    message = rf"model.yaml:5: patches.{key}.0: pad_maxpool_with_zero is for the family ascend alone: ONNX Runtime"
    with pytest.raises(UsageError, match=message):
        config.check_patches(path, [{"name": "mine", "family": "onnxruntime"}])


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_numbers_are_finite(tmp_path, value):
    path = edited(tmp_path, "fps: 4.3", f"fps: {value}")
    with pytest.raises(UsageError, match=r"references\.0\.values\.fps: .* is not of type number"):
        config.load(path, "model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gates:\n- {backends: [onnxruntime, onnxruntme]}", "m.yaml:2: gates.0.backends.1: no backend 'onnxruntme'"),
        (
            "gates:\n- backends: [mine]\n  against: min",
            "m.yaml:3: gates.0.against: no backend 'min'; did you mean 'mine'",
        ),
        ("references:\n- {backend: ascend}", "m.yaml:2: references.0.backend: no backend 'ascend'"),
        ("patches:\n  onnxruntim: []", "m.yaml:2: patches.onnxruntim: no backend 'onnxruntim'"),
    ],
)
def test_a_backend_that_nobody_has_is_refused(tmp_path, text, expected):
    """A gate of it would never be asked, and the verdict be PASS without it."""
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        config.check_backend_names(path, {"onnxruntime", "mine"})
    assert expected in str(raised.value)


def test_patches_may_be_for_a_family_or_an_own_backend(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("patches: {ascend: [], mine: []}")
    config.check_backend_names(path, {"onnxruntime", "mine"})


def test_devices_decide_the_chip_where_it_is_auto():
    """An .om is built again when soc_version: auto may find another chip, and only then."""
    sections = config.load_model(config.ROOT / "config" / "models" / "retinamask.yaml", "compile")
    for name, again in (("ascend310p", True), ("ascend310", False)):
        backend = config.load_backend(config.ROOT / "config" / "backends" / f"{name}.yaml")
        one, other = (config.settings(sections, backend | {"devices": ids}, "compile") for ids in ([0], [4]))
        assert (one != other) is again


@pytest.mark.parametrize(
    "value",
    [
        *("2001-13-45", "9" * 5000, "!!int abc", "!!float abc", "!!bool abc", "!!timestamp abc", "0b_", "0x_"),
        *("!!int ''", "!!float ''", "2001-01-01T99:99:99Z", "!!binary x", "!!python/object:os.system x", "2001-01-01"),
    ],
)
def test_values_that_yaml_stumbles_over_are_named_with_their_line(tmp_path, value):
    path = edited(tmp_path, "title: ", f"title: {value}\n#")
    with pytest.raises(UsageError, match=r"model\.yaml:\d+: ") as refusal:
        config.load(path, "model")
    assert len(str(refusal.value)) < 300


def test_values_are_those_of_yaml_1_2(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("{a: 1e-4, b: yes, c: off, d: 0x10, e: true, f: 12:30, g: ~}")
    assert yamlfile.read_yaml(path)[0] == dict(
        zip("abcdefg", (1e-4, "yes", "off", 16, True, "12:30", None), strict=True)
    )


@pytest.mark.parametrize("number", ["010", "-07", "00", "0_8"])
def test_a_number_that_is_another_one_to_snakemake_is_refused(tmp_path, number):
    path = tmp_path / "x.yaml"
    path.write_text(f"a: 1\nshards: {number}")
    with pytest.raises(UsageError, match=rf"x\.yaml:2: YAML: '{number}' looks like int to YAML and is none"):
        yamlfile.read_yaml(path)
    path.write_text(f"shards: '{number}'")
    assert yamlfile.read_yaml(path)[0] == {"shards": number}


def test_an_alias_is_refused_with_its_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &many [1, 2]\nb: *many")
    with pytest.raises(UsageError, match=r"x\.yaml:2: YAML: \*many: aliases are not allowed here"):
        yamlfile.read_yaml(path)


@pytest.mark.parametrize("name", ["2017", "null", "~", "true", "1.5", "2001-01-01"])
def test_names_that_yaml_does_not_take_for_text(tmp_path, name):
    path = tmp_path / "config.yaml"
    dataset = "{kind: coco, images: i, annotations: a, shards: 1}"
    path.write_text(f"models: [m]\ndatasets:\n  {name}: {dataset}\n")
    with pytest.raises(UsageError, match=r"config\.yaml:\d: datasets\..*is not text for YAML; quote it"):
        config.load(path, "config")
    if name == "2017":
        path.write_text(f"models: [m]\ndatasets:\n  '{name}': {dataset}\n")
        assert "2017" in config.load(path, "config")["datasets"]


@pytest.mark.parametrize("bracket", ["[", "{", "[{"])
def test_endless_nesting_is_refused_at_once(tmp_path, bracket):
    """A parser that follows it takes quadratic time."""
    path = tmp_path / "config.yaml"
    path.write_text(f"models: {bracket * 9000}\n")
    with pytest.raises(UsageError, match=r"config\.yaml:1: YAML: nested more than 50 deep"):
        config.load(path, "config")


@pytest.mark.parametrize(
    ("name", "right", "wrong", "expected"),
    [
        (
            "gfocalv2",
            "shape: [100, 5]",
            "shape: [100, 6]",
            r"outputs: the decoder reads .*; declared are dets \[100, 6\]",
        ),
        ("gfocalv2", "labels, shape: [100]", "labels, shape: [50]", r"declared are dets \[100, 5\], labels \[50\]"),
        (
            "gfocalv2",
            "iou_types: [bbox]",
            "iou_types: [bbox, segm]",
            r"metric\.iou_types: decoder after_nms makes no masks without decode\.masks",
        ),
        ("rfcn", "name: rois", "name: boxes", r"decoder rfcn reads rois \[1, N, 5\]"),
        ("rfcn", "shape: [1, 300, 84]", "shape: [1, 300, 80]", r"cls_prob \[1, N, 21\], bbox_pred \[1, N, 84\]; decl"),
    ],
)
def test_the_outputs_are_those_that_the_decoder_reads(tmp_path, name, right, wrong, expected):
    """Else it would be found out after the inference."""
    text = (config.ROOT / "config" / "models" / f"{name}.yaml").read_text()
    assert right in text
    path = tmp_path / "m.yaml"
    path.write_text(text.replace(right, wrong))
    with pytest.raises(UsageError, match=r"m\.yaml:\d+: .*" + expected):
        config.load(path, "model")


def test_a_family_that_is_not_known_is_named_before_what_depends_on_it(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(
        (config.ROOT / "config/backends/ascend310p.yaml").read_text().replace("family: ascend", "family: ascent")
    )
    with pytest.raises(UsageError, match=r"b\.yaml:\d+: family: unknown value 'ascent'; did you mean 'ascend'"):
        config.load_backend(path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{log: error}", "{log: errors}", "atc.log: 'errors' is not known; expected one of debug, info"),
        ("{log: error}", "{lag: error}", "atc.lag: unknown key; did you mean 'log'?"),
        ("cann: ", "can: ", "can: unknown key; did you mean 'cann'?"),
        ("devices: [0]", "devices: [0]\nsession: {}", "session: unknown key"),
        ("family: ascend", "family: ascend\nruns: checkpoint", "runs: 'compiled' was expected"),
        ("family: ascend", "family: onnxruntime", "soc_version: unknown key"),
        ("family: ascend\n", "", "missing key 'family'"),
    ],
)
def test_keys_of_a_backend_are_those_of_its_family(tmp_path, old, new, expected):
    text = (config.ROOT / "config/backends/ascend310p.yaml").read_text()
    assert old in text
    path = tmp_path / "b.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError) as refusal:
        config.load_backend(path)
    assert str(refusal.value).startswith(f"{path}")
    assert expected in str(refusal.value)


def test_a_family_marks_which_stage_reads_which_of_its_keys():
    model = config.load(MODEL, "model")
    backend = config.load_backend(config.ROOT / "config/backends/ascend310p.yaml")
    changed = {
        key: {
            stage
            for stage in config.STAGES
            if config.settings(model, backend, stage) != config.settings(model, backend | {key: "x"}, stage)
        }
        for key in ("title", "atc", "runner", "loop", "cann")
    }
    assert changed == {
        "title": set(),
        "atc": {"compile"},
        "runner": {"infer", "benchmark", "parity"},
        "loop": {"benchmark"},
        "cann": {"compile", "benchmark"},
    }
