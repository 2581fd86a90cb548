"""Everything that reads foreign text or bytes, as one function of bytes each, with good examples to start from.

A target may refuse what it is given with the project's own errors, in one line, and nothing else: no other exception,
no hang, and no number that is none. Both drivers, hypothesis (test_fuzz.py) and atheris (fuzz.py), use this table.
"""

import functools
import gzip
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image

from detport import attached, checkpoints, classes, columns, config, detections, images, outputs, runs, shards
from detport.ascend import logs, npu
from detport.datasets import annotations, coco, voc, yolo
from detport.errors import Failure, UsageError
from detport.graph import contract

ROOT = config.ROOT
CONTRACT = [
    {"name": "boxes", "shape": [2, 4], "dtype": "float32"},
    {"name": "labels", "shape": [2], "dtype": "int32"},
]


class Target(NamedTuple):
    """Reads a file with these bytes; raises AssertionError where it accepts what it should not."""

    read: Callable[[Path], None]
    seeds: list[bytes]
    name: str = "file"  # what the file is called


@functools.cache
def folder() -> Path:
    """One scratch folder for the whole session."""
    holder = tempfile.TemporaryDirectory(prefix="detport-fuzz-")
    folder.keep = holder
    return Path(holder.name)


def check(name: str, content: bytes) -> bool:
    """Let a target read these bytes; whether it took them. Its own errors, of one line each, are as good."""
    target = TARGETS[name]
    path = folder() / target.name
    path.write_bytes(content)
    try:
        target.read(path)
    except (Failure, UsageError) as error:
        assert len(str(error).splitlines()) <= 1, f"{name}: a complaint of several lines: {error!r}"
        return False
    return True


def finite(values: Iterator[object]) -> bool:
    """Whether all numbers among these values are numbers."""
    return all(math.isfinite(value) for value in values if isinstance(value, float))


def leaves(value: object) -> Iterator[object]:
    """Every value inside nested lists and objects."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def read_index(path: Path) -> None:
    for row in shards.read_index(path):
        assert all(isinstance(row[key], int) and row[key] >= 0 for key in ("width", "height", "bytes"))


def read_shard(path: Path) -> None:
    for image in shards.read_shard(path.parent)["images"]:
        assert isinstance(image["file"], str)
        assert isinstance(image["bin"], str)
        assert Path(image["bin"]).name == image["bin"]


def read_truth(path: Path) -> None:
    truth = coco.read(path)
    assert finite(leaves([entry["bbox"] for entry in truth["annotations"]]))


def read_masks(path: Path) -> None:
    annotations.check_masks(path, coco.read(path))


def read_labels(path: Path) -> None:
    for label in yolo.labels(path, 3):
        found = yolo.annotation(label, 8, 6)
        assert found["category_id"] in range(3)
        assert finite(leaves([found["bbox"], found.get("segmentation", [])]))
        assert min(found["bbox"][2:]) >= 0


def read_names(path: Path) -> None:
    names = classes.read_names(path)
    assert names and len(set(names)) == len(names) and all(name.strip() == name != "" for name in names)
    if path.suffix == ".yaml":
        yolo.places(path, "val", required=False)


def read_configuration(schema: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        config.load(path, schema)

    return read


def read_voc(path: Path) -> None:
    found = voc.read_annotation(path)
    assert found["width"] >= 1
    assert finite(leaves([entry["box"] for entry in found["objects"]]))


def read_image_set(path: Path) -> None:
    assert all(Path(name).name == name for name in voc.image_names(path))


def read_detections(path: Path) -> None:
    content = detections.read(path)
    assert finite(leaves([[row["bbox"], row["score"]] for row in content["detections"]]))
    found = detections.read_columns(path)
    assert found | {"detections": columns.rows(found["detections"])} == content


def read_columns(path: Path) -> None:
    content = columns.unpack(path.read_bytes())
    if content is None:
        raise Failure("no columns")
    rows = columns.rows(content["detections"])
    assert detections.are_results(rows) and {row["image_id"] for row in rows} <= {*content["images"]}


def read_packed_detections(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    read_detections(path)


def read_image(decoder: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        pixels = images.decode(path, decoder)
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.dtype == np.uint8
        height, width = pixels.shape[:2]
        np.testing.assert_array_equal(images.decode(path, decoder, (width, height)), pixels)
        images.check(path, width, height)
        assert (
            images.picture(path, "opencv").turned
            or images.decode(path, "pillow", (width, height)).shape == pixels.shape
        )

    return read


def read_checkpoint(path: Path) -> None:
    tensors = checkpoints.read(path, "model", "module.")
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    settings = {"wrapper": "model", "prefix": "module.", "sha256": None}
    assert checkpoints.convert(path, settings, path.with_name("w.safetensors")) == len(tensors)


def read_outputs(naming: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        other = path.with_name(path.name.replace("a_0", "a_1"))
        other.write_bytes(b"\1\0\0\0\2\0\0\0" if path.suffix == ".bin" else b"1 2")
        arrays = outputs.read(path.parent, "a", naming, CONTRACT, "a.jpg")
        for declared in CONTRACT:
            assert list(arrays[declared["name"]].shape) == declared["shape"]
            assert arrays[declared["name"]].dtype == declared["dtype"]

    return read


def read_log(path: Path) -> None:
    text = path.read_text(errors="replace")
    found = logs.parse(text, 1)
    logs.errors(text)
    if found:
        assert math.isfinite(found["fps"])
        assert found["fps"] > 0
        assert finite(leaves(found))


def read_table(path: Path) -> None:
    for device, name in npu.chip_names(path.read_text(errors="replace")).items():
        assert device >= 0
        assert name.startswith("Ascend")


def read_record(path: Path) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        runs.read(file)


def read_graph(path: Path) -> None:
    model = {"input": {"name": "input", "height": 2, "width": 2}, "outputs": CONTRACT[:1]}
    graph = contract.read(path)
    contract.bind(graph, model)
    contract.check(graph, model, str(path))


def jpg(**options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, options.pop("format", "JPEG"), **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    return exif


def pth() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": {"module.a": torch.ones(2), "module.b": torch.zeros(1, dtype=torch.int64)}}, buffer)
    return buffer.getvalue()


def graph() -> bytes:
    value = helper.make_tensor_value_info
    node = helper.make_node("Reshape", ["input", "shape"], ["boxes"])
    body = helper.make_graph(
        [node],
        "g",
        [value("input", TensorProto.FLOAT, [1, 3, 2, 2])],
        [value("boxes", TensorProto.FLOAT, [2, 4])],
        [onnx.numpy_helper.from_array(np.array([2, 4], np.int64), "shape")],
    )
    return helper.make_model(body).SerializeToString()


IMAGES = [jpg(format=kind) for kind in images.FORMATS]
IMAGES += [jpg(progressive=True, quality=50), jpg(exif=turned()), jpg(format="PNG", exif=turned()), jpg(format="TIFF")]
IMAGES += [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n"]
TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
    "categories": [{"id": 1, "name": "x"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
        | {"segmentation": [[1, 1, 4, 1, 4, 4]]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 1}
        | {"segmentation": {"size": [6, 8], "counts": [3, 5, 40]}},
    ],
}
ELSEWHERE = {
    "images": [{"id": "a 1", "file_name": "d\\a.jpg", "width": 8.0, "height": 6, "split": "val"}],
    "categories": [{"id": "1", "name": "x"}, {"id": 2.0, "name": "y"}],
    "annotations": [{"image_id": "a 1", "category_id": "y", "bbox": [1, 1, 3, 3], "iscrowd": True}],
}
IMAGE = {"image_id": 1, "file": "a.jpg", "width": 8, "height": 6, "canvas": "8x8", "resized": [8, 6], "scale": 1.0}
IMAGE |= {"pad": [0, 2], "bin": "a.bin", "bytes": 48}
SHARD = {
    "schema": 1,
    "shard": 0,
    "shards": 1,
    "images": [IMAGE],
    "skipped": [{"image_id": 2, "file": "b.jpg", "reason": "no such file"}],
}
FOUND = {
    "images": [1],
    "skipped": [],
    "detections": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}],
}
ROWS = [
    {"image_id": 1, "category_id": kind, "bbox": [1.0, 1.5, 2.0, 2.0], "score": 0.5}
    | {"segmentation": {"size": [20, 30], "counts": "52203"}}
    for kind in (1, "a")
]
COLUMNS = columns.pack([1], ROWS, {"skipped": []})
PACKED = gzip.compress(json.dumps(FOUND | {"detections": ROWS}).encode(), mtime=0)
XML = b"""<?xml version="1.0" encoding="UTF-8"?><annotation><size><width>8</width><height>6</height></size>
<object><name>x</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>
</object></annotation>"""
BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>'
LOGS = [
    b"[INFO] NPU_compute_time (ms): min = 1.5, max = 2.0, mean = 1.7, median = 1.6, percentile(99%) = 2.0\n"
    b"[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(1.7): 588.2\n",
    b"[INFO] Dataset number: 0 finished cost 2.1ms\n[INFO] PureInfer result saved\n"
    b"[INFO] ave_throughputRate: 480.1 samples/s, ave_latency: 2.08 ms\n",
    b"[e2e] throughputRate: 1\n[inference] Interface throughputRate: 61.2, moduleLatency: 5\n",
    b"[INFO] model execute success\nInference average time : 3.25 ms\n"
    b"Inference average time without first time: 3.1 ms\n",
    b"Test: [   9/10]  Time: 0.1s (0.2s,  5.0/s)\n[ERROR] no\n",
]
TABLE = b"""+---------------------------+---------------+----------------------------------------------------+
| NPU     Name              | Health        | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device            | Bus-Id        | AICore(%)    Memory-Usage(MB)                        |
+===========================+===============+====================================================+
| 0       310P3             | OK            | NA           40                0    / 0              |
| 0       0                 | 0000:5E:00.0  | 0            500  / 21534                            |
+===========================+===============+====================================================+
"""
TARGETS = {
    "index.tsv": Target(read_index, [b'image_id\tfile\twidth\theight\tbytes\n1\ta.jpg\t8\t6\t9\nx\t"b\nc"\t8\t6\t9\n']),
    "shard.json": Target(read_shard, [json.dumps(SHARD).encode()], "shard.json"),
    "COCO json": Target(read_truth, [json.dumps(TRUTH).encode(), json.dumps(ELSEWHERE).encode()]),
    "COCO masks": Target(read_masks, [json.dumps(TRUTH).encode()]),
    "model yaml": Target(
        read_configuration("model"), [(ROOT / "demo" / "config" / "models" / "retinamask.yaml").read_bytes()]
    ),
    "config yaml": Target(
        read_configuration("config"),
        [(ROOT / "config" / "config.yaml").read_bytes(), b"a: &x [1]\nb: *x\n", b"{a: {a: 1}}"],
    ),
    "backend yaml": Target(
        read_configuration("backend"),
        [path.read_bytes() for path in sorted((ROOT / "config" / "backends").glob("*.yaml"))],
    ),
    "VOC xml": Target(read_voc, [XML, BOMB]),
    "YOLO labels": Target(read_labels, [b"0 0.5 0.5 0.25 0.25\n2 0.1 0.1 0.9 0.1 0.5 0.9\n\n1 .5 5e-1 1 1\r\n"]),
    "names": Target(read_names, [b"dog\ntwo words\n3\n"]),
    "data.yaml": Target(
        read_names,
        [b"path: ../x\nval: [a, ../b]\nnc: 2\nnames: [dog, cat]\n", b"val: v.txt\nnames: {0: dog, 1: 2}\n"],
        "data.yaml",
    ),
    "VOC image set": Target(read_image_set, [b"000001\n000002\n", b"a b\n"]),
    "detections": Target(
        read_detections,
        [gzip.compress(json.dumps(FOUND).encode(), mtime=0), PACKED + attached.attach(PACKED, COLUMNS)],
    ),
    "columns of detections": Target(read_columns, [COLUMNS]),
    "detections, unpacked": Target(read_packed_detections, [json.dumps(FOUND).encode()]),
    "image by pillow": Target(read_image("pillow"), IMAGES),
    "image by opencv": Target(read_image("opencv"), IMAGES),
    "checkpoint": Target(read_checkpoint, [pth()]),
    "outputs .bin": Target(read_outputs("{stem}_{i}.bin"), [np.ones(8, np.float32).tobytes()], "a_0.bin"),
    "outputs .txt": Target(read_outputs("{stem}_{i}.txt"), [b"1 2.5 -3 4e2 5 6 7 8 \n", b"nan inf"], "a_0.txt"),
    "msame, ais_bench and benchmark logs": Target(read_log, LOGS),
    "npu-smi table": Target(read_table, [TABLE]),
    "run record": Target(read_record, [json.dumps(runs.this_run()).encode()]),
    "onnx": Target(read_graph, [graph()]),
}
# Text that parsers stumble over more often than over random bytes.
WORDS = [
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"0",
        b"1e999",
        b"9" * 40,
        b"1.2.3",
        b".",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"\0",
    ),
    *(
        "²".encode(),
        "٣".encode(),
        "\u2028".encode(),
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r",
        b"\t",
        b"\n",
        b"\\ud800",
    ),
    *(
        b"../../x",
        b"/etc/passwd",
        b"&a;",
        b"*a",
        b"!!python/object:os.system",
        b"<!DOCTYPE x>",
        b"]" * 50,
        b"[" * 2000,
        b"{" * 9000,
    ),
    *(b"2001-13-45", b"9" * 5000, b"!!int abc", b"!!float abc", b"!!bool abc", b"!!timestamp abc", b"0b_", b"0x_"),
    *(b"2017: 1", b"null: 1", b"!!int ''", b"2001-01-01T99:99:99Z", b"!!binary x"),
]
