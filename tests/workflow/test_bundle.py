"""A bundle is checked from itself alone; whatever somebody changes in it afterwards is found and named."""

import contextlib
import gzip
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import bundle
import verify
from detport import bundled, made
from detport.errors import Failure, UsageError
from detport.files import sha256
from detport.report import text
from runs import ROOT, planned

REPORT = "reports/retinamask"
ACCURACY = "results/retinamask/onnxruntime/accuracy.json"
NAMES = ("accuracy", "analysis", "performance", "patches", "parity")
DETECTIONS = "results/retinamask/onnxruntime/detections/0000.json.gz"


@pytest.fixture(scope="module")
def packed(finished, tmp_path_factory) -> Path:
    """The bundle of a finished run, by the files that the workflow would name."""
    path = tmp_path_factory.mktemp("bundle") / "it's.zip"
    own = finished / "results" / "retinamask"
    files = [finished / f"{REPORT}.{form}" for form in ("txt", "json")]
    files += [own / "onnxruntime" / f"{name}.json" for name in NAMES]
    files += [own / "checked.json", *sorted(own.glob("onnxruntime/detections/*.json.gz"))]
    files += [finished / "results/datasets/shapes/index.tsv"]
    with contextlib.chdir(finished):
        named = [str(each.relative_to(finished)) for each in files]
        words = ["--model", "config/models/retinamask.yaml", "--report", f"{REPORT}.json", "--files", *named]
        words += ["--backend", str(ROOT / "config/backends/onnxruntime.yaml"), "--dataset", "shapes"]
        words += ["--dataset-config", "config/config.yaml", "--logs", "logs"]
        bundle.main([*words, "--output", str(path)])
    return path


def told(path: Path, annotations: Path | None = None) -> list[tuple[str, str]]:
    """What is said of a bundle."""
    folder = path.with_suffix(".unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    manifest = bundled.unpack(path, folder)
    with contextlib.chdir(folder):
        return list(verify.checks(manifest, annotations))


def wrong(found: list[tuple[str, str]]) -> str:
    return "\n".join(line for state, line in found if state == verify.WRONG)


def test_the_workflow_makes_it_on_request(finished):
    assert planned(finished, f"{REPORT}.zip") == {"bundle": 1}


def test_an_untouched_bundle_is_right(packed, capsys):
    verify.main([str(packed)])
    said = capsys.readouterr().out
    assert f"right: {ACCURACY} is what follows from the detections" in said
    assert f"right: {REPORT}.json is what follows from what was measured" in said
    assert "could not be checked: speed" in said
    assert "retinamask.pth, " in said, "what is not packed is named"


def test_the_same_files_give_the_same_bytes(packed, tmp_path):
    """Dates of files are no part of it."""
    with zipfile.ZipFile(packed) as whole:
        assert {entry.date_time for entry in whole.infolist()} == {bundled.EPOCH}
        names = whole.namelist()
    assert {"README.txt", "MANIFEST.json", "truth/annotations/instances.json", f"{REPORT}.txt.made"} <= set(names)
    assert "logs/evaluate/retinamask/onnxruntime.log" in names and "config/backends/onnxruntime.yaml" in names


def number(folder: Path) -> None:
    change(folder / f"{REPORT}.json", lambda report: report["backends"]["onnxruntime"]["figures"].update({"fps": 99.0}))


def accuracy(folder: Path) -> None:
    change(folder / ACCURACY, lambda found: found["accuracy"]["bbox"].update(AP=0.99))


def verdict(folder: Path) -> None:
    change(folder / f"{REPORT}.json", lambda report: report.update(verdict="UNDECIDED"))
    report = json.loads((folder / f"{REPORT}.json").read_text())
    (folder / f"{REPORT}.txt").write_text(text.render(report))


def words(folder: Path) -> None:
    path = folder / f"{REPORT}.txt"
    path.write_text(path.read_text().replace("VERDICT: ", "VERDICT: surely "))


def detections(folder: Path) -> None:
    path = folder / DETECTIONS
    found = json.loads(gzip.decompress(path.read_bytes()))
    for each in found["detections"]:
        each["score"] = round(1 - each["score"], 3)
    path.write_bytes(gzip.compress(json.dumps(found).encode()))


def change(path: Path, how: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    how(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("careful", [False, True], ids=["plain", "manifest and records as well"])
@pytest.mark.parametrize(
    ("edit", "file", "found"),
    [
        (number, f"{REPORT}.json", "figures.fps is 99.0; from what was measured follows"),
        (accuracy, ACCURACY, "accuracy.bbox.AP is 0.99; from the detections follows 0."),
        (verdict, f"{REPORT}.json", 'verdict is "UNDECIDED"; from what was measured follows'),
        (words, f"{REPORT}.txt", f"{REPORT}.txt says what {REPORT}.json holds"),
        (detections, DETECTIONS, "was made from other detections than those in this bundle"),
    ],
)
def test_a_change_is_found_and_named(packed, tmp_path, edit, file, found, careful):
    """Also where somebody has written digests and records to fit."""
    said = wrong(told(repacked(packed, tmp_path, edit, careful)))
    assert found in said
    assert (f"{file} is not what was packed" in said) is not careful
    assert ("is not what its stage" in said) is not careful


def repacked(packed: Path, place: Path, edit: Callable[[Path], None], careful: bool) -> Path:
    """The bundle after an edit, with digests and records that fit it if the editor is careful."""
    folder = place / "edited"
    manifest = bundled.unpack(packed, folder)
    edit(folder)
    names = list(manifest["files"])
    for name in names if careful else ():
        if name.endswith(".made"):
            record, path = made.read(folder / name.removesuffix(".made")), folder / name.removesuffix(".made")
            made.write(folder / name, record | made.found_in(path, [path]))
    digests = {name: sha256(folder / name) for name in names}
    bundled.write(
        place / "edited.zip",
        {name: folder / name for name in names},
        {bundled.README: "read me"},
        {key: value for key, value in manifest.items() if key != "files"},
    )
    if not careful:
        rewritten(place / "edited.zip", manifest)
    assert careful is (digests == json.loads(zipfile.ZipFile(place / "edited.zip").read(bundled.MANIFEST))["files"])
    return place / "edited.zip"


def rewritten(path: Path, manifest: dict) -> None:
    """The zip with this manifest instead of its own."""
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    files[bundled.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)


def test_another_ground_truth_is_named(packed, finished, tmp_path):
    own = finished / "data" / "annotations" / "instances.json"
    assert wrong(told(packed, own)) == ""
    other = json.loads(own.read_text())
    other["annotations"] = other["annotations"][1:]
    (tmp_path / "other.json").write_text(json.dumps(other))
    said = wrong(told(packed, tmp_path / "other.json"))
    assert f"{tmp_path / 'other.json'} is not what onnxruntime was scored against" in said
    assert f"{ACCURACY}: accuracy.bbox." in said, "and what it would have given"


def test_a_file_more_or_less_is_named(packed, tmp_path):
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(tmp_path / "new.zip", "w") as new:
        for name in old.namelist():
            if name != "results/retinamask/checked.json":
                new.writestr(name, old.read(name))
        new.writestr("more.txt", "more")
    said = wrong(told(tmp_path / "new.zip"))
    assert "results/retinamask/checked.json is missing" in said and "more.txt was not packed" in said


def test_a_changed_byte_is_a_damaged_zip(packed, tmp_path):
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as whole:
        at = whole.getinfo(DETECTIONS).header_offset + 200
    content[at] ^= 1
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(Failure, match=r"damaged\.zip: is damaged"):
        verify.main([str(tmp_path / "damaged.zip")])


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "a\\out.txt", "folder/"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "strange.zip", "w") as strange:
        strange.writestr(name, "x")
    with pytest.raises(UsageError, match="no name of a file inside a bundle"):
        bundled.unpack(tmp_path / "strange.zip", tmp_path / "folder")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no zip at all", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "no files"]
)
def test_what_is_no_bundle_is_told(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises((Failure, UsageError), match=r"x\.zip: (is damaged or no zip|has no usable MANIFEST)"):
        verify.main([str(tmp_path / "x.zip")])


def test_a_missing_copy_of_the_ground_truth_is_told(packed):
    with pytest.raises(UsageError, match="correct --annotations"):
        verify.main([str(packed), "--annotations", "no/such.json"])
