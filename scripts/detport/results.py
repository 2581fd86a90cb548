"""Measured files and reports: JSON that is read back is checked against its schema."""

import json
from pathlib import Path

import jsonschema

from detport import schemas, yamlfile
from detport.errors import Failure

SHOWN = 200  # characters of a complaint, which may quote the whole file


def read(path: Path, kind: str) -> dict:
    """An accuracy.json, a performance.json or a report's JSON, as `kind` says; Failure names the key that is wrong."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path}: not valid JSON ({error}); delete it and run its stage again") from error
    errors = jsonschema.Draft202012Validator(schemas.schema_of(f"measured/{kind}")).iter_errors(value)
    for error in errors:
        key = yamlfile.dotted(tuple(error.absolute_path)) or "file"
        raise Failure(f"{path}: {key}: {error.message[:SHOWN]}; delete it and run its stage again")
    return value


def refuse(constant: str) -> None:
    """NaN and infinity are not JSON, although Python reads them."""
    raise ValueError(f"{constant} is no number")
