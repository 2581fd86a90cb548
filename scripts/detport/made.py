"""What made a file. Beside every result FILE stands FILE.made, in every folder made.json: a record that tells which
stage made it, with which settings, code and package versions, from what, and what came out.

The `identity` of a file is the digest of its stage's settings, code and versions and of the identities of what it was
made from, all known before anything runs. Content is told by sha256 apart from that: a record holds the digest of its
file and of everything that went into it. Both together say whether a file is what the configuration in force gives.
"""

import hashlib
import json
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detport import code
from detport.errors import Failure
from detport.files import sha256, write_json
from detport.processes import processor

BROUGHT = ("outputs", "log")  # roles of sources that stand for a stage that another machine has run
FOLDER = "made.json"  # the record of a folder, in it
BEGUN = time.time()
DEVICES: dict[str, list[list[float]]] = {}  # when this process has had a device to itself, and for how many seconds
Entry = list  # of a file: size, time of its last change in ns, sha256 (None where it was not computed)


def recipe(stage: str, settings: Mapping, plugins: Iterable[str] = (), pinned: bool = False) -> dict:
    """What a stage does to its inputs: its settings, and the digest of its code and versions of its packages."""
    digest, versions = code.of(f"{stage}.py", tuple(plugins), pinned)
    plain = json.loads(json.dumps(settings))  # as it will be read back: lists for tuples
    return {"stage": stage, "settings": plain, "code": digest, "versions": versions}


def identity(made_by: dict, inputs: Mapping[str, Sequence[str]]) -> str:
    """The identity of what a recipe makes from inputs of these identities."""
    return digest_of({"recipe": made_by, "inputs": {role: list(found) for role, found in inputs.items()}})


def digest_of(value: object) -> str:
    """sha256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def begin(
    made_by: dict,
    inputs: Mapping[str, Path | Sequence[Path]],
    sources: Mapping[str, dict] | None = None,
    expect: str | None = None,
    threads: int | None = 1,
    device: str = "",
) -> dict:
    """The record of what is about to be made, complete but for what comes out.

    `inputs` are files and folders of other stages, which must be what their own records say; `sources`, as `source`
    gives them, are what a person brought. `expect` is the identity that the workflow has planned with. `threads` is
    None where no processor of ours had a part in the figures, `device` what computed if it was not the processor.
    """
    paths = {role: [found] if isinstance(found, Path) else list(found) for role, found in inputs.items()}
    records = {role: [whole(path) for path in found] for role, found in paths.items()}
    own = identity(made_by, {role: [each["identity"] for each in found] for role, found in records.items()})
    if expect is not None and own != expect:
        raise Failure(
            "the settings, the code or the packages are not those that the workflow planned this job with: they were"
            " changed while it ran, or differ on this machine. Run the same command again (alone: without --expect)"
        )
    folders = [each for found in records.values() for each in found if each["folder"]]
    versions = made_by["versions"] | {"python": platform.python_version()}
    step = {"stage": made_by["stage"], "versions": versions, "threads": threads, "processor": processor()}
    step |= {"device": device} if device else {}
    trail = [each for found in records.values() for record in found for each in record.get("trail", [])]
    return {
        "schema": 1,
        "stage": made_by["stage"],
        "identity": own,
        "recipes": passed_on(folders, "recipes") | {made_by["stage"]: made_by},
        "inputs": passed_on(folders, "inputs") | {role: content(found) for role, found in records.items()},
        "sources": passed_on(folders, "sources") | dict(sources or {}),
        "seconds": passed_on(folders, "seconds"),
        "memory": passed_on(folders, "memory"),
        "began": passed_on(folders, "began"),
        "devices": passed_on(folders, "devices"),
        "trail": distinct([*trail, step]),
        "brought": brought([each for found in records.values() for each in found], sources or {}),
    }


def brought(records: Iterable[dict], sources: Mapping[str, dict]) -> dict[str, dict]:
    """What another machine has made, of all that a file was made from: how many files, and one digest for them."""
    found = [{role: source for role, source in sources.items() if role in BROUGHT}]
    found += [record["brought"] for record in records if record.get("brought")]
    told = {}
    for role in BROUGHT:
        each = [one[role] for one in found if role in one]
        if each:
            count = sum(one["files"] if isinstance(one["files"], int) else len(one["files"]) for one in each)
            digests = [one["sha256"] for one in each]
            told[role] = {"files": count, "sha256": digests[0] if len(each) == 1 else digest_of(digests)}
    return told


def passed_on(folders: Iterable[dict], key: str) -> dict:
    """What records of folders say, which may be gone when their followers are looked at."""
    return {name: value for record in folders for name, value in record.get(key, {}).items()}


def content(records: Sequence[dict]) -> str:
    """The digest of what several files hold, in their order."""
    return digest_of([record["sha256"] for record in records])


def distinct(steps: Iterable[dict]) -> list[dict]:
    """Each step once, in order."""
    return list({digest_of(step): step for step in steps}.values())


def put(record: dict, path: Path) -> None:
    """Write the record of a file that is there now."""
    write(path.with_name(f"{path.name}.made"), record | finished(record) | {"folder": False} | found_in(path, [path]))


def put_folder(record: dict, folder: Path, digests: Mapping[str, str | None]) -> None:
    """Write the record of a folder into it; `digests` are those of its files, None where nobody computed one."""
    files = {name: [*stamp(folder / name), digest] for name, digest in sorted(digests.items())}
    found = {"folder": True, "files": files, "sha256": names_and_digests(files)}
    write(folder / FOLDER, record | finished(record) | found)


def write(path: Path, record: dict) -> None:
    """Write a record with a seal, so that one that was cut off or edited is none."""
    write_json(path, record | {"seal": digest_of(record)})


def finished(record: dict) -> dict:
    """What is known of a stage at its end."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": record["seconds"] | {record["stage"]: round(time.time() - BEGUN, 3)},
        "memory": record["memory"] | {record["stage"]: peak},
        "began": record["began"] | {record["stage"]: round(BEGUN, 3)},
        "devices": record["devices"] | DEVICES,
    }


def note_device(device: int, began: float) -> None:
    """For the record: this process gives a device back that it has had since then."""
    DEVICES.setdefault(str(device), []).append([round(began, 3), round(time.time() - began, 3)])


def found_in(path: Path, files: Sequence[Path]) -> dict:
    """Entries of files, and the digest of the one at `path`."""
    entries = {file.name: [*stamp(file), sha256(file)] for file in files}
    return {"files": entries, "sha256": entries[path.name][2]}


def stamp(path: Path) -> list[int]:
    """Size and time of the last change: equal ones tell that a file is the same without reading it."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def names_and_digests(files: Mapping[str, Entry]) -> str:
    """One digest for files with their names; a size stands for a digest that nobody computed."""
    return digest_of(sorted((name, entry[2] or entry[0]) for name, entry in files.items()))


def record_file(path: Path) -> Path:
    """Where the record of a file or folder is."""
    return path / FOLDER if path.is_dir() else path.with_name(f"{path.name}.made")


def told_by(path: str) -> str:
    """The folder that a record in it tells of; any other path is its own."""
    return str(Path(path).parent) if Path(path).name == FOLDER else path


def read(path: Path) -> dict | None:
    """The record of a file or folder; None where there is none, or no whole one."""
    try:
        record = json.loads(record_file(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    sealed = isinstance(record, dict) and record.pop("seal", None) == digest_of(record)
    return record if sealed and record["schema"] == 1 else None


def whole(path: Path) -> dict:
    """The record of an input, which must be as it was made; of a file without a record, its content is its identity."""
    record = read(path)
    if record is None:
        digest = sha256(path) if path.is_file() else digest_of(sorted(found.name for found in path.iterdir()))
        return {"identity": f"content {digest}", "sha256": digest, "folder": False}
    changed = changed_file(path if record["folder"] else path.parent, record["files"])
    if changed:
        raise Failure(
            f"{path}: {changed} is not what stage {record['stage']} wrote; run the workflow again, which makes it anew,"
            f" or delete {record_file(path)} to use it as it is"
        )
    return record


def changed_file(folder: Path, files: Mapping[str, Entry]) -> str | None:
    """The first file that no longer has the content on record; the content is read only where the stamp is another."""
    return next((name for name, entry in files.items() if not unchanged(folder / name, entry)), None)


def unchanged(path: Path, entry: Entry) -> bool:
    try:
        now = stamp(path)
    except (FileNotFoundError, NotADirectoryError):
        return entry[0] is None  # it was not there then either
    if now == entry[:2]:
        return True
    return now[0] == entry[0] and (entry[2] is None or sha256(path) == entry[2])


def source(folder: Path, names: Iterable[str]) -> dict:
    """What a record says of files that a person brought, by their names in a folder; of one that is missing as well."""
    return of_entries({name: entry(folder / name) for name in names})


def of_entries(files: dict[str, Entry]) -> dict:
    """The same from entries that are known."""
    return {"sha256": names_and_digests(files), "files": files}


def listing(folder: Path) -> str:
    """Digest of the names in a folder."""
    return digest_of(sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [])


def entry(path: Path) -> Entry:
    """Stamp and digest of a file, which may be missing."""
    return [*stamp(path), sha256(path)] if path.is_file() else [None, None, None]
