"""Configuration: every yaml is read, checked against its schema and completed with its defaults here.

A stage is given only the sections that STAGES lists for it, and the workflow reruns a stage when one of
exactly these sections changes: what a script can read and what makes it rerun cannot drift apart.
"""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from detport import decoders, input_rules, references, schemas
from detport.errors import UsageError
from detport.schemas import ROOT, schema_of, validate
from detport.yamlfile import (
    Places,
    dotted,
    expectation,
    listing,
    position,
    read_overlaid,
    read_with_base,
    read_yaml,
    require_text_keys,
)

__all__ = ["ROOT", "schema_of", "validate"]  # of detport.schemas, for those who read configuration

# Sections of a model that a plugin describes, by the key that names it; and its room.
PLUGINS = {"network": ("architecture", "networks"), "decode": ("kind", "decoders"), "metric": ("kind", "metrics")}
PATCHES = "graph/patches"
EXPORT = "export"  # under `patches`, those of the graph that every backend starts from


class Stage(NamedTuple):
    """What a stage reads: sections of the model's yaml and keys of every backend's; its family may add further ones.

    One that takes `every_step` reads network and preprocess whatever the backend runs.
    """

    sections: tuple[str, ...]
    backend: tuple[str, ...] = ()
    every_step: bool = False
    pixels: bool = False  # it prepares images itself, although it is of a backend


# Where a stage finds the module of a family of backends.
FAMILY_ROOMS = {"compile": "compilers", "infer": "backends", "benchmark": "backends", "parity": "backends"}
FLOAT32 = "float32"  # the precision that no module makes
RUNNING = ("family", "flavour", "runs")  # keys of every backend that decide what a model computes


STAGES = {
    "preprocess": Stage(("input", "preprocess")),
    "check": Stage(("metric", "decode")),
    "convert_checkpoint": Stage(("checkpoint",)),
    "export": Stage(("onnx", "network", "input", "outputs", "export", "patches")),
    "simplify": Stage(("input", "outputs", "simplify")),
    "patch": Stage(("patches", "input", "outputs", "simplify"), backend=("family", "patches")),
    "calibrate": Stage(("input", "preprocess"), ("family",), pixels=True),
    "compile": Stage(("input", "preprocess", "outputs", "compile"), ("family", "flavour")),
    "infer": Stage(("network", "input", "preprocess", "outputs"), RUNNING),
    "decode": Stage(("outputs", "decode")),
    "evaluate": Stage(("metric",)),
    "benchmark": Stage(("network", "input", "preprocess", "outputs", "benchmark"), RUNNING),
    "parity": Stage(("network", "input", "preprocess", "outputs", "decode"), RUNNING, every_step=True),
    "resample": Stage(("metric", "statistics")),
    "doctor": Stage(("input", "preprocess", "outputs", "decode", "metric")),
    "layers": Stage(("input", "preprocess")),
    "report": Stage(
        ("title", "dataset", "decode", "metric", "allowed_skips", "references", "gates", "statistics", "parity")
    ),
    "page": Stage(("metric", "decode")),
}


def load_model(path: Path, stage: str, backend: dict | None = None) -> dict:
    """The part of a model's yaml that `stage` may read, checked and with defaults; `name` is the file's stem."""
    return {"name": path.stem} | visible(load(path, "model"), stage, backend)


def visible(model: dict, stage: str, backend: dict | None) -> dict:
    """The sections of a model that a stage reads, for this backend.

    Only a backend that runs the checkpoint itself reads the network, and only a model that normalises on the device
    tells stages behind preprocess how, but for those that take every step or prepare images. Of the patches, only the
    backend's own are there, or else its family's; of compiler options, its family's.
    """
    sections = {key: model[key] for key in STAGES[stage].sections if key in model}
    if stage == EXPORT:
        sections["patches"] = sections.get("patches", {}).get(EXPORT, [])
    if STAGES[stage].backend:
        every_step, pixels = STAGES[stage].every_step, STAGES[stage].pixels
        if not every_step and not pixels and not sections.get("input", {}).get("on_device"):
            sections.pop("preprocess", None)
        if backend is not None:
            if backend["runs"] == "compiled" and not every_step:
                sections.pop("network", None)
            if "patches" in sections:
                declared = sections["patches"]
                own = declared.get(backend["name"], declared.get(backend["family"], []))
                sections["patches"] = own + backend.get("patches", [])
            if "compile" in sections:
                sections["compile"] = sections["compile"].get(backend["family"], {})
    return sections


def load_backend(path: Path) -> dict:
    """A backend's yaml, checked and with defaults; `name` is the file's stem."""
    value, places = read_yaml(path)
    return {"name": path.stem} | check(value, "backend", str(path), places)


def check_backend_names(path: Path, known: set[str]) -> None:
    """Refuse a model's yaml with the name of a backend that nobody has: a gate of it would never be asked."""
    model, places = read_with_base(path)
    patched = known.union(schemas.kinds("backends"), [EXPORT])
    named = [(("patches", name), name, patched) for name in model.get("patches", {})]
    for i, reference in enumerate(model.get("references", [])):
        named.append((("references", i, "backend"), reference.get("backend"), known))
    for i, gate in enumerate(model.get("gates", [])):
        if recorded(gate) is None:
            named.append((("gates", i, "against"), gate.get("against"), known))
        named += [(("gates", i, "backends", k), name, known) for k, name in enumerate(gate.get("backends") or [])]
    for key, name, expected in named:
        if name is not None and name not in expected:
            where = position(str(path), places, key)
            raise UsageError(f"{where}: {dotted(key)}: no backend {name!r}; {expectation(name, sorted(expected))}")


def recorded(gate: dict) -> str | None:
    """The file of recorded detections that a gate compares with; None for one that compares with a backend."""
    against = gate.get("against")
    compares = gate.get("margin") is not None and isinstance(against, str)
    return against if compares and against.endswith((".json", ".json.gz")) else None


def check_patches(path: Path, backends: Iterable[dict]) -> None:
    """Refuse a patch that is not for a backend's family."""
    model, places = read_with_base(path)
    declared = model.get("patches", {})
    for backend in backends:
        key = backend["name"] if backend["name"] in declared else backend["family"]
        require_families(declared.get(key, []), backend["family"], str(path), places, ("patches", key))


def require_families(declared: list[dict], family: str, source: str, places: Places, key: tuple) -> None:
    """Refuse a patch that is not for a family of backends."""
    for i, patch in enumerate(declared):
        about = schemas.plugin(PATCHES, patch["name"])
        if family not in about.get("families", [family]):
            raise UsageError(
                f"{position(source, places, (*key, i))}: {dotted((*key, i))}: {patch['name']} is for the family"
                f" {listing(about['families'])} alone: {about['elsewhere']}; declare it there"
            )


def load_configuration(paths: list[Path]) -> dict:
    """A workflow configuration: the first file, and over it those of --configfile."""
    value, places = read_overlaid(paths)
    return check(value, "config", str(paths[0]), places)


def load_dataset(paths: list[Path], name: str) -> dict:
    """One dataset of a workflow configuration, of which only the files that say something of it need be there."""
    value, places = read_overlaid(paths)
    datasets = value.get("datasets") if isinstance(value, dict) else None
    validate(datasets, schema_of("config")["properties"]["datasets"], str(paths[0]), places, ("datasets",))
    if name not in datasets:
        raise UsageError(f"{paths[0]}: datasets.{name}: no such dataset; expected one of {listing(datasets)}")
    return datasets[name]


def sample_size(dataset: dict, sample: int | None) -> int | None:
    """How many images are asked for of a dataset, by its own key `sample` and that of all datasets; None for all."""
    return min((each for each in (dataset.get("sample"), sample) if each is not None), default=None)


def load(path: Path, schema: str) -> dict:
    """Read and check one yaml file; a model's is read with its base."""
    value, places = read_with_base(path) if schema == "model" else read_yaml(path)
    return check(value, schema, str(path), places)


def check(value: object, schema: str, source: str, places: Places | None = None) -> dict:
    """Check `value` against config/schemas/SCHEMA.yaml and fill in defaults; the first error names file and key."""
    value, places = copy.deepcopy(value), places or {}
    require_text_keys(value, source, places)
    whole = backend_schema(value, source, places) if schema == "backend" else schema_of(schema)
    validate(value, whole, source, places, ())
    if schema == "backend":
        check_declared(value["patches"], source, places, ("patches",), value["family"])
    if schema == "model":
        resolve_categories(value, source, places)
        value["references"] = [references.resolved(each) for each in value["references"]]
        check_plugins(value, source, places)
        for check_part in (check_classes, check_decoded, check_measures, check_canvases, check_input):
            check_part(value, source, places)
    return value


def resolve_categories(model: dict, source: str, places: Places) -> None:
    """Put the list of categories in place of the table or the file that stands for it, so that what stages read, and
    what makes them rerun, is the names themselves."""
    if "categories" in model["decode"]:
        try:
            model["decode"]["categories"] = decoders.declared_categories(model["decode"]["categories"])
        except UsageError as error:
            where = position(source, places, ("decode", "categories"))
            raise UsageError(f"{where}: decode.categories: {error}") from error


def flavours() -> list[str]:
    """Of graphs, by the operators that they may have: those of all families."""
    common = schema_of("backend")["properties"]["flavour"]["const"]
    families = [schemas.plugin("backends", family)["properties"] for family in schemas.kinds("backends")]
    return sorted({common, *(each for keys in families for each in keys.get("flavour", {}).get("enum", []))})


def backend_schema(value: object, source: str, places: Places) -> dict:
    """The keys of every backend and those of its family, which may say more of the common ones."""
    common = schema_of("backend")
    if not isinstance(value, dict) or not isinstance(value.get("family"), str):
        return common | {"additionalProperties": True}  # other keys depend on the one that is wrong
    schemas.require_kind(value["family"], "backends", source, places, ("family",))
    family = schemas.plugin("backends", value["family"])
    return common | {
        "properties": common["properties"] | family["properties"],
        "required": common["required"] + family.get("required", []),
    }


def check_plugins(model: dict, source: str, places: Places) -> None:
    """Check every section and option that a plugin describes against its schema, then by its own check."""
    chosen = {section: (room, model[section][key]) for section, (key, room) in PLUGINS.items() if section in model}
    for section, (room, kind) in chosen.items():
        schemas.require_kind(kind, room, source, places, (section, PLUGINS[section][0]))
        validate(model[section], schemas.plugin(room, kind), source, places, (section,))
    if "outputs" not in model:
        model["outputs"] = schemas.contract_outputs(model, source)
    for key, declared in model["patches"].items():
        check_declared(declared, source, places, ("patches", key))
    if model["patches"].get(EXPORT):
        where = ("patches", EXPORT)
        if "onnx" not in model:
            problem = "is for a model that is ONNX already; patch an exported network for a family of backends"
            raise UsageError(f"{position(source, places, where)}: {dotted(where)}: {problem}")
        require_families(model["patches"][EXPORT], EXPORT, source, places, where)
    for family, options in model["compile"].items():
        schemas.require_kind(family, "compilers", source, places, ("compile", family))
        validate(options, schemas.plugin("compilers", family), source, places, ("compile", family))
    for room, kind in chosen.values():
        found = schemas.own_problem(room, kind, model)
        if found:
            key, text = found
            raise UsageError(f"{position(source, places, key)}: {dotted(key)}: {text}")


def check_declared(declared: list[dict], source: str, places: Places, key: tuple, family: str | None = None) -> None:
    """Check the options of patches against their schemas, and that they are for the family of a backend's yaml."""
    for i, patch in enumerate(declared):
        schemas.require_kind(patch["name"], PATCHES, source, places, (*key, i, "name"))
        validate(patch["options"], schemas.plugin(PATCHES, patch["name"]), source, places, (*key, i, "options"))
    if family is not None:
        require_families(declared, family, source, places, key)


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


def check_decoded(model: dict, source: str, places: Places) -> None:
    """The outputs have what the decoder reads, by name and shape; and it makes what the metric scores."""
    kind = model["decode"]["kind"]
    decoder = schemas.plugin("decoders", kind)
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
    for key, value in scored_masks(model["metric"]):
        if not decoder.get("masks") or model["decode"].get("masks", True) is None:
            where, without = (
                position(source, places, ("metric", key)),
                " without decode.masks" * bool(decoder.get("masks")),
            )
            raise UsageError(f"{where}: metric.{key}: decoder {kind} makes no masks{without}; leave {value} out")


def decoder_reads(decode: dict) -> dict[str, list]:
    """Name and shape of what a decoder reads. C of its schema is the number of classes, background included; any other
    letter stands for some number, the same everywhere."""
    read = schemas.plugin("decoders", decode["kind"]).get("outputs", {})
    if "categories" not in decode:
        return read
    count = len(decoders.classes(decoders.categories(decode["categories"]), decode.get("background", "none")))
    return {name: [{"C": count, "4C": 4 * count}.get(size, size) for size in shape] for name, shape in read.items()}


def scored_masks(metric: dict) -> list[tuple[str, str]]:
    """What in the settings of a metric makes it score masks, as key and value; nothing if it scores none."""
    masks = schemas.plugin("metrics", metric["kind"]).get("masks", {})
    return [(key, value) for key, value in masks.items() if value in metric[key]]


def check_measures(model: dict, source: str, places: Places) -> None:
    """Every gate is on a figure of speed or of the metric: any other would never be measured."""
    kind, speed = model["metric"]["kind"], schema_of("model")["properties"]["gates"]["speed"]
    about = schemas.plugin("metrics", kind)
    own, resampled = about["figures"], about.get("resampled")
    for i, gate in enumerate(model["gates"]):
        if not any(re.fullmatch(pattern, gate["measure"]) for pattern in (speed, own)):
            key = ("gates", i, "measure")
            raise UsageError(
                f"{position(source, places, key)}: {dotted(key)}: {gate['measure']!r} is neither a figure of metric"
                f" {kind} ({own}) nor one of speed ({speed})"
            )
        if gate["margin"] is not None and not (resampled and re.fullmatch(resampled, gate["measure"])):
            key = ("gates", i, "measure")
            raise UsageError(
                f"{position(source, places, key)}: {dotted(key)}: a gate with a margin is on a figure that can be"
                f" resampled, which {gate['measure']!r} cannot ({resampled or f'none of metric {kind} can'})"
            )


def check_input(model: dict, source: str, places: Places) -> None:
    """The words for the input and its preprocessing go together."""
    if found := next(input_rules.problems(model), None):
        key, problem = found
        raise UsageError(f"{position(source, places, key)}: {dotted(key)}: {problem}")


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


def plugins(sections: dict, backend: dict | None, stage: str) -> list[str]:
    """Modules that a stage imports by a name in what it sees of its settings."""
    names = [
        schemas.module(room, sections[section][key]) for section, (key, room) in PLUGINS.items() if section in sections
    ]
    if backend is not None:
        if stage in FAMILY_ROOMS:
            names.append(schemas.module(FAMILY_ROOMS[stage], backend["family"]))
        stepped = schemas.plugin("backends", backend["family"]).get("steps")  # else the runner makes the precision
        if stage == "compile" and stepped and backend["precision"] != FLOAT32:
            names.append(schemas.module("precisions", backend["precision"]))
    if backend is not None or stage == EXPORT:
        names += dict.fromkeys(schemas.module(PATCHES, patch["name"]) for patch in sections.get("patches", []))
    return names


def settings(sections: dict, backend: dict | None, stage: str) -> dict:
    """All settings that a stage reads: what it sees of the model's yaml, and keys of the backend's."""
    found = {key: value for key, value in sections.items() if key != "name"}
    if STAGES[stage].backend and backend is not None:
        found["backend"] = {key: backend[key] for key in backend_keys(backend, stage) if key in backend}
    return found


def backend_keys(backend: dict, stage: str) -> list[str]:
    """Keys of a backend that a stage reads: those of every family, and those that its own marks with the stage.

    A value that another key tells, such as the chip of the devices, is marked with that key under `told_by`.
    """
    own = schemas.plugin("backends", backend["family"])["properties"]
    keys = [*STAGES[stage].backend, *(key for key, part in own.items() if stage in part.get("stages", []))]
    told = [(backend.get(key), own[key]["told_by"]) for key in keys if "told_by" in own.get(key, {})]
    return keys + [by[value] for value, by in told if value in by]
