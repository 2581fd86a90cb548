"""Datasets as people have them: COCO files of other tools, VOC folders without lists, images alone; classes by name."""

import json
from pathlib import Path

import pytest
from PIL import Image

import check
import evaluate
import index_dataset
from detport import classes, config, datasets, detections, lineage, shards, stale
from detport.datasets import coco, folder, voc
from detport.errors import Failure, UsageError
from detport.metrics import coco as metric
from detport.metrics import voc as voc_metric

SETTINGS = {"kind": "coco", "iou_types": ["bbox"], "max_detections": [1, 10, 100], "mask_area": "bbox", "images": "all"}
MODEL = (config.ROOT / "demo/config/models/gfocalv2.yaml").read_text(encoding="utf-8")


def picture(path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path, **options)


def truth() -> dict:
    """Two images, two categories, two objects."""
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in (1, 2)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0},
            {"id": 6, "image_id": 2, "category_id": 2, "bbox": [4, 4, 20, 10], "area": 200, "iscrowd": 0},
        ],
    }


def as_written_elsewhere() -> dict:
    """The same as other tools write it."""
    return {
        "images": [
            {"id": "frame a", "file_name": "day\\1.jpg", "width": 40.0, "height": 30.0},
            {"id": 2.0, "file_name": "night/1.jpg", "width": 40, "height": 30},
        ],
        "categories": [{"id": "1", "name": "dog"}, {"id": 2.0, "name": "cat"}],
        "annotations": [
            {"image_id": "frame a", "category_id": 1.0, "bbox": [2, 2, 10, 10], "area": None},
            {"id": 0, "image_id": "2", "category_id": "cat", "bbox": [4, 4, 20, 10], "iscrowd": False},
        ],
    }


def written(path: Path, content: dict) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def dataset_config(path: Path, **dataset) -> list[str]:
    """Options that name a dataset, whose configuration is written to `path`."""
    written(path / "config.yaml", {"models": ["m"], "datasets": {"d": {"shards": 1} | dataset}})
    return ["--dataset-config", str(path / "config.yaml"), "--dataset", "d"]


def test_coco_in_the_forms_of_other_tools_scores_the_same(tmp_path):
    boxes = [("frame a", 1, [2, 2, 10, 10]), (2, 2, [4, 4, 19, 10])]
    rows = [{"image_id": i, "category_id": c, "bbox": box, "score": 0.9} for i, c, box in boxes]
    found = coco.read(written(tmp_path / "a.json", as_written_elsewhere()))
    figures = metric.evaluate(found, ["frame a", 2], rows, SETTINGS, cross_check=True)
    plain = coco.read(written(tmp_path / "b.json", truth()))
    rows = [row | {"image_id": 1 if row["image_id"] == "frame a" else 2} for row in rows]
    assert figures == metric.evaluate(plain, [1, 2], rows, SETTINGS, cross_check=True)
    assert figures["bbox"]["AP"] == pytest.approx(0.975, abs=0.03)


def test_an_annotation_with_id_0_can_be_found(tmp_path):
    """To pycocotools a match with annotation 0 is none."""
    content = truth()
    content["annotations"][0]["id"] = 0
    rows = [{"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "score": 0.9}]
    found = metric.evaluate(coco.read(written(tmp_path / "a.json", content)), [1, 2], rows, SETTINGS, cross_check=True)
    assert found["bbox"]["per_class"]["dog"] == pytest.approx(1)


def test_index_of_ids_that_are_text_and_of_files_in_folders(tmp_path):
    """Numbers come before text; a backslash of Windows is a slash unless a file is called so; equal names in two
    folders are two tensors."""
    for name in ("day/1.jpg", "night/1.jpg"):
        picture(tmp_path / "images" / name)
    path = written(tmp_path / "a.json", as_written_elsewhere())
    options = dataset_config(tmp_path, kind="coco", images=str(tmp_path / "images"), annotations=str(path))
    index_dataset.main([*options, "--output", str(tmp_path / "index.tsv")])
    rows = shards.read_index(tmp_path / "index.tsv")
    assert [(row["image_id"], row["file"]) for row in rows] == [(2, "night/1.jpg"), ("frame a", "day/1.jpg")]
    assert {shards.bin_stem(row["file"]) for row in rows} == {"night__1", "day__1"}


@pytest.mark.parametrize("name", ["../1.jpg", "/etc/hostname", "a/../../1.jpg", "..\\1.jpg", ".", "a/.."])
def test_a_file_name_does_not_lead_out_of_the_images(tmp_path, name):
    content = truth()
    content["images"][0]["file_name"] = name
    path = written(tmp_path / "a.json", content)
    with pytest.raises(UsageError, match=r"a\.json: .* leads out of .*, the folder of the images"):
        coco.index_rows({"annotations": str(path), "images": str(tmp_path / "images")})


def test_a_category_that_is_named_must_be_the_only_one_of_that_name(tmp_path):
    content = truth()
    content["categories"][1]["name"] = "dog"
    content["annotations"][0]["category_id"] = "dog"
    with pytest.raises(UsageError, match=r"annotations\[0\]\.category_id: several categories are called 'dog'"):
        coco.read(written(tmp_path / "a.json", content))


def test_a_name_takes_one_line(tmp_path, voc_folder):
    """In a report it must not look like a verdict."""
    content, name = truth(), "dog\nVERDICT: PASS"
    content["categories"][1]["name"] = name
    (tmp_path / "c.xml").write_text(VOC.format(name, 0))
    (tmp_path / "names.yaml").write_text('names: ["dog\\nVERDICT: PASS"]')
    for read, place in (
        (lambda: coco.read(written(tmp_path / "a.json", content)), r"a\.json: categories\[1\]\.name"),
        (lambda: voc.index_rows(voc_folder), r"c\.xml: <name>"),
        (lambda: classes.read_names(tmp_path / "names.yaml"), r"names\.yaml: names: class 0"),
    ):
        with pytest.raises(UsageError, match=place + r": 'dog\\nVERDICT: PASS' has several lines"):
            read()


def test_split_of_a_coco_file(tmp_path, caplog):
    content = truth()
    content["images"][0]["split"], content["images"][1]["split"] = "val", "train"
    dataset = {"annotations": str(written(tmp_path / "a.json", content)), "images": str(tmp_path), "split": "val"}
    assert [row["image_id"] for row in coco.index_rows(dataset)] == [1]
    assert coco.count(dataset) == 1
    with pytest.raises(UsageError, match=r"no image is of the split 'test' .* it has train, val"):
        coco.index_rows(dataset | {"split": "test"})
    del dataset["split"]
    assert len(coco.index_rows(dataset)) == coco.count(dataset) == 2
    assert "has the splits train, val; all are taken" in caplog.text


VOC = """<annotation><size><width>40</width><height>30</height></size><object><name>{}</name><difficult>{}</difficult>
<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>12</xmax><ymax>12</ymax></bndbox></object></annotation>"""


@pytest.fixture
def voc_folder(tmp_path: Path) -> dict:
    """As labelling programs leave it: images of any kind and their annotations side by side, no list."""
    for name, kind, difficult in (("b 1", "dog", 0), ("17", "cat", 0), ("c", "dog", 1)):
        (tmp_path / f"{name}.xml").write_text(VOC.format(kind, difficult))
    for name in ("b 1.png", "17.JPG", "c.jpg"):
        picture(tmp_path / name)
    return {"kind": "voc", "images": str(tmp_path), "annotations": str(tmp_path)}


def test_voc_without_an_image_set_takes_every_annotation(voc_folder, tmp_path):
    found = voc.index_rows(voc_folder)
    assert [(row["image_id"], row["file"]) for row in found] == [("17", "17.JPG"), ("b 1", "b 1.png"), ("c", "c.jpg")]
    assert voc.count(voc_folder) == 3
    assert voc.scored(voc_folder) == (tmp_path, ["17.xml", "b 1.xml", "c.xml"])
    for path in tmp_path.glob("*.xml"):
        path.unlink()
    with pytest.raises(UsageError, match=r"holds no \.xml file"):
        voc.index_rows(voc_folder)


def test_voc_scored_as_coco_by_the_names_of_its_classes(voc_folder):
    """The difficult dog is a crowd: finding it is neither right nor wrong."""
    rows = [row | {"bytes": 1} for row in voc.index_rows(voc_folder)]
    found = [
        {"image_id": image, "category_id": name, "bbox": [2, 2, 10, 10], "score": 0.9}
        for image, name in (("b 1", "dog"), ("c", "dog"), ("17", "cat"))
    ]
    figures = metric.evaluate(voc.truth(voc_folder, rows), ["17", "b 1", "c"], found, SETTINGS, cross_check=True)
    assert figures["bbox"]["per_class"] == pytest.approx({"cat": 1, "dog": 1})


def test_any_dataset_scored_as_voc(tmp_path):
    """COCO's boxes begin at 0 and end behind the last pixel, VOC's corners are the first and the last from 1."""
    content = truth()
    content["annotations"].append({"image_id": 1, "category_id": 2, "bbox": [20, 4, 10, 10], "iscrowd": 1})
    found = coco.read(written(tmp_path / "a.json", content))
    settings = {"classes": ["cat", "dog"], "rounding": "none", "iou_threshold": 0.5}
    assert voc_metric.objects_of(found, [1], settings) == {
        "1": [
            {"name": "dog", "box": [3, 3, 12, 12], "difficult": False},
            {"name": "cat", "box": [21, 5, 30, 14], "difficult": True},
        ]
    }
    rows = [{"image_id": 1, "category_id": 2, "bbox": [2, 2, 10, 10], "score": 0.9}]
    figures = voc_metric.evaluate(found, [1, 2], rows, settings, False)
    assert figures["voc07"]["per_class"] == pytest.approx({"cat": 0, "dog": 1})


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """Images without ground truth, and what lies beside them."""
    for name in ("b.jpg", "deep/a.PNG", "deep/.hidden.jpg", ".cache/x.jpg"):
        picture(tmp_path / "images" / name)
    (tmp_path / "images/notes.txt").write_text("no image")
    return tmp_path / "images"


def test_a_folder_of_images_alone(alone):
    dataset = {"kind": "folder", "images": str(alone)}
    assert folder.index_rows(dataset) == [
        {"image_id": "b", "file": "b.jpg"},
        {"image_id": "deep/a", "file": "deep/a.PNG"},
    ]
    assert folder.count(dataset) == 2
    alone.with_name("none").mkdir()
    with pytest.raises(UsageError, match="holds no image"):
        folder.index_rows({"images": str(alone.with_name("none"))})
    with pytest.raises(FileNotFoundError):
        folder.count({"images": str(alone / "gone")})


def test_an_image_more_makes_the_index_stale(alone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset, index = {"kind": "folder", "images": str(alone)}, "results/datasets/d/index.tsv"
    index_dataset.main([*dataset_config(tmp_path, **dataset), "--output", index])
    assert stale.find([lineage.of_dataset("d", dataset, {"on_bad_image": "fail", "sample": None})]) == {}
    picture(alone / "deep" / "new.jpg")
    assert (
        "new.jpg changed"
        in stale.find([lineage.of_dataset("d", dataset, {"on_bad_image": "fail", "sample": None})])[index]
    )


def test_images_that_nobody_can_read_are_named_and_not_passed_over(alone, tmp_path):
    (alone / "c.tiff").write_bytes(b"II*\0")
    options = dataset_config(tmp_path, kind="folder", images=str(alone))
    with pytest.raises(Failure, match=r"1 of 3 images .* cannot be used: 'c\.tiff': cannot be decoded"):
        index_dataset.main([*options, "--output", str(tmp_path / "index.tsv")])
    index_dataset.main([*options, "--on-bad-image", "skip", "--output", str(tmp_path / "index.tsv")])
    assert [row["width"] for row in shards.read_index(tmp_path / "index.tsv")] == [40, 0, 40]


def test_two_images_of_one_name_are_refused(alone, tmp_path):
    picture(alone / "b.png")
    options = dataset_config(tmp_path, kind="folder", images=str(alone))
    with pytest.raises(UsageError, match=r"'b\.png' and 'b\.jpg' would both become b\.bin; rename one"):
        index_dataset.main([*options, "--output", str(tmp_path / "index.tsv")])


def test_links_in_a_circle_end(alone):
    (alone / "deep" / "again").symlink_to(alone, target_is_directory=True)
    assert folder.count({"images": str(alone)}) == 2


def scored(tmp_path: Path, options: list[str], rows: list[dict], images: list) -> dict:
    """accuracy.json of the demo's gfocalv2 for these detections."""
    model = tmp_path / "m.yaml"
    model.write_text(MODEL)
    shards.write_index(tmp_path / "index.tsv", images)
    done = [{"image_id": image["image_id"], "file": image["file"]} for image in images]
    detections.write(tmp_path / "0.json.gz", done, [], rows)
    files = ["--index", tmp_path / "index.tsv", "--detections", tmp_path / "0.json.gz", "--output", tmp_path / "a.json"]
    evaluate.main([*options, "--model", str(model), *map(str, files)])
    return json.loads((tmp_path / "a.json").read_text())


def test_without_ground_truth_there_is_no_figure(alone, tmp_path):
    images = [row | {"width": 40, "height": 30, "bytes": 1} for row in folder.index_rows({"images": str(alone)})]
    rows = [{"image_id": "b", "category_id": "dog", "bbox": [2, 2, 10, 10], "score": 0.9}]
    found = scored(tmp_path, dataset_config(tmp_path, kind="folder", images=str(alone)), rows, images)
    assert (found["accuracy"], found["annotations"]) == ({}, None)
    assert (found["images"]["scored"], found["detections"]) == (2, 1)


def test_detections_by_name_are_scored_and_those_without_a_category_are_counted(tmp_path):
    path = written(tmp_path / "t.json", truth())
    options = dataset_config(tmp_path, kind="coco", images=str(tmp_path), annotations=str(path))
    images = [{"image_id": i, "file": f"{i}.jpg", "width": 40, "height": 30, "bytes": 1} for i in (1, 2)]
    names = [(1, "dog", [2, 2, 10, 10]), (2, "cat", [4, 4, 20, 10]), (2, "horse", [4, 4, 20, 10])]
    rows = [{"image_id": i, "category_id": name, "bbox": box, "score": 0.9} for i, name, box in names]
    found = scored(tmp_path, options, rows, images)
    assert found["accuracy"]["bbox"]["per_class"] == pytest.approx({"dog": 1, "cat": 1})
    assert found["unscored"] == {"horse": 1}
    scored(tmp_path, [*options, "--coco-results", str(tmp_path / "list.json")], rows, images)
    listed = json.loads((tmp_path / "list.json").read_text())
    ids = {category["name"]: category["id"] for category in truth()["categories"]}
    assert listed == [row | {"category_id": ids[row["category_id"]]} for row in rows[:2]], "with the dataset's ids"


def test_an_index_of_other_annotations_is_refused(tmp_path):
    path = written(tmp_path / "t.json", truth())
    images = [{"image_id": i, "file": f"{i}.jpg", "width": 40, "height": 30, "bytes": 1} for i in (1, 3)]
    with pytest.raises(UsageError, match=r"t\.json: does not list image 3, which the index has; index again"):
        scored(tmp_path, ["--annotations", str(path)], [], images)


def test_what_has_no_partner():
    categories = truth()["categories"]
    horse = "classes that are no category of t, whose detections are not scored: horse"
    cat = "categories of t that no class is, whose objects are never found: cat"
    assert classes.unpaired(["dog", "horse", None, 2], categories, "t") == [horse]
    assert classes.unpaired(["dog", "horse"], categories, "t") == [horse, cat]
    assert classes.unpaired([1, 2], categories, "t") == []
    with pytest.raises(
        UsageError, match="t: has none of the model's classes by name, the first is 'Dog'; did you mean"
    ):
        classes.unpaired(["Dog", "horse"], categories, "t")
    twice = [*categories, {"id": 9, "name": "dog"}]
    assert classes.unpaired([1, 9, "cat"], twice, "t") == []
    with pytest.raises(UsageError, match="several categories are called 'dog'; give ids"):
        classes.unpaired(["dog", "cat"], twice, "t")


def test_what_has_no_partner_is_known_from_the_configuration_alone(tmp_path, voc_folder):
    """The workflow tells it before its first job; ids are for the index to check."""
    named = {"kind": "coco", "annotations": str(written(tmp_path / "t.json", truth()))}
    assert ["not scored: horse" in line for line in datasets.unpaired(named, ["dog", "cat", "horse"])] == [True]
    assert datasets.unpaired(named, [1, 77, None]) == datasets.unpaired(named, "coco80") == []
    assert ["never found: cat" in line for line in datasets.unpaired(voc_folder, ["dog"])] == [True]
    assert datasets.unpaired({"kind": "folder", "images": "."}, ["dog"]) == []


def test_what_has_no_partner_is_told_before_any_image_is_opened(tmp_path, caplog):
    path = written(tmp_path / "t.json", truth())
    (tmp_path / "m.yaml").write_text(
        MODEL.replace("[1, 2, 4, 5, 7, 8, 11]", "[dog, horse, null, cat, cow, null, null]")
    )
    options = dataset_config(tmp_path, kind="coco", images=str(tmp_path), annotations=str(path))
    files = ["--model", str(tmp_path / "m.yaml"), "--output", str(tmp_path / "checked.json")]
    check.main([*options, *files])
    assert "classes that are no category of" in caplog.text and "not scored: horse, cow" in caplog.text


def model_with(tmp_path: Path, categories: str) -> list | str:
    """decode.categories of the demo's gfocalv2 as stages see it, with others in its yaml."""
    path = tmp_path / "m.yaml"
    path.write_text(MODEL.replace("categories: [1, 2, 4, 5, 7, 8, 11]", f"categories: {categories}"))
    return config.load_model(path, "decode")["decode"]["categories"]


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ("[a, b, c, d, e, f, g]", ["a", "b", "c", "d", "e", "f", "g"]),
        ("[1, b, null, null, 5, 6, 7]", [1, "b", None, None, 5, 6, 7]),
        ("{car: vehicle, truck: vehicle, a: 1, b: null, c: 2, d: 3, e: 4}", ["vehicle", "vehicle", 1, None, 2, 3, 4]),
        ("names.txt", ["one", "two words", "3", "4", "5", "6", "7"]),
        ("data.yaml", ["a", "b", "c", "d", "e", "f", "8"]),
    ],
)
def test_categories_in_every_form(tmp_path, monkeypatch, categories, expected):
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("\ufeffone\ntwo words\r\n3\n4\n5\n6\n7\n\n")
    Path("data.yaml").write_text("names: {0: a, 1: b, 2: c, 3: d, 4: e, 5: f, 6: 8}\n")
    assert model_with(tmp_path, categories) == expected


@pytest.mark.parametrize(
    ("categories", "problem"),
    [
        ("coco82", r"'coco82' is no file of names; did you mean 'coco"),
        ("[1, 2, 3, 4, 5, 6, 6]", "6 is there twice"),
        ("[1, 2, 3]", "has 3 categories, network.classes is 7"),
        ("[true, 2, 3, 4, 5, 6, 7]", "expected one of: coco80"),
        ("[]", "expected one of: coco80"),
        ("m.yaml", "names: expected a list of names"),
    ],
)
def test_bad_categories_are_named_by_their_line(tmp_path, monkeypatch, categories, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"m\.yaml:\d+: decode\.categories: .*{problem}"):
        model_with(tmp_path, categories)


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ({"kind": "folder", "annotations": "a"}, "kind folder has no annotations"),
        ({"kind": "yolo"}, "missing key 'annotations'"),
        ({"kind": "coco", "annotations": "a", "image_set": "b"}, "image_set belongs to kinds voc and yolo"),
        ({"kind": "voc", "annotations": "a", "split": "b"}, "kind voc has an image_set for every split"),
        ({"kind": "yolo", "annotations": "a", "split": "b", "image_set": "c"}, "image_set names the images of a split"),
    ],
)
def test_keys_that_do_not_go_together(tmp_path, dataset, problem):
    dataset_config(tmp_path, images="i", **dataset)
    with pytest.raises(UsageError, match=problem):
        config.load(tmp_path / "config.yaml", "config")


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "folder"])
def test_every_kind_has_what_the_workflow_asks_for(kind):
    module = datasets.load(kind)
    names = ("index_rows", "categories", "truth", "source", "count", "files", "scored", "ANNOTATIONS", "TURNED")
    assert all(hasattr(module, name) for name in names)
