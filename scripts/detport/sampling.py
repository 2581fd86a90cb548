"""A part of a dataset for a quick look: drawn by chance, but with every category that there is room for."""

import hashlib

SEED = 0


def choose(rows: list[dict], truth: dict | None, count: int) -> list[dict]:
    """`count` of the index's rows, in their order; always the same ones for the same ground truth.

    First comes an image of the rarest category that no image is of yet, and of those the one with most of such
    categories; when every category has one, the rest is drawn at large. An object in a crowd shows no category.
    """
    if count >= len(rows):
        return rows
    drawn = sorted((row["image_id"] for row in rows), key=lot)
    shown: dict[int | str, set] = {image: set() for image in drawn}
    for annotation in truth["annotations"] if truth else ():
        if annotation["image_id"] in shown and not annotation["iscrowd"]:
            shown[annotation["image_id"]].add(annotation["category_id"])
    having: dict[int | str, list] = {}
    for image in drawn:
        for category in shown[image]:
            having.setdefault(category, []).append(image)
    rarest_first = sorted(having, key=lambda category: (len(having[category]), lot(category)))
    chosen: list[int | str] = []
    missing = set(having)
    for category in rarest_first:
        if category in missing and len(chosen) < count:
            chosen.append(max(having[category], key=lambda image: len(shown[image] & missing)))
            missing -= shown[chosen[-1]]
    taken = set(chosen)
    taken.update([image for image in drawn if image not in taken][: count - len(chosen)])
    return [row for row in rows if row["image_id"] in taken]


def lot(identity: int | str, seed: int = SEED) -> bytes:
    """A number drawn for an id, the same on every machine."""
    return hashlib.sha256(f"{seed} {identity!r}".encode("utf-8", "surrogatepass")).digest()
