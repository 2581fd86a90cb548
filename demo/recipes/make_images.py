"""Makes the demo's dataset: jpgs of rendered scenes with COCO and VOC annotations, the same bytes for the same seed.

    PYTHONPATH=scripts python demo/recipes/make_images.py --output demo/data

writes images/*.jpg, annotations/instances.json (COCO) and voc/ (Annotations and ImageSets/Main/test.txt, for
the same images). It has what real datasets have and loaders get wrong: a grey jpg, one with an EXIF orientation (its
annotations refer to the stored pixels, as COCO's do), an image without objects, crowds, image ids that are suffixes of
one another, category ids with gaps, difficult objects.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from PIL import Image

from detport import cli
from detport.errors import UsageError
from detport.files import atomic
from shapes import DEMO, KINDS, Scene, Shape, render_scene, visible_box

CATEGORY_IDS = (1, 2, 4, 5, 7, 8, 11)  # of KINDS; gaps, so that a label taken for an id shows
RELATED_IDS = (5, 25, 125, 2125, 32125)  # image ids that end alike
QUALITY = 85  # of the jpgs
EXIF_ORIENTATION, ROTATED = 0x0112, 6  # tag, and "turn by 90 degrees to show"
DIFFICULT_VISIBLE = 0.75  # VOC: an object is difficult if less of it is seen
# Which image is special, by position; a dataset of five images has one of each kind.
GREY, EXIF, EMPTY, CROWD, CROWD_STEP = 1, 2, 3, 4, 12


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--seed", type=int, default=1, help="of the ids and the scenes (default: %(default)s)")
    parser.add_argument("--images", type=int, default=80, help="how many, at least 5 (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.images < 5:
        raise UsageError(f"--images {arguments.images}: the special images alone are 5; ask for 5 or more")
    if arguments.output.exists():
        raise UsageError(f"--output {arguments.output}: exists; delete it or name another folder")
    with atomic(arguments.output, directory=True) as folder:
        write_dataset(folder, arguments.seed, arguments.images)


def image_ids(seed: int, images: int) -> list[int]:
    """Sorted distinct ids, RELATED_IDS among them."""
    others = [i for i in np.random.default_rng((DEMO, seed)).permutation(60000) + 1 if i not in RELATED_IDS]
    return sorted([*RELATED_IDS, *(int(i) for i in others[: images - len(RELATED_IDS)])])


def write_dataset(folder: Path, seed: int, images: int) -> None:
    """Renders all scenes and writes jpgs and both kinds of annotations."""
    for name in ("images", "annotations", "voc/Annotations", "voc/ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    entries, annotations, names = [], [], []
    for position, image_id in enumerate(image_ids(seed, images)):
        crowd = position % CROWD_STEP == CROWD
        scene = render_scene((DEMO, seed, image_id), objects=position != EMPTY, crowd=crowd)
        name = f"{image_id:012d}"
        save_jpg(folder / "images" / f"{name}.jpg", scene.image, grey=position == GREY, rotated=position == EXIF)
        height, width = scene.owner.shape
        entries.append({"id": image_id, "file_name": f"{name}.jpg", "width": width, "height": height})
        for annotation in coco_annotations(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
        write_xml(folder / "voc" / "Annotations" / f"{name}.xml", voc_annotation(scene, name))
        names.append(name)
    categories = [
        {"id": i, "name": kind, "supercategory": "shape"} for i, kind in zip(CATEGORY_IDS, KINDS, strict=True)
    ]
    tables = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances.json").write_text(json_lines(tables), encoding="utf-8")
    (folder / "voc" / "ImageSets" / "Main" / "test.txt").write_text(
        "".join(f"{name}\n" for name in names), encoding="utf-8"
    )


def save_jpg(path: Path, image: np.ndarray, grey: bool, rotated: bool) -> None:
    """Writes an RGB image; `rotated` only marks it as to be turned, the pixels stay as they are."""
    picture = Image.fromarray(image)
    exif = Image.Exif()
    if rotated:
        exif[EXIF_ORIENTATION] = ROTATED
    (picture.convert("L") if grey else picture).save(path, quality=QUALITY, exif=exif)


def coco_annotations(scene: Scene) -> list[dict]:
    """One annotation per object, and one for all members of the crowd together."""
    masks = [(scene.owner == i, shape) for i, shape in enumerate(scene.shapes)]
    members = [(mask, shape) for mask, shape in masks if shape.crowd]
    rows = [coco_annotation(mask, shape.kind, crowd=False) for mask, shape in masks if not shape.crowd]
    if members:
        union = np.logical_or.reduce([mask for mask, _ in members])
        rows.append(coco_annotation(union, members[0][1].kind, crowd=True))
    return rows


def coco_annotation(mask: np.ndarray, kind: int, crowd: bool) -> dict:
    x1, y1, x2, y2 = visible_box(mask)
    return {
        "category_id": CATEGORY_IDS[kind],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(mask.sum()),
        "iscrowd": int(crowd),
        "segmentation": run_lengths(mask) if crowd else polygons(mask),
    }


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed RLE: lengths of runs of 0 and 1 in turn, columns first, the first run being of 0."""
    pixels = np.concatenate([[0], mask.ravel(order="F").astype(np.int8), [2]])
    ends = np.flatnonzero(np.diff(pixels))
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def polygons(mask: np.ndarray) -> list[list[float]]:
    """The mask's outlines as COCO polygons, a hole joined to its outline by a cut of no width."""
    # Contours run through pixel centres. On a mask of twice the size these are a quarter pixel from the edges.
    twice = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = {}
    for i, contour in enumerate(contours):
        ring = cv2.approxPolyDP(contour, 1.0, closed=True)
        rings[i] = (ring if len(ring) > 2 else contour)[:, 0] / 2 + 0.25
    outer = {i: rings[i] for i in rings if tree[0, i, 3] < 0}
    for i in rings:
        if i not in outer:
            outer[tree[0, i, 3]] = join_hole(outer[tree[0, i, 3]], rings[i])
    return [ring.ravel().tolist() for ring in outer.values()]


def join_hole(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """One ring that goes round `outer`, along the shortest cut to `hole`, round it, and back along the cut."""
    distance = np.linalg.norm(outer[:, None] - hole[None], axis=-1)
    i, j = np.unravel_index(distance.argmin(), distance.shape)
    return np.concatenate([outer[: i + 1], hole[j:], hole[: j + 1], outer[i:]])


def voc_annotation(scene: Scene, name: str) -> ElementTree.Element:
    """VOC's xml: boxes count from 1 and include their ends; the members of a crowd are difficult objects."""
    height, width = scene.owner.shape
    root = ElementTree.Element("annotation")
    add_fields(root, {"folder": "voc", "filename": f"{name}.jpg"})
    depth = 3  # of the image as loaders see it
    add_fields(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": depth})
    add_fields(root, {"segmented": 0})
    for i, shape in enumerate(scene.shapes):
        x1, y1, x2, y2 = visible_box(scene.owner == i)
        cut = x1 == 0 or y1 == 0 or x2 == width or y2 == height
        item = ElementTree.SubElement(root, "object")
        difficult = int(is_difficult(shape))
        fields = {"name": KINDS[shape.kind], "pose": "Unspecified", "truncated": int(cut), "difficult": difficult}
        add_fields(item, fields)
        box = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        add_fields(ElementTree.SubElement(item, "bndbox"), box)
    return root


def is_difficult(shape: Shape) -> bool:
    return shape.crowd or shape.visible < DIFFICULT_VISIBLE


def add_fields(parent: ElementTree.Element, fields: dict) -> None:
    for name, value in fields.items():
        ElementTree.SubElement(parent, name).text = str(value)


def write_xml(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def json_lines(tables: dict[str, list]) -> str:
    """The tables as one JSON object with one row per line: short, and readable in a diff."""
    parts = []
    for name, rows in tables.items():
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        parts.append(f"{json.dumps(name)}:[\n{lines}\n]")
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    cli.run(main)
