"""Detections by columns: the same as the JSON before them, unseen by who unpacks it, and never taken for another's."""

import gzip
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import evaluate
import test_coco
from detport import attached, classes, columns, detections
from detport.datasets import coco as dataset
from detport.errors import UsageError
from detport.metrics import coco, voc

IMAGES = [{"image_id": 7, "file": "a.jpg"}, {"image_id": "000123", "file": "b ü.jpg", "turned": True}]
IDS = [image["image_id"] for image in IMAGES]
REST = {"skipped": [{"image_id": 9, "file": "c.jpg", "reason": "is broken"}], "turned": [], "simulator": True}


def row(
    image: object = 7, category: object = 1, box: tuple = (0.5, 1.25, 3.0, 4.0), score: float = 0.5, **more
) -> dict:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score, **more}


def mask(counts: str = "52203", height: int = 20) -> dict:
    return {"size": [height, 30], "counts": counts}


def noisy(count: int, exact: str) -> list[dict]:
    """Detections whose numbers take all their digits."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 600, (count, 5))
    if exact != "nothing":
        values = values.astype(np.float32).astype(float)
    if exact == "corners":
        values[:, 2:4] = (values[:, :2] + values[:, 2:4]).astype(np.float32).astype(float) - values[:, :2]
    return [row(IDS[i % 2], i % 3, each[:4], each[4]) for i, each in enumerate(values.tolist())]


CASES = {
    "boxes": [row(), row("000123", 90, (1.5, 2.5, 1e-30, 0.0), 1.0)],
    "of no detection": [],
    "names": [row(category="Käfer"), row(category="1"), row(category=1)],
    "digits of single precision": noisy(50, "sides"),
    "corners of single precision": noisy(50, "corners"),
    "digits of double precision": noisy(50, "nothing"),
    "zero with a sign": [row(box=(-0.0, 0.0, 1.0, 1.0))],
    "more than single precision has": [row(box=(1e300, 5e-324, 1e38, 4e38), score=-1e-310)],
    "masks": [row(segmentation=mask()), row(segmentation=mask("", 25)), row("000123", segmentation=mask("n" * 300))],
    "many": noisy(9000, "nothing"),  # several members
}
WITHOUT = {
    "a whole number in a box": [row(box=(1, 1.0, 1.0, 1.0))],
    "a whole score": [row(score=1)],
    "a key more": [row(area=2.0)],
    "keys in another order": [dict(reversed(row().items()))],
    "an image that the file has not": [row(8)],
    "a mask of some": [row(), row(segmentation=mask())],
    "an uncompressed mask": [row(segmentation={"size": [20, 30], "counts": [600]})],
    "a mask of more keys": [row(segmentation=mask() | {"area": 1})],
    "a mask that is not ASCII": [row(segmentation=mask("ü"))],
    "true as an id": [row(True)],
    "no category": [row(category=None)],
    "three numbers": [row(box=(1.0, 2.0, 3.0))],
}


def written(folder: Path, rows: list[dict]) -> Path:
    path = folder / "0.json.gz"
    detections.write(path, IMAGES, REST["skipped"], rows, simulator=True, readings=["a line"])
    return path


def by_columns(path: Path) -> bool:
    return isinstance(detections.read_columns(path)["detections"], columns.Columns)


def exact(value: object) -> str:
    """A value by all its digits and types."""
    return json.dumps(value)


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
def test_columns_and_json_are_the_same(tmp_path, rows):
    path = written(tmp_path, rows)
    plain, found = detections.read(path), detections.read_columns(path)
    assert by_columns(path)
    assert exact(columns.rows(found["detections"])) == exact(plain["detections"]) == exact(rows)
    assert exact({key: found[key] for key in plain if key != "detections"}) == exact(
        {key: plain[key] for key in plain if key != "detections"}
    )
    assert exact(columns.rows(columns.of(rows))) == exact(rows)
    assert columns.count(found["detections"]) == columns.count(rows) == len(rows)


@pytest.mark.parametrize("rows", WITHOUT.values(), ids=WITHOUT)
def test_what_columns_would_not_say_quite_the_same_is_json_alone(tmp_path, rows):
    path = written(tmp_path, rows)
    assert attached.split(path.read_bytes()) == (path.read_bytes(), None)
    assert json.loads(gzip.decompress(path.read_bytes()))["detections"] == rows


@pytest.mark.parametrize("name", ["boxes", "many"])
def test_who_unpacks_the_file_sees_the_json_alone(tmp_path, name):
    path = written(tmp_path, CASES[name])
    packed, held = attached.split(path.read_bytes())
    text = gzip.decompress(packed)
    assert len(held) > 0 and json.loads(text)["detections"] == CASES[name]
    assert gzip.decompress(path.read_bytes()) == text
    with gzip.open(path) as file:
        assert file.read() == text
    for command in (["gzip", "-dc"], ["zcat"]):
        assert subprocess.run([*command, path], stdout=subprocess.PIPE, check=True).stdout == text
    subprocess.run(["gzip", "-t", path], check=True)


def test_the_same_detections_have_the_same_bytes(tmp_path):
    first = written(tmp_path, CASES["masks"]).read_bytes()
    assert written(tmp_path, CASES["masks"]).read_bytes() == first


def test_numbers_take_half_the_room_where_that_is_exact():
    sizes = {name: len(columns.pack(IDS, noisy(1000, name), REST)) for name in ("sides", "corners", "nothing")}
    assert abs(sizes["sides"] - sizes["corners"]) < 20
    assert sizes["nothing"] - sizes["sides"] > 19 * 1000


OTHER = [row(score=0.25)]


def edited(content: bytes) -> bytes:
    """The file with another score, packed as anybody would."""
    return gzip.compress(gzip.decompress(content).replace(b'"score": 0.5', b'"score": 0.25'))


def exchanged(content: bytes) -> bytes:
    """The JSON is another's, the columns are left."""
    packed, _ = attached.split(content)
    return edited(content) + content[len(packed) :]


def same_length(content: bytes) -> bytes:
    """The JSON is another's, of as many bytes, as one could make it."""
    packed, held = attached.split(content)
    text = gzip.decompress(packed).replace(b'"score": 0.5', b'"score": 0.7')
    for level in range(10):
        other = gzip.compress(text, level, mtime=0)
        if len(other) == len(packed):
            return other + attached.attach(packed, held)
    raise AssertionError("of no level")


def test_an_edited_file_is_what_its_json_says(tmp_path):
    path = written(tmp_path, [row()])
    content = path.read_bytes()
    for change in (edited, exchanged):
        path.write_bytes(change(content))
        assert detections.read_columns(path)["detections"] == detections.read(path)["detections"] == OTHER
    path.write_bytes(same_length(content))
    assert detections.read_columns(path)["detections"] == [row(score=0.7)]


def test_a_file_without_columns_is_read(tmp_path):
    path = written(tmp_path, [row()])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())))
    assert detections.read_columns(path) == detections.read(path)


@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_damage_anywhere_behind_the_json_is_seen(tmp_path, name):
    """No byte of the columns can change unseen: the JSON stands, or the file is refused as a whole."""
    path = written(tmp_path, CASES[name])
    content = path.read_bytes()
    start = len(attached.split(content)[0])
    for place in range(start, len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        assert attached.split(damaged) == (damaged, None)
    for end in range(start, len(content)):
        assert attached.split(content[:end])[1] is None


@pytest.mark.parametrize("count", [0, 1, attached.MOST, attached.MOST + 1, 3 * attached.MOST])
def test_attached_bytes_come_back(count):
    packed, held = gzip.compress(b"text"), bytes(range(256)) * (count // 256) + bytes(count % 256)
    content = packed + attached.attach(packed, held)
    assert attached.split(content) == (packed, held)
    assert gzip.decompress(content) == b"text"


def test_another_version_is_not_read(tmp_path, monkeypatch):
    path = written(tmp_path, [row()])
    assert by_columns(path)
    monkeypatch.setattr(attached, "VERSION", 2)
    assert not by_columns(path)


def forged(change: dict | None = None, tail: bytes = b"") -> bytes:
    """Columns of three masks whose head says something else, as a file could hold that was made to mislead."""
    held = columns.pack(IDS, CASES["masks"], REST)
    length = int.from_bytes(held[:8], "little")
    said = json.dumps(json.loads(held[8 : 8 + length]) | (change or {})).encode()
    return len(said).to_bytes(8, "little") + said + held[8 + length :] + tail


def said() -> dict:
    held = forged()
    return json.loads(held[8 : 8 + int.from_bytes(held[:8], "little")])


def kinds(**other: str) -> dict:
    return {"columns": [[name, other.get(name, kind)] for name, kind in said()["columns"]]}


LIES = {
    "fewer detections": {"detections": 2},
    "more detections": {"detections": 4},
    "as many as no file has": {"detections": 2**62},
    "more than any number": {"detections": 10**40},
    "a negative count": {"detections": -1},
    "a count that is none": {"detections": True},
    "no count": {"detections": None},
    "text that is longer": {"text": 10**9},
    "an image less": {"images": [7]},
    "no list of images": {"images": "ab"},
    "an image without a name": {"images": [7, None]},
    "no category": {"categories": []},
    "a category that is none": {"categories": [1.5]},
    "a size less": {"sizes": [[20, 30]]},
    "a size that is none": {"sizes": [[20, 30], [25]]},
    "sizes below nothing": {"sizes": [[20, 30], [-25, 30]]},
    "no columns": {"columns": []},
    "columns that are none": {"columns": 7},
    "a column twice": {"columns": [*said()["columns"], ["image", "|u1"]]},
    "an unknown column": {"columns": [*said()["columns"], ["keypoints", "|u1"]]},
    "a column of a list": {"columns": [[["image"], "|u1"]]},
    "objects": kinds(image="|O"),
    "text for numbers": kinds(score="<U1"),
    "another width": kinds(score="<f8"),
    "skipped without a reason": {"skipped": [{"image_id": 1}]},
    "skipped that is no list": {"skipped": {}},
}


@pytest.mark.parametrize("change", LIES.values(), ids=LIES)
def test_columns_that_cannot_be_are_not_taken(tmp_path, change):
    path = written(tmp_path, CASES["masks"])
    packed, _ = attached.split(path.read_bytes())
    path.write_bytes(packed + attached.attach(packed, forged(change)))
    assert attached.split(path.read_bytes())[1] is not None
    assert detections.read_columns(path) == detections.read(path)
    path.write_bytes(packed + attached.attach(packed, forged()))
    assert by_columns(path)


def test_bytes_that_are_no_columns():
    for held in (b"", b"\xff" * 8, b"\xff" * 100, forged(tail=b"\0"), forged()[:-1], forged()[:40], bytes(8) + b"[]"):
        assert columns.unpack(held) is None
    good = forged()
    length = 8 + int.from_bytes(good[:8], "little")
    wrong = np.frombuffer(good[length:], np.uint8).copy()
    for place in range(len(wrong)):
        for value in (0, 0x7F, 0xFF):
            changed = wrong.copy()
            changed[place] = value
            found = columns.unpack(good[:length] + changed.tobytes())
            assert found is None or json.dumps(columns.rows(found["detections"]), allow_nan=False)


SETTINGS = test_coco.SETTINGS


@pytest.mark.parametrize("area", ["bbox", "mask"])
@pytest.mark.parametrize("iou_types", [["bbox"], ["bbox", "segm"]], ids=["boxes", "boxes and masks"])
def test_figures_are_those_of_the_rows(tmp_path, iou_types, area):
    truth, rows = test_coco.scene(3)
    settings = SETTINGS | {"iou_types": iou_types, "mask_area": area, "images": "all"}
    ids = [image["id"] for image in truth["images"]]
    path = tmp_path / "0.json.gz"
    detections.write(path, [{"image_id": image} for image in ids], [], rows)
    truth = test_coco.read(tmp_path, truth)
    assert by_columns(path)
    found = detections.read_columns(path)["detections"]
    figures = coco.evaluate(truth, ids, found, settings, cross_check=True)
    assert exact(figures) == exact(coco.evaluate(truth, ids, rows, settings, cross_check=True))


def test_accuracy_has_the_same_bytes_from_either(tmp_path):
    """Two shards of classes by name, one of which no category is."""
    truth, rows = test_coco.scene(5)
    names = {category["id"]: category["name"] for category in truth["categories"]} | {9: "unknown"}
    rows = [each | {"category_id": names[each["category_id"]]} for each in rows]
    images = [{"image_id": image["id"], "width": 160, "height": 160} for image in truth["images"]]
    of = {"kind": "coco", "annotations": str(test_coco.written(tmp_path, truth))}
    for k, half in enumerate((images[:5], images[5:])):
        ids = {image["image_id"] for image in half}
        detections.write(tmp_path / f"{k}.json.gz", half, [], [each for each in rows if each["image_id"] in ids])
    settings = SETTINGS | {"images": "all"}
    paths = sorted(tmp_path.glob("*.json.gz"))
    fast, plain = (detections.read_all(paths, how) for how in (detections.read_columns, detections.read))
    assert all(isinstance(part["detections"], columns.Columns) for part in fast)
    mixed = [fast[0], plain[1]]
    found = [exact(evaluate.assemble(settings, of, images, parts, False, None)) for parts in (fast, plain, mixed)]
    assert found[0] == found[1] == found[2]
    assert json.loads(found[0])["unscored"]["unknown"] > 0
    assert exact(evaluate.analysed(settings, of, images, fast)) == exact(evaluate.analysed(settings, of, images, plain))


def test_voc_has_the_same_figures_from_either(tmp_path):
    rows = [row("000123", "cat", (0.0, 1.0, 20.5, 30.25), 0.75), row(7, "dog"), row(7, "cat", score=0.9)]
    path = written(tmp_path, rows)
    own = {"id": 1, "image_id": "000123", "category_id": 1, "bbox": [0, 1, 20, 30], "iscrowd": 0}
    truth = {"source": "x", "annotations": [own], "categories": [{"id": 1, "name": "cat"}]}
    settings = {"classes": ["cat", "dog"], "iou_threshold": 0.5, "rounding": "files"}
    known = voc.categories(truth, settings)
    found, _ = columns.with_ids(detections.read_columns(path)["detections"], known)
    plain, _ = classes.with_ids(rows, known)
    assert isinstance(found, columns.Columns)
    figures = [voc.evaluate(truth, ["000123", 7], each, settings, False) for each in (columns.rows(found), plain)]
    assert exact(figures[0]) == exact(figures[1]) and figures[0]["voc07"]["per_class"]["cat"] > 0


@pytest.mark.parametrize(
    "named",
    [
        [1, 2, 1],
        ["cat", 2, "dog"],
        ["cat", "bird", "bird"],
        ["bird", "bird", "bird"],
        ["cat", 1, "cat"],
        ["x", 1, "cat"],
    ],
    ids=["ids", "both", "some unknown", "all unknown", "a name and its id", "an id that is text"],
)
@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_names_become_ids_as_of_rows(named, masks):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": "x", "name": "fish"}]
    more = {"segmentation": mask()} if masks else {}
    rows = [row(category=each, score=i / 8, **more) for i, each in enumerate(named)]
    found, unscored = columns.with_ids(columns.of(rows), categories)
    assert (columns.rows(found), unscored) == classes.with_ids(rows, categories)


def test_detections_one_behind_the_other():
    parts = [[], [row(7, "a"), row(8, 2)], [row(8, "a", segmentation=mask())], columns.of([row(9, 2)])]
    joined = columns.joined(parts)
    assert columns.rows(joined) == [each for part in parts for each in columns.rows(part)]
    assert (joined.images, joined.categories) == ([7, 8, 9], ["a", 2])
    assert columns.rows(columns.joined([])) == []


def test_detections_of_an_image_that_the_ground_truth_lacks_are_refused(tmp_path):
    truth, rows = test_coco.scene(1)
    truth, strange = test_coco.read(tmp_path, truth), rows[0] | {"image_id": 99}
    with pytest.raises(UsageError, match="detections have image 99, which it does not list; correct the index"):
        coco.evaluate(truth, [1], [*rows, strange], SETTINGS | {"images": "all"}, False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_no_number_is_refused_as_ever(tmp_path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        written(tmp_path, [row(score=value)])
    assert not list(tmp_path.iterdir())


def test_ground_truth_is_read_alike_with_numbers_that_only_python_takes(tmp_path):
    truth, _ = test_coco.scene(2)
    path = test_coco.written(tmp_path, truth | {"info": {"version": float("nan")}})
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(truth), encoding="utf-8")
    found, expected = dataset.read(path), dataset.read(plain)
    assert all(found[key] == expected[key] for key in ("images", "annotations", "categories"))
