"""What a later stage would refuse of ground truth or categories, index_dataset refuses before it opens an image."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import check
import index_dataset
from detport import config, images, shards
from detport.errors import Failure, UsageError
from detport.files import sha256

DEMO = config.ROOT / "demo"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's configuration and ground truth in a working directory, with a folder for images that holds none."""
    shutil.copytree(DEMO / "config", tmp_path / "config")
    shutil.copytree(DEMO / "data" / "annotations", tmp_path / "data" / "annotations")
    shutil.copytree(DEMO / "data" / "voc", tmp_path / "data" / "voc")
    (tmp_path / "data" / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def index(dataset: str, *models: str) -> list[dict]:
    """Rows of the index, after models are checked; no image is there, and the stage goes on without."""
    arguments = ["--dataset-config", "config/config.yaml", "--dataset", dataset]
    for model in models:
        check.main([*arguments, "--model", f"config/models/{model}.yaml", "--output", "checked.json"])
    index_dataset.main([*arguments, "--on-bad-image", "skip", "--output", "index.tsv"])
    return shards.read_index(Path("index.tsv"))


def edit(model: str, section: str, **changes: object) -> None:
    path = Path(f"config/models/{model}.yaml")
    content = yaml.safe_load(path.read_text())
    content[section] |= changes
    path.write_text(yaml.safe_dump(content))


def edit_truth(change) -> None:
    path = Path("data/annotations/instances.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_demo_is_taken(folder):
    assert len(index("shapes", "retinamask", "gfocalv2", "efficientdet")) == 80
    assert len(index("shapes_voc", "rfcn")) == 80


def test_categories_that_the_annotations_lack(folder):
    edit("gfocalv2", "decode", categories=[1, 2, 4, 5, 7, 8, 90])
    message = (
        r"^config/models/gfocalv2\.yaml: data/annotations/instances\.json: 1 of the 7 ids .* categories: 90; correct"
    )
    with pytest.raises(UsageError, match=message):
        index("shapes", "retinamask", "gfocalv2")
    assert len(index("shapes", "retinamask")) == 80, "of models that are not scored on it nothing is asked"


def test_gaps_of_cocos_ids_need_no_category(folder):
    """coco90 has them; of the 80 others the demo has some."""
    edit("efficientdet", "decode", categories="coco90")
    edit("efficientdet", "network", classes=90)
    edit_truth(lambda truth: truth["categories"].extend({"id": i, "name": str(i)} for i in range(1, 91) if i > 11))
    with pytest.raises(UsageError, match=r": 4 of the 90 ids .*: 3, 6, 9, 10; correct"):
        index("shapes", "efficientdet")


def test_masks_where_they_are_scored(folder):
    edit_truth(lambda truth: truth["annotations"][3].update(segmentation=[[1, 2]]))
    with pytest.raises(UsageError, match=r"retinamask\.yaml: .*: annotations\[3\]\.segmentation: .* leave segm out"):
        index("shapes", "retinamask")
    assert len(index("shapes", "gfocalv2")) == 80


def test_images_that_the_metric_counts(folder):
    edit("gfocalv2", "metric", images="annotated")
    edit_truth(lambda truth: truth["annotations"].clear())
    with pytest.raises(UsageError, match=r"gfocalv2\.yaml: .*metric\.images: annotated leaves nothing"):
        index("shapes", "gfocalv2")


def test_voc_classes_that_the_metric_does_not_list(folder):
    path = Path("data/voc/Annotations/000000000749.xml")
    path.write_text(path.read_text().replace("<name>crescent<", "<name>moon<"))
    with pytest.raises(
        UsageError, match=r"rfcn\.yaml: .*000000000749\.xml: has a 'moon', which metric\.classes does not"
    ):
        index("shapes_voc", "rfcn")


def test_voc_categories_that_the_metric_does_not_name(folder):
    edit("rfcn", "decode", categories=[1, 2, 3, 4, 5, 6, 8])
    with pytest.raises(UsageError, match=r"rfcn\.yaml: decode\.categories has 8, but metric\.classes names .* 1 to 7"):
        index("shapes_voc", "rfcn")


def test_an_index_that_was_cut_short_goes_on_where_it_stopped(folder, monkeypatch):
    """An image is missing: all others were looked at, and are not again, but for one that has changed since."""
    shutil.rmtree("data/images")
    shutil.copytree(DEMO / "data" / "images", "data/images")
    first, second, *_ = sorted(Path("data/images").iterdir())
    first.rename("kept.jpg")
    arguments = [
        "--dataset-config",
        "config/config.yaml",
        "--dataset",
        "shapes",
        "--output",
        "index.tsv",
        "--threads",
        "2",
    ]
    with pytest.raises(Failure, match=f"1 of 80 images.*{first.name}"):
        index_dataset.main(arguments)
    with Path(".index.tsv.seen").open("a") as file:
        file.write('["half a li')
    Path("kept.jpg").rename(first)
    second.write_bytes(second.read_bytes() + b"\0")
    looked, check_image = [], images.check
    monkeypatch.setattr(images, "check", lambda path, *size: looked.append(path.name) or check_image(path, *size))
    index_dataset.main(arguments)
    assert sorted(looked) == [first.name, second.name]
    assert not Path(".index.tsv.seen").exists()
    resumed = Path("index.tsv").read_bytes()
    index_dataset.main(arguments)
    assert len(looked) == 82, "what is finished is no part of the next index"
    assert Path("index.tsv").read_bytes() == resumed


def test_an_image_that_only_one_decoder_takes_for_whole_has_no_digest(folder):
    """OpenCV fills what is missing with grey; with a digest, preprocess would ask it alone."""
    shutil.copytree(DEMO / "data" / "images", "data/images", dirs_exist_ok=True)
    first, second = (row["file"] for row in index("shapes")[:2])
    path = Path("data/images") / first
    path.write_bytes(path.read_bytes()[:-400])
    rows = {row["file"]: row for row in index("shapes")}
    assert rows[first]["sha256"] == "" and rows[first]["bytes"] == path.stat().st_size
    assert rows[second]["sha256"] == sha256(Path("data/images") / second)
