"""Check a bundle (snakemake reports/MODEL.zip) by itself: what in it is true, what is not, and what it cannot tell.

Compares every digest, scores the detections again, and computes every figure, gate and line of the report anew. With
--annotations the detections are scored against a copy of the ground truth that you trust: COCO's file, VOC's folder, or
the data.yaml of a YOLO dataset. Exit status 0 if nothing is wrong, 1 if something is.

Example: python scripts/verify.py reports/MODEL.zip --annotations data/coco/annotations/instances_val2017.json
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import evaluate
import report as reporting
import resample
from detport import bundled, cli, config, datasets, detections, made, results, shards
from detport.errors import Failure, UsageError
from detport.files import sha256
from detport.report import text

RIGHT, WRONG, OPEN = "right", "WRONG", "could not be checked"
LISTED = 5


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__, makes=False)
    parser.add_argument("bundle", type=Path, help="reports/MODEL.zip")
    parser.add_argument("--annotations", type=Path, help="your own copy of the ground truth")
    args = parser.parse_args(argv)

    trusted = args.annotations.absolute() if args.annotations else None
    if trusted and not trusted.exists():
        raise UsageError(f"{args.annotations}: no such file or folder; correct --annotations")
    with tempfile.TemporaryDirectory() as folder:
        manifest = bundled.unpack(args.bundle, Path(folder))
        with contextlib.chdir(folder):
            found = list(checks(manifest, trusted))
    for state, line in found:
        print(f"{state}: {line}")
    wrong = sum(state == WRONG for state, _ in found)
    if wrong:
        raise Failure(f"{args.bundle}: {wrong} of {len(found)} checks went wrong; do not rely on its figures")


def checks(manifest: dict, trusted: Path | None) -> Iterator[tuple[str, str]]:
    """Every check with its outcome, in the unpacked bundle. A part that cannot be read is wrong and ends no other."""
    parts = [digests(manifest), records(manifest)]
    try:
        own = Bundle(manifest, trusted)
    except (UsageError, Failure, KeyError, OSError) as error:
        parts.append(iter([(WRONG, f"the report and its configuration cannot be read: {error}")]))
    else:
        parts += [annotations(own), rescored(own), redrawn(own), derived(own), elsewhere(own)]
    for part in parts:
        try:
            yield from part
        except (UsageError, Failure) as error:
            yield WRONG, str(error)


class Bundle:
    """What the checks read: the report, the model and the dataset, as they are in the unpacked bundle."""

    def __init__(self, manifest: dict, trusted: Path | None):
        self.manifest, self.model = manifest, manifest["model"]
        self.report = results.read(Path(f"reports/{self.model}.json"), "report")
        self.yaml = Path(f"config/models/{self.model}.yaml")
        self.dataset = manifest["dataset"] | ({"annotations": str(trusted)} if trusted else {})
        self.trusted = trusted
        self.kind = datasets.load(self.dataset["kind"])
        (self.index,) = Path("results/datasets").glob("*/index.tsv")

    def measured(self, backend: str, name: str) -> Path:
        return Path(f"results/{self.model}/{backend}/{name}.json")


def digests(manifest: dict) -> Iterator[tuple[str, str]]:
    """The files are those that were packed."""
    there = {path.as_posix() for path in Path().rglob("*") if path.is_file()} - {bundled.MANIFEST}
    named = {name: digest for name, digest in manifest["files"].items() if name in there}
    changed = [name for name, digest in named.items() if sha256(Path(name)) != digest]
    yield from (outcome(False, f"{name} is not what was packed") for name in changed)
    yield from (outcome(False, f"{name} is missing") for name in sorted(manifest["files"].keys() - there))
    strange = sorted(there - manifest["files"].keys() - {bundled.README})
    yield from (outcome(False, f"{name} was not packed") for name in strange)
    yield RIGHT, f"{len(named) - len(changed)} files have the digests that the manifest names"


def records(manifest: dict) -> Iterator[tuple[str, str]]:
    """Every file is what its stage wrote, and was made from the files that are here."""
    told = [name.removesuffix(".made") for name in manifest["files"] if name.endswith(".made")]
    found = {name: made.read(Path(name)) for name in told}
    right = 0
    for name, record in found.items():
        if record is None:
            yield WRONG, f"{name}.made is no whole record"
        elif not Path(name).is_file() or sha256(Path(name)) != record["sha256"]:
            yield WRONG, f"{name} is not what its stage {record['stage']} wrote"
        else:
            right += 1
    yield RIGHT, f"{right} files are what their stages wrote"
    for name, record in found.items():
        if record is not None and record["stage"] in ("evaluate", "resample", "report"):
            yield from origin(name, record)


def origin(name: str, record: dict) -> Iterator[tuple[str, str]]:
    """A file was made from those files in the bundle that have its roles."""
    own = Path(name)
    if record["stage"] == "report":
        backends = json.loads(own.with_suffix(".json").read_text(encoding="utf-8"))["backends"]
        roles = {
            role: [f"results/{own.stem}/{backend}/{role}.json" for backend in backends]
            for role in ("accuracy", "analysis", "performance")
        }
    else:
        roles = {"index": packed("results/datasets/*/index.tsv"), "checked": [f"{own.parents[1]}/checked.json"]}
        if "detections" in record["inputs"]:  # not of a file that was recorded elsewhere
            roles["detections"] = packed(f"{own.parent}/detections/*.json.gz")
    for role, paths in roles.items():
        there = [{"sha256": sha256(Path(path))} for path in paths if Path(path).is_file()]
        if len(there) == len(paths) and made.content(there) == record["inputs"][role]:
            yield RIGHT, f"{name} was made from {role} in this bundle"
        else:
            yield WRONG, f"{name} was made from other {role} than those in this bundle"


def packed(pattern: str) -> list[str]:
    return sorted(path.as_posix() for path in Path().glob(pattern))


def annotations(own: Bundle) -> Iterator[tuple[str, str]]:
    """The ground truth is the one that was scored against."""
    if own.kind.ANNOTATIONS is None:
        yield OPEN, "accuracy: the dataset has no ground truth"
        return
    found = own.kind.source(own.dataset, shards.read_index(own.index))
    for backend in own.report["backends"]:
        scored = results.read(own.measured(backend, "accuracy"), "accuracy")["annotations"]
        same = found["sha256"] == scored["sha256"]
        which = f"{own.trusted}" if own.trusted else "the ground truth in this bundle"
        yield outcome(same, f"{which} is {'' if same else 'not '}what {backend} was scored against, by sha256")
    if not own.trusted:
        yield OPEN, "whether the ground truth in this bundle is the published one: give your copy, --annotations"


def rescored(own: Bundle) -> Iterator[tuple[str, str]]:
    """The detections give the accuracy."""
    settings = config.load_model(own.yaml, "evaluate")["metric"]
    images = shards.read_index(own.index)
    for backend in own.report["backends"]:
        path = own.measured(backend, "accuracy")
        stated = results.read(path, "accuracy")
        parts = [detections.read(each) for each in sorted((path.parent / "detections").glob("*.json.gz"))]
        again = evaluate.assemble(settings, own.dataset, images, parts, stated["cross_checked"], stated["sample"])
        yield from compared(again, stated, str(path), "the detections")
        path = own.measured(backend, "analysis")
        again = evaluate.analysed(settings, own.dataset, images, parts)
        yield from compared(again, results.read(path, "analysis"), str(path), "the detections")


def redrawn(own: Bundle) -> Iterator[tuple[str, str]]:
    """The detections give the figures of every resample; a file that was recorded elsewhere is not packed."""
    model = config.load_model(own.yaml, "resample")
    index = [row["image_id"] for row in shards.read_index(own.index)]
    truth = own.kind.truth(own.dataset, shards.read_index(own.index))
    for name in packed(f"results/{own.model}/*/resampled.json"):
        stated = results.read(Path(name), "resampled")
        scored, rows = resample.own(list(map(Path, packed(f"{Path(name).parent}/detections/*.json.gz"))), index)
        again = resample.resampled(truth, scored, rows, list(stated["measures"]), model, name)
        yield from compared(stated | again, stated, name, "the detections")
    for name in packed(f"results/{own.model}/recorded/*.json"):
        yield OPEN, f"{name}: resampled from {results.read(Path(name), 'resampled')['of']}, which is not packed"


def derived(own: Bundle) -> Iterator[tuple[str, str]]:
    """What was measured gives the report, in both forms."""
    args = reporting.arguments(own.report["provenance"]["arguments"])
    args.files = [path for path in args.files if path.exists()]
    model = config.load_model(own.yaml, "report")
    titles = {name: backend["title"] for name, backend in own.report["backends"].items()}
    again = reporting.assemble(model, titles, {"trail": own.report["provenance"]["stages"]}, args)
    # The first are of files, which are compared one by one, the others are nobody's.
    for key in ("sha256", "measured_with", "took", "date", "arguments"):
        again["provenance"][key] = own.report["provenance"][key]
    for name, backend in own.report["backends"].items():
        again["backends"][name]["bytes"] = backend["bytes"]  # of files that are not packed
    path = f"reports/{own.model}"
    yield from compared(again, own.report, f"{path}.json", "what was measured")
    written = Path(f"{path}.txt").read_text(encoding="utf-8")
    yield outcome(written == text.render(own.report), f"{path}.txt says what {path}.json holds")


def compared(again: dict, stated: dict, name: str, what: str) -> Iterator[tuple[str, str]]:
    """Two forms of a measured file, key by key."""
    again = json.loads(json.dumps(again))
    different = list(differences(again, stated))
    for key, new, old in different[:LISTED]:
        yield WRONG, f"{name}: {key} is {shown(old)}; from {what} follows {shown(new)}"
    if len(different) > LISTED:
        yield WRONG, f"{name}: {len(different) - LISTED} further figures do not follow from {what}"
    if not different:
        yield RIGHT, f"{name} is what follows from {what}"


def differences(new: object, old: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Keys at which two values differ."""
    if isinstance(new, dict) and isinstance(old, dict):
        for name in dict.fromkeys((*new, *old)):
            yield from differences(new.get(name), old.get(name), f"{key}.{name}" if key else name)
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        for i, (one, other) in enumerate(zip(new, old, strict=True)):
            yield from differences(one, other, f"{key}.{i}")
    elif new != old:
        yield key, new, old


def shown(value: object) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= 60 else f"{words[:57]}…"


def elsewhere(own: Bundle) -> Iterator[tuple[str, str]]:
    """What a bundle cannot tell."""
    for name, digest in own.report["provenance"]["sha256"].items():
        if Path(name).is_file():
            yield outcome(sha256(Path(name)) == digest, f"{name} has the digest that the report names")
    names = list(own.manifest["elsewhere"])
    if names:
        more = f", … (+{len(names) - LISTED})" if len(names) > LISTED else ""
        yield OPEN, f"digests of {len(names)} files that are not packed: {', '.join(names[:LISTED])}{more}"
    yield OPEN, "speed: a time cannot be measured again from files"
    yield OPEN, "whether the detections come from the model: run the workflow with the same weights and images"


def outcome(right: bool, line: str) -> tuple[str, str]:
    return (RIGHT if right else WRONG), line


if __name__ == "__main__":
    cli.run(main)
