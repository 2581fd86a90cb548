"""Index, shards and names: every image is in exactly one place, whatever it is called."""

import json
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

import decode
import infer
import preprocess
from detport import config, detections, shards
from detport.errors import Failure, UsageError


@hypothesis.given(strategies.integers(0, 300), strategies.integers(1, 40))
def test_shards_are_contiguous_and_complete(images, count):
    rows = list(range(images))
    parts = [shards.part(rows, k, count) for k in range(count)]
    assert [row for part in parts for row in part] == rows
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_no_more_shards_than_the_schema_takes():
    dataset = config.schema_of("config")["properties"]["datasets"]["additionalProperties"]
    assert dataset["properties"]["shards"]["oneOf"][0]["maximum"] == shards.MOST
    assert (
        config.check(
            {"models": ["m"], "datasets": {"d": {"kind": "coco", "images": "i", "annotations": "a"}}}, "config", "c"
        )["datasets"]["d"]["shards"]
        == "auto"
    )


@pytest.mark.parametrize(
    ("images", "count", "expected"),
    [
        (5000, 500, None),
        (8, 8, None),
        (8, 9, "9 shards of 8 images: 1 will be empty; without the key they suit the backend"),
        (400, 100, None),
        (
            399,
            100,
            "100 shards of 399 images: so many jobs take longer to start than to run; without the key they suit",
        ),
        (8, "auto", None),
        (0, 500, None),  # the annotations are not there yet
    ],
)
def test_numbers_of_shards_that_are_no_use(images, count, expected):
    found = shards.advice(images, count)
    assert found is None if expected is None else found.startswith(expected)


def test_index_round_trip(tmp_path):
    rows = [
        {"image_id": 25, "file": "a b'$(x).jpg", "width": 3, "height": 4, "bytes": 5, "sha256": "ab"},
        {"image_id": 125, "file": 'new\nline\t"quoted".jpg', "width": 3, "height": 4, "bytes": 5, "sha256": "cd"},
        {"image_id": "000012", "file": "sub/000012.jpg", "width": 3, "height": 4, "bytes": 0, "sha256": ""},
    ]
    shards.write_index(tmp_path / "index.tsv", rows)
    assert shards.read_index(tmp_path / "index.tsv") == rows


def test_an_index_made_by_hand_may_lack_the_digests(tmp_path):
    path = tmp_path / "index.tsv"
    path.write_text("image_id\tfile\twidth\theight\tbytes\n25\ta.jpg\t3\t4\t5\n")
    assert shards.read_index(path) == [{"image_id": 25, "file": "a.jpg", "width": 3, "height": 4, "bytes": 5}]


def test_a_file_that_is_no_index_is_refused(tmp_path):
    path = tmp_path / "index.tsv"
    path.write_text("image_id,file\n1,a.jpg\n")
    with pytest.raises(UsageError, match=r"index\.tsv: not an index"):
        shards.read_index(path)


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("000000000139.jpg", "000000000139"),
        ("a.b.jpg", "a.b"),
        ("it's.jpg", "it's"),
        ("$(x).jpg", "$(x)"),
        ("ä.jpg", "ä"),
        ("./a.jpg", "a"),
        ("day/left/a.b.jpg", "day__left__a.b"),
    ],
)
def test_plain_names_are_kept(file, stem):
    assert shards.bin_stem(file) == stem


@pytest.mark.parametrize(
    "file",
    [
        "a b/c.jpg",
        "a b.jpg",
        "a\nb.jpg",
        "-rf.jpg",
        ".hidden.jpg",
        "x" * 250 + ".jpg",
        "图" * 100 + ".jpg",
        "\u2003.jpg",
    ],
)
def test_names_that_tools_cannot_take_are_replaced(file):
    stem = shards.bin_stem(file)
    assert stem.startswith("image_")
    assert stem == shards.bin_stem(file)
    assert len(stem) < 30


def test_info_lines(tmp_path):
    images = [{"bin": "a.bin", "width": 640, "height": 480}, {"bin": "b.bin", "width": 1, "height": 2}]
    shards.write_info(tmp_path / "shard.info", images, Path("results/shards/0000"))
    lines = (tmp_path / "shard.info").read_text().splitlines()
    assert lines == ["0 results/shards/0000/a.bin 640 480", "1 results/shards/0000/b.bin 1 2"]


@pytest.mark.parametrize("text", ["4/4", "5", "1/0", "-1/4", "a/b", "1/2/3"])
def test_bad_shard_numbers(text):
    with pytest.raises(UsageError, match="--shard"):
        shards.parse_shard(text)


def test_what_a_stage_needs_of_every_image_is_asked_for(tmp_path):
    entry = {"image_id": 1, "file": "a.jpg", "bin": "a.bin", "width": 8, "height": 6}
    (tmp_path / "shard.json").write_text(json.dumps({"images": [entry], "skipped": []}))
    assert shards.read_shard(tmp_path, needed=("width",))["images"] == [entry]
    with pytest.raises(Failure, match=r"shard\.json: 'a\.jpg' has no scale, canvas; make the shard again"):
        shards.read_shard(tmp_path, needed=("width", "scale", "canvas"))


def test_an_empty_shard_goes_through_the_stages(tmp_path, monkeypatch):
    """More shards than images: the first of three shards of two images holds none."""
    monkeypatch.chdir(config.ROOT / "demo")
    rows = [{"image_id": i, "file": f"{i}.jpg", "width": 8, "height": 8, "bytes": 1, "sha256": ""} for i in (1, 2)]
    shards.write_index(tmp_path / "index.tsv", rows)
    model, shard, outputs = "config/models/gfocalv2.yaml", tmp_path / "shard", tmp_path / "outputs"
    backend, compiled = config.ROOT / "config" / "backends" / "onnxruntime.yaml", tmp_path / "model.onnx"
    compiled.touch()

    def stage(module, **flags):
        module.main([str(word) for key, value in flags.items() for word in (f"--{key}", value)])

    stage(preprocess, model=model, index=tmp_path / "index.tsv", images=tmp_path, shard="0/3", output=shard)
    stage(infer, model=model, backend=backend, compiled=compiled, shard=shard, output=outputs)
    stage(decode, model=model, shard=shard, outputs=outputs, output=tmp_path / "found.json.gz")
    found = detections.read(tmp_path / "found.json.gz")
    assert (found["images"], found["detections"], found["skipped"]) == ([], [], [])


@pytest.mark.parametrize(
    ("given", "sample", "expected"),
    [
        (500, None, (5000, 500)),
        ("auto", None, (5000, "auto")),
        (500, 50, (50, "auto")),  # not 500 shards of which most are empty
        (500, 5000, (5000, 500)),
        (2, 9999, (5000, 2)),
    ],
)
def test_images_and_shards_of_a_dataset_and_of_its_sample(given, sample, expected):
    assert shards.sizes({"shards": given}, 5000, sample) == expected
