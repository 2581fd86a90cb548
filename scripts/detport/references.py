"""References of a model's yaml that are in files of their own, as record_reference.py writes them."""

from pathlib import Path

from detport.errors import UsageError
from detport.schemas import schema_of, validate
from detport.yamlfile import position, read_with_base, read_yaml


def resolved(reference: dict) -> dict:
    """A reference; one that is in a file of its own is read and checked as if it stood in the model's yaml."""
    if "file" not in reference:
        return reference
    value, places = read_yaml(Path(reference["file"]))
    if isinstance(value, dict) and "file" in value:
        raise UsageError(f"{position(reference['file'], places, ('file',))}: file: is not allowed in such a file")
    validate(value, schema_of("model")["properties"]["references"]["items"], reference["file"], places, ())
    return value


def files(path: Path) -> list[Path]:
    """Files that references of a model's yaml are in."""
    model, _ = read_with_base(path)
    return [Path(each["file"]) for each in model.get("references", []) if "file" in each]
