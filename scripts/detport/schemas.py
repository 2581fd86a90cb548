"""Schemas: of the configuration's own files in config/schemas, of a plugin beside its module.

A plugin is a module in a room of this library, and the yaml beside it is the schema of its settings. It may have more
keys than JSON Schema knows, by which the plugin describes itself; the package of each room says which.
"""

import copy
import functools
import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import jsonschema
import referencing.jsonschema

from detport.errors import UsageError
from detport.yamlfile import Places, dotted, expectation, listing, position, read_own

LIBRARY = Path(__file__).parent
ROOT = LIBRARY.parents[1]
SCHEMAS = ROOT / "config" / "schemas"


@functools.cache
def schema_of(name: str) -> dict:
    """A schema of config/schemas."""
    return read_own(SCHEMAS / f"{name}.yaml")


@functools.cache
def plugin(room: str, kind: str) -> dict:
    """What a plugin says of itself: the schema of its settings, and more keys.

    With the keys of `parts/PART.yaml` of its room that it names; what it says of such a key itself is added.
    """
    schema = described(room, kind)
    for part in schema.get("parts", []):
        shared = described(f"{room}/parts", part)
        own = {key: shared["properties"].get(key, {}) | value for key, value in schema["properties"].items()}
        required = [key for key in shared.get("required", []) if "default" not in own.get(key, {})]
        schema = shared | schema | {"properties": shared["properties"] | own, "required": schema["required"] + required}
    return schema


def described(room: str, kind: str) -> dict:
    """The yaml of a plugin or a part, as it is."""
    return read_own(LIBRARY / room / f"{kind}.yaml")


def kinds(room: str) -> list[str]:
    """The plugins of a room."""
    return sorted(path.stem for path in (LIBRARY / room).glob("*.yaml"))


def module(room: str, kind: str) -> str:
    """Name of a plugin's module."""
    return f"detport.{room.replace('/', '.')}.{kind}"


def require_kind(kind: str, room: str, source: str, places: Places, key: tuple) -> None:
    """Refuse the name of a plugin that is not there."""
    known = kinds(room)
    if kind not in known:
        where = position(source, places, key)
        raise UsageError(f"{where}: {dotted(key)}: unknown value {kind!r}; {expectation(kind, known)}")


def own_problem(room: str, kind: str, model: dict) -> tuple[tuple, str] | None:
    """Key and text of what a plugin's own check finds in a model: problem(model) of KIND_check.py, where there is one,
    or of the module of this library that its yaml names under `check`.

    Every stage and the workflow itself run it, so it imports nothing heavy.
    """
    if shared := plugin(room, kind).get("check"):
        return importlib.import_module(f"detport.{shared}").problem(model)
    check = own_check(room, kind)
    return check and check.problem(model)


def own_check(room: str, kind: str) -> ModuleType | None:
    """KIND_check.py of a plugin, where there is one."""
    there = (LIBRARY / room / f"{kind}_check.py").exists()
    return importlib.import_module(f"{module(room, kind)}_check") if there else None


def contract_outputs(model: dict, source: str) -> list[dict]:
    """The outputs that a model's yaml leaves out because those of its network follow from a contract, which
    contract_outputs(network) of ARCHITECTURE_check.py tells."""
    schema = schema_of("model")["properties"]["outputs"]
    check = own_check("networks", model["network"]["architecture"]) if "network" in model else None
    tell = getattr(check, "contract_outputs", None)
    if tell is None:
        raise UsageError(f"{source}: file: missing key 'outputs' ({schema['description']})")
    found = tell(model["network"])
    fill_defaults(found, schema)
    return found


def finite(_: object, value: object) -> bool:
    """YAML's .nan and .inf are no numbers to us: nothing can be compared with them."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", finite),
)
# A schema's {$ref: ROOM/KIND} is that plugin's.
REGISTRY = referencing.Registry(
    retrieve=lambda name: referencing.jsonschema.DRAFT202012.create_resource(plugin(*name.rsplit("/", 1)))
)


def validate(value: object, schema: dict, source: str, places: Places, base: tuple) -> None:
    """Raise UsageError for the first error in reading order; fill in defaults."""
    validator = Validator(schema, registry=REGISTRY)

    def reading_order(error: jsonschema.ValidationError) -> tuple[bool, int, bool]:
        file, line = places.get(base + tuple(error.absolute_path), (source, 0))
        return file != source, line, error.validator == "required"  # what is missing may be there with a typo

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
    else:
        message = error.message
    description = error.schema.get("description") if isinstance(error.schema, dict) else None
    if description and error.validator not in ("additionalProperties", "required"):
        message += f" ({description})"
    return f"{position(source, places, path)}: {dotted(path) or 'file'}: {message}"
