"""The demo's dataset: its recipe makes what the annotations say, and the stored copy is what the recipe makes."""

import filecmp
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

DEMO = Path(__file__).resolve().parents[2] / "demo"
sys.path.insert(0, str(DEMO / "recipes"))

import make_images  # noqa: E402
import shapes  # noqa: E402

SEED, IMAGES = 3, 18  # enough images for two crowds


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "data"
    make_images.main(["--output", str(folder), "--seed", str(SEED), "--images", str(IMAGES)])
    return folder


@pytest.fixture(scope="module")
def coco(dataset: Path) -> COCO:
    return COCO(str(dataset / "annotations" / "instances.json"))


def scene_of(position: int) -> shapes.Scene:
    image_id = make_images.image_ids(SEED, IMAGES)[position]
    return shapes.render_scene(
        (shapes.DEMO, SEED, image_id),
        objects=position != make_images.EMPTY,
        crowd=position % make_images.CROWD_STEP == make_images.CROWD,
    )


def relative_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_same_seed_gives_same_bytes(dataset: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    make_images.main(["--output", str(again), "--seed", str(SEED), "--images", str(IMAGES)])
    names = relative_files(dataset)
    assert relative_files(again) == names
    assert filecmp.cmpfiles(dataset, again, names, shallow=False) == (names, [], [])


def test_an_existing_folder_is_left_alone(dataset: Path) -> None:
    with pytest.raises(make_images.UsageError, match="exists"):
        make_images.main(["--output", str(dataset)])


def test_demo_and_training_scenes_differ() -> None:
    demo, training = (shapes.render_scene((split, SEED, 25)) for split in (shapes.DEMO, shapes.TRAINING))
    assert demo.image.shape != training.image.shape or not np.array_equal(demo.image, training.image)


def test_outlines_have_unit_size() -> None:
    for kind in shapes.KINDS:
        points = np.concatenate(shapes.outline(kind))
        assert 0.8 < np.abs(points).max() <= 1 + 1e-9, kind


def test_ring_and_crescent_are_open() -> None:
    for kind, inside, outside in (("ring", (0.8, 0), (0, 0)), ("crescent", (-0.9, 0), (0.5, 0))):
        polygons = [(polygon + 1) * 50 for polygon in shapes.outline(kind)]
        covered = shapes.coverage(polygons, 100, 100)
        for point, expected in ((inside, 255), (outside, 0)):
            x, y = ((np.array(point) + 1) * 50).astype(int)
            assert covered[y, x] == expected, kind


def test_masks_boxes_and_areas_match_the_scene(coco: COCO) -> None:
    checked = 0
    for position, image_id in enumerate(make_images.image_ids(SEED, IMAGES)):
        scene = scene_of(position)
        annotations = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
        own = [i for i, shape in enumerate(scene.shapes) if not shape.crowd]
        for i, annotation in zip(own, annotations, strict=True):
            mask, stored = scene.owner == i, coco.annToMask(annotation).astype(bool)
            assert (mask & stored).sum() >= 0.9 * (mask | stored).sum()
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            inside = np.zeros_like(mask)
            inside[y : y + height, x : x + width] = True
            assert not (mask & ~inside).any()
            assert mask[y].any() and mask[y + height - 1].any() and mask[:, x].any() and mask[:, x + width - 1].any()
            assert annotation["category_id"] == make_images.CATEGORY_IDS[scene.shapes[i].kind]
            checked += 1
    assert checked > 2 * IMAGES


def test_crowds_are_run_lengths_of_all_members(coco: COCO) -> None:
    crowds = coco.loadAnns(coco.getAnnIds(iscrowd=True))
    positions = range(make_images.CROWD, IMAGES, make_images.CROWD_STEP)
    assert len(crowds) == len(positions) == 2
    for crowd, position in zip(crowds, positions, strict=True):
        scene = scene_of(position)
        members = [i for i, shape in enumerate(scene.shapes) if shape.crowd]
        assert len(members) > 3
        assert isinstance(crowd["segmentation"]["counts"], list)
        assert np.array_equal(coco.annToMask(crowd), np.isin(scene.owner, members))


@pytest.mark.parametrize("full", [True, False])
def test_run_lengths_begin_with_the_zeros(full: bool) -> None:
    mask = np.full((3, 4), full)
    encoded = make_images.run_lengths(mask)
    assert encoded["counts"] == ([0, 12] if full else [12])
    assert np.array_equal(rle.decode(rle.frPyObjects(encoded, 3, 4)), mask)


def test_a_hole_stays_a_hole_in_the_polygon() -> None:
    mask = np.zeros((30, 40), bool)
    mask[5:25, 6:34] = True
    mask[10:20, 12:28] = False
    (ring,) = make_images.polygons(mask)
    stored = rle.decode(rle.merge(rle.frPyObjects([ring], *mask.shape))).astype(bool)
    assert (stored != mask).sum() <= 2


def test_ids_end_alike_and_categories_have_gaps(coco: COCO) -> None:
    ids = coco.getImgIds()
    assert set(make_images.RELATED_IDS) <= set(ids)
    assert len(set(ids)) == IMAGES
    categories = [category["id"] for category in coco.dataset["categories"]]
    assert categories != list(range(1, len(categories) + 1))


def test_special_images(dataset: Path, coco: COCO) -> None:
    entries = coco.loadImgs(coco.getImgIds())
    grey, turned, empty = [], [], []
    for entry in entries:
        assert entry["file_name"] == f"{entry['id']:012d}.jpg"
        with Image.open(dataset / "images" / entry["file_name"]) as image:
            assert image.size == (entry["width"], entry["height"])
            if image.mode == "L":
                grey.append(entry["id"])
            if image.getexif().get(make_images.EXIF_ORIENTATION) == make_images.ROTATED:
                turned.append(entry["id"])
        if not coco.getAnnIds(entry["id"]):
            empty.append(entry["id"])
    assert len(grey) == len(turned) == len(empty) == 1
    assert len({*grey, *turned, *empty}) == 3


def test_voc_boxes_are_the_coco_boxes_counted_from_one(dataset: Path, coco: COCO) -> None:
    voc = dataset / "voc"
    names = (voc / "ImageSets" / "Main" / "test.txt").read_text().split()
    assert [int(name) for name in names] == coco.getImgIds()
    kinds = dict(zip(make_images.CATEGORY_IDS, shapes.KINDS, strict=True))
    crowd_members = 0
    for name in names:
        objects = ElementTree.parse(voc / "Annotations" / f"{name}.xml").findall("object")
        members = [shape.crowd for shape in scene_of(names.index(name)).shapes]
        found = []
        for item, member in zip(objects, members, strict=True):
            box = item.find("bndbox")
            x1, y1, x2, y2 = (int(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax"))
            if member:
                assert item.findtext("difficult") == "1"
                crowd_members += 1
            else:
                found.append((item.findtext("name"), [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]))
        annotations = coco.loadAnns(coco.getAnnIds(int(name), iscrowd=False))
        assert found == [(kinds[row["category_id"]], row["bbox"]) for row in annotations]
    assert crowd_members > 0


def test_stored_demo_is_complete() -> None:
    tables = json.loads((DEMO / "data" / "annotations" / "instances.json").read_text())
    assert 64 <= len(tables["images"]) <= 100
    stored = sorted(path.name for path in (DEMO / "data" / "images").iterdir())
    assert stored == sorted(entry["file_name"] for entry in tables["images"])
    areas = [row["area"] for row in tables["annotations"] if not row["iscrowd"]]
    small, large = sum(area < 32**2 for area in areas), sum(area >= 96**2 for area in areas)
    assert min(small, large, len(areas) - small - large) >= 5
    sizes = [(entry["width"], entry["height"]) for entry in tables["images"]]
    assert {np.sign(width - height) for width, height in sizes} == {-1, 0, 1}
    assert sum(path.stat().st_size for path in (DEMO / "data").rglob("*") if path.is_file()) < 2_500_000
