"""Presets: published settings of families of detectors, config/presets/NAME.yaml, and which family a file is of."""

from detport import schemas
from detport.errors import UsageError
from detport.graph.describe import Facts
from detport.yamlfile import expectation, read_yaml

FOLDER = schemas.ROOT / "config" / "presets"


def known() -> list[str]:
    """Names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> dict:
    """A preset, checked and with defaults."""
    if name not in known():
        raise UsageError(f"--preset {name}: there is no such preset; {expectation(name, known())}")
    path = FOLDER / f"{name}.yaml"
    value, places = read_yaml(path)
    schemas.validate(value, schemas.schema_of("preset"), str(path), places, ())
    return value


def recognised(facts: Facts, form: str) -> tuple[str, str] | None:
    """The preset whose signs a file has, and these in words; None where none fits or two fit equally well."""
    fitting = [
        (weight(sign), name, in_words(sign))
        for name in known()
        for sign in load(name)["signs"]
        if shows(sign, facts, form)
    ]
    if not fitting:
        return None
    most = max(found for found, _, _ in fitting)
    best = {name: words for found, name, words in fitting if found == most}
    return next(iter(best.items())) if len(best) == 1 else None


def weight(sign: dict) -> int:
    """How much a sign says: metadata more than names, a value of theirs more than a key."""
    values = sign.get("metadata", {}).values()
    return len(sign) + sum(2 if value is None else 3 for value in values)


def shows(sign: dict, found: Facts, form: str) -> bool:
    """Whether a file has all that a sign lists."""
    metadata, inputs, outputs = (
        found.metadata,
        {each.name for each in found.inputs},
        {each.name for each in found.outputs},
    )
    return (
        all(key in metadata and want in (None, metadata[key]) for key, want in sign.get("metadata", {}).items())
        and found.producer.startswith(sign.get("producer", ""))
        and inputs >= set(sign.get("inputs", []))
        and outputs >= set(sign.get("outputs", []))
        and sign.get("form", form) == form
    )


def in_words(sign: dict) -> str:
    """What a sign lists."""
    parts = []
    for key, value in sign.items():
        shown = ", ".join(value) if isinstance(value, list | dict) else value
        parts.append(f"outputs that are {shown.replace('_', ' ')}" if key == "form" else f"{key} {shown}")
    return " and ".join(parts)
