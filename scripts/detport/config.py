"""Configuration: every yaml is read, checked against its schema and completed with its defaults here.

A stage is given only the sections that STAGES lists for it, and the workflow reruns a stage when one of
exactly these sections changes: what a script can read and what makes it rerun cannot drift apart.
"""

import copy
import functools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jsonschema
import yaml

from detport import decoders, efficientdet
from detport.errors import UsageError
from detport.yamlfile import (
    Places,
    dotted,
    expectation,
    listing,
    position,
    read_places,
    read_with_base,
    require_text_keys,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "config" / "schemas"

# Sections that are checked by a schema of their own, named by one of their keys.
PLUGINS = {"network": "architecture", "decode": "kind", "metric": "kind"}


# Sections with the options of a compiler, and the schema that lists them.
COMPILERS = {"backend": {("atc",): "atc"}, "model": {("compile", "ascend"): "atc"}}


class Stage(NamedTuple):
    """What a stage reads: sections of the model's yaml and keys of the backend's."""

    sections: tuple[str, ...]
    backend: tuple[str, ...] = ()


# Where a stage finds the module of a family of backends.
FAMILY_ROOMS = {"compile": "compilers", "infer": "backends", "benchmark": "backends"}
# Keys of a backend that decide what a model computes; which devices it may use does not, unless they tell the chip.
RUNNING = ("family", "flavour", "runs", "session", "runner")
COMPILING = ("family", "flavour", "session", "soc_version", "chip", "cann", "atc", "operators")


STAGES = {
    "preprocess": Stage(("input", "preprocess")),
    "convert_checkpoint": Stage(("checkpoint",)),
    "export": Stage(("onnx", "network", "input", "outputs", "export")),
    "simplify": Stage(("input", "outputs", "simplify")),
    "patch": Stage(("patches", "input", "outputs", "simplify"), backend=("family",)),
    "compile": Stage(("input", "preprocess", "outputs", "compile"), COMPILING),
    "infer": Stage(("network", "input", "preprocess", "outputs"), RUNNING),
    "decode": Stage(("outputs", "decode")),
    "evaluate": Stage(("metric",)),
    "benchmark": Stage(
        ("network", "input", "preprocess", "outputs", "benchmark"),
        (*RUNNING, "loop", "devices", "devices_per_card", "soc_version", "chip", "cann"),
    ),
    "report": Stage(("title", "dataset", "metric", "allowed_skips", "references", "gates")),
}


def load_model(path: Path, stage: str, backend: dict | None = None) -> dict:
    """The part of a model's yaml that `stage` may read, checked and with defaults; `name` is the file's stem."""
    return {"name": path.stem} | visible(load(path, "model"), stage, backend)


def visible(model: dict, stage: str, backend: dict | None) -> dict:
    """The sections of a model that a stage reads, for this backend.

    Only a backend that runs the checkpoint itself reads the network; only a model that normalises on the device tells
    stages behind preprocess how. Of the patches, only the backend's own are there, or else its family's; of compiler
    options, its family's.
    """
    sections = {key: model[key] for key in STAGES[stage].sections if key in model}
    if STAGES[stage].backend:
        if not sections.get("input", {}).get("on_device"):
            sections.pop("preprocess", None)
        if backend is not None:
            if backend["runs"] == "compiled":
                sections.pop("network", None)
            if "patches" in sections:
                declared = sections["patches"]
                sections["patches"] = declared.get(backend["name"], declared.get(backend["family"], []))
            if "compile" in sections:
                sections["compile"] = sections["compile"].get(backend["family"], {})
    return sections


def load_backend(path: Path) -> dict:
    """A backend's yaml, checked and with defaults; `name` is the file's stem."""
    value, places = read_places(path)
    if isinstance(value, dict) and "family" in value:  # first, because the other keys depend on it
        validate(value["family"], schema_of("backend")["properties"]["family"], str(path), places, ("family",))
    return {"name": path.stem} | check(value, "backend", str(path), places)


def check_backend_names(path: Path, known: set[str]) -> None:
    """Refuse a model's yaml with the name of a backend that nobody has: a gate of it would never be asked."""
    model, places = read_with_base(path)
    families = schema_of("backend")["properties"]["family"]["enum"]
    named = [(("patches", name), name, known.union(families)) for name in model.get("patches", {})]
    for i, reference in enumerate(model.get("references", [])):
        named.append((("references", i, "backend"), reference.get("backend"), known))
    for i, gate in enumerate(model.get("gates", [])):
        named.append((("gates", i, "against"), gate.get("against"), known))
        named += [(("gates", i, "backends", k), name, known) for k, name in enumerate(gate.get("backends") or [])]
    for key, name, expected in named:
        if name is not None and name not in expected:
            where = position(str(path), places, key)
            raise UsageError(f"{where}: {dotted(key)}: no backend {name!r}; {expectation(name, sorted(expected))}")


def check_patches(path: Path, backends: Iterable[dict]) -> None:
    """Refuse a patch that a backend would undo."""
    model, places = read_with_base(path)
    declared = model.get("patches", {})
    for backend in backends:
        key = backend["name"] if backend["name"] in declared else backend["family"]
        for i, patch in enumerate(declared.get(key, [])):
            if patch["name"] == "pad_maxpool_with_zero" and backend["family"] != "ascend":
                where = position(str(path), places, ("patches", key, i))
                raise UsageError(
                    f"{where}: patches.{key}.{i}: pad_maxpool_with_zero is for Ascend: ONNX Runtime turns such a Pad"
                    " back into MaxPool's own in silence; declare it under ascend, or use fuse_pad_into_maxpool"
                )


def load_dataset(path: Path, name: str) -> dict:
    """One dataset of a workflow configuration."""
    datasets = load(path, "config")["datasets"]
    if name not in datasets:
        raise UsageError(f"{path}: datasets.{name}: no such dataset; expected one of {listing(datasets)}")
    return datasets[name]


def load(path: Path, schema: str) -> dict:
    """Read and check one yaml file; a model's is read with its base."""
    value, places = read_with_base(path) if schema == "model" else read_places(path)
    return check(value, schema, str(path), places)


def check(value: object, schema: str, source: str, places: Places | None = None) -> dict:
    """Check `value` against config/schemas/SCHEMA.yaml and fill in defaults; the first error names file and key."""
    value = copy.deepcopy(value)
    require_text_keys(value, source, places or {})
    validate(value, schema_of(schema), source, places or {}, ())
    if schema == "model":
        for section, selector in PLUGINS.items():
            if section in value:
                check_plugin(value, section, selector, source, places or {})
        for check_part in (check_classes, check_contract, check_decoded, check_canvases, check_on_device):
            check_part(value, source, places or {})
    for path, part in COMPILERS[schema].items() if schema in COMPILERS else ():
        options = value
        for key in path:
            options = options.get(key, {})
        validate(options, schema_of(part), source, places or {}, path)
    return value


def check_classes(model: dict, source: str, places: Places) -> None:
    """Every class of the network has a category."""
    declared = model["decode"].get("categories")
    classes = model.get("network", {}).get("classes")
    if classes is None or declared is None:
        return
    count = len(decoders.categories(declared))
    if classes != count:
        where = position(source, places, ("decode", "categories"))
        raise UsageError(f"{where}: decode.categories: has {count} categories, network.classes is {classes}")


def check_contract(model: dict, source: str, places: Places) -> None:
    """The outputs are those of network.contract on every canvas, where an architecture has several contracts."""
    network = model.get("network", {})
    if network.get("architecture") != "efficientdet":
        return
    declared = model["outputs"]
    for canvas in (model["input"], *model["input"]["canvases"]):
        expected = efficientdet.outputs(network, canvas["height"], canvas["width"])
        # A name that a contract leaves open may be any.
        found = [{key: output[key] for key in expected[0]} for output in declared]
        if found != expected:
            where = position(source, places, ("outputs",))
            raise UsageError(
                f"{where}: outputs: network.contract {network['contract']} at {canvas['height']}x{canvas['width']} has"
                f" {signature(expected)}; declared are {signature(declared)}; correct outputs or network.contract"
            )


def check_decoded(model: dict, source: str, places: Places) -> None:
    """The outputs have what the decoder reads, by name and shape; and it makes what the metric scores."""
    kind = model["decode"]["kind"]
    read = decoder_reads(model["decode"])
    declared = {output["name"]: output["shape"] for output in model["outputs"]}
    sizes: dict[str, int] = {}
    for name, expected in read.items():
        found = declared.get(name, [])
        fits = len(found) == len(expected) and all(
            size == (sizes.setdefault(want, size) if isinstance(want, str) else want)
            for size, want in zip(found, expected, strict=True)
        )
        if not fits:
            wanted = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in read.items())
            raise UsageError(
                f"{position(source, places, ('outputs',))}: outputs: decoder {kind} reads {wanted}; declared are"
                f" {', '.join(f'{name} {shape}' for name, shape in declared.items())}; correct outputs, decode.kind or"
                " decode.categories"
            )
    if "segm" in model["metric"].get("iou_types", []) and "masks" not in read:
        where = position(source, places, ("metric", "iou_types"))
        raise UsageError(f"{where}: metric.iou_types: decoder {kind} makes no masks; leave segm out")


def decoder_reads(decode: dict) -> dict[str, list]:
    """Name and shape of what a decoder reads. C of its schema is the number of classes, background included; any other
    letter stands for some number, the same everywhere."""
    read = schema_of(f"decode/{decode['kind']}").get("outputs", {})
    count = len(decoders.classes(decoders.categories(decode["categories"]), decode["background"]))
    return {name: [{"C": count, "4C": 4 * count}.get(size, size) for size in shape] for name, shape in read.items()}


def signature(outputs: list[dict]) -> str:
    """Name, type and shape of outputs."""
    return ", ".join(f"{o.get('name', '(any name)')} {o['dtype']} {o['shape']}" for o in outputs)


def check_plugin(model: dict, section: str, selector: str, source: str, places: Places) -> None:
    """Check a section against the schema that its selector names, network/ARCHITECTURE.yaml."""
    kind = model[section][selector]
    known = sorted(path.stem for path in (SCHEMAS / section).glob("*.yaml"))
    if kind not in known:
        where = position(source, places, (section, selector))
        raise UsageError(f"{where}: {section}.{selector}: unknown value {kind!r}; expected one of {listing(known)}")
    validate(model[section], schema_of(f"{section}/{kind}"), source, places, (section,))


def check_on_device(model: dict, source: str, places: Places) -> None:
    """Only pixels as decoded and resized can be normalised later."""
    if model["input"]["on_device"] and model["preprocess"]["normalise"] == "before_resize":
        where = position(source, places, ("input", "on_device"))
        raise UsageError(
            f"{where}: input.on_device: this model normalises before the resize, which no device does behind it;"
            " remove on_device, or set preprocess.normalise to after_resize"
        )


def check_canvases(model: dict, source: str, places: Places) -> None:
    """No canvas twice; further ones only for a network, because a ready graph has one size."""
    sizes = [(canvas["height"], canvas["width"]) for canvas in (model["input"], *model["input"]["canvases"])]
    where = position(source, places, ("input", "canvases"))
    for i, size in enumerate(sizes[1:]):
        if size in sizes[: i + 1]:
            raise UsageError(f"{where}: input.canvases.{i}: {size[0]}x{size[1]} is there already")
    if "onnx" in model and sizes[1:]:
        raise UsageError(
            f"{where}: input.canvases: a model that is ONNX already has one size; use checkpoint and network"
        )


@functools.cache
def schema_of(name: str) -> dict:
    return yaml.safe_load((SCHEMAS / f"{name}.yaml").read_text())


def finite(_: object, value: object) -> bool:
    """YAML's .nan and .inf are no numbers to us: nothing can be compared with them."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", finite),
)


def validate(value: object, schema: dict, source: str, places: Places, base: tuple) -> None:
    """Raise UsageError for the first error in reading order; fill in defaults."""
    validator = Validator(schema)

    def reading_order(error: jsonschema.ValidationError) -> tuple[bool, int]:
        file, line = places.get(base + tuple(error.absolute_path), (source, 0))
        return file != source, line

    errors = sorted(validator.iter_errors(value), key=reading_order)
    if errors:
        raise UsageError(explain(errors[0], source, places, base))
    fill_defaults(value, schema)


def fill_defaults(value: object, schema: dict) -> None:
    """Write the schema's defaults into objects, nested ones and lists of objects included."""
    if isinstance(value, list):
        for item in value:
            fill_defaults(item, schema.get("items", {}))
    if not isinstance(value, dict):
        return
    for key, part in schema.get("properties", {}).items():
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if key in value:
            fill_defaults(value[key], part)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        for key in value.keys() - schema.get("properties", {}).keys():
            fill_defaults(value[key], extra)


def explain(error: jsonschema.ValidationError, source: str, places: Places, base: tuple) -> str:
    """One line: file and line, key, what is wrong and what was expected."""
    path = base + tuple(error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        path += (unknown,)
        message = f"unknown key; {expectation(unknown, known)}"
    elif error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        description = error.schema.get("properties", {}).get(missing, {}).get("description", "")
        message = f"missing key {missing!r}" + (f" ({description})" if description else "")
    elif error.validator == "enum":
        message = f"{error.instance!r} is not known; expected one of {listing(error.validator_value)}"
    elif error.validator == "type":
        message = f"{error.instance!r} is not of type {listing(error.validator_value)}"
    elif error.validator == "oneOf":
        forms = [form.get("description") or json.dumps(form) for form in error.validator_value]
        message = f"expected one of: {'; '.join(forms)}"
    elif error.validator == "not":
        message = "not allowed"
    elif error.schema is False:
        message = "not allowed for this family"
    else:
        message = error.message
    description = error.schema.get("description") if isinstance(error.schema, dict) else None
    if description and error.validator not in ("additionalProperties", "required"):
        message += f" ({description})"
    return f"{position(source, places, path)}: {dotted(path) or 'file'}: {message}"


def plugins(model: dict, backend: dict | None, stage: str) -> list[str]:
    """Modules that a stage imports by a name in its settings: the room and the value of the selector."""
    rooms = {"network": "networks", "decode": "decoders", "metric": "metrics"}
    sections = visible(model, stage, backend)
    names = [f"detport.{room}.{sections[key][PLUGINS[key]]}" for key, room in rooms.items() if key in sections]
    if stage in FAMILY_ROOMS and backend is not None:
        names.append(f"detport.{FAMILY_ROOMS[stage]}.{backend['family']}")
    return names


def settings_text(model: dict, backend: dict | None, stage: str) -> str:
    """The settings of a stage as one stable text, for the workflow to compare between runs."""
    selected = visible(model, stage, backend)
    if STAGES[stage].backend and backend is not None:
        keys = STAGES[stage].backend
        if "soc_version" in keys and backend.get("soc_version") == "auto":
            keys += ("devices",)  # the chip is theirs
        selected["backend"] = {key: backend[key] for key in keys if key in backend}
    return json.dumps(selected, sort_keys=True)
