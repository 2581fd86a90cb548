"""How far the outputs of two rungs are apart, tensor by tensor."""

from collections.abc import Container, Mapping, Sequence

import numpy as np

from detport.graph import compare

MOST_ROWS = 300  # of a list of boxes, whose nearest rows are looked for
Outputs = Mapping[str, np.ndarray]


def strange(arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """How many numbers of an output, over all images, are none."""
    floats = [array for array in arrays if array.dtype.kind == "f"]
    return {
        "nan": int(sum(np.isnan(array).sum() for array in floats)),
        "inf": int(sum(np.isinf(array).sum() for array in floats)),
    }


def tensors(before: Sequence[Outputs], after: Sequence[Outputs], varying: Container[str] = ()) -> dict[str, dict]:
    """Of every output the figures of `one`, over all images, and `apart`: the largest difference relative to its scale
    where rows that change places because their scores nearly tie are no difference.

    An output of another form is told as `other`; of those that are `varying`, images with other numbers of rows are
    left out instead.
    """
    kept = [
        i
        for i, (a, b) in enumerate(zip(before, after, strict=True))
        if all(name not in b or alike(a[name], b[name]) for name in a if name in varying)
    ]
    before, after = ([runs[i] for i in kept] for runs in (before, after))
    if not kept:
        return {}
    pairs = {name: [(a[name], b.get(name)) for a, b in zip(before, after, strict=True)] for name in before[0]}
    found = {name: next((pair for pair in each if not alike(*pair)), None) for name, each in pairs.items()}
    if any(found.values()):
        return {name: {"other": form(*found[name])} if found[name] else one(pairs[name]) for name in pairs}
    rows, pairs = in_order(before, after)
    figures = {name: one(each) | {"rows": rows.get(name)} for name, each in pairs.items()}
    for name, difference in apart(before, after).items():
        figures[name]["apart"] = difference
    return figures


def in_order(before: Sequence[Outputs], after: Sequence[Outputs]) -> tuple[dict[str, str], dict[str, list]]:
    """The pairs of every output. Rows of parallel lists with an index are those of the same index, and the first dict
    says `by NAME`; of lists without they are `in place`, though some may have changed places."""
    rows: dict[str, str] = {}
    pairs: dict[str, list] = {}
    for a, b in zip(before, after, strict=True):
        for own, other in compare.groups(dict(a), dict(b)):
            key = compare.row_key(own, other)
            if compare.parallel_rows(own):
                rows |= dict.fromkeys(own, f"by {key}" if key else "in place")
            for name in own:
                pair = own[name], other[name]
                if key and name != key:
                    _, *chosen = np.intersect1d(
                        *(compare.rows(each[key]) for each in (own, other)), return_indices=True
                    )
                    pair = tuple(compare.rows(array)[which] for array, which in zip(pair, chosen, strict=True))
                pairs.setdefault(name, []).append(pair)
    return rows, pairs


def alike(own: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and (own.shape, own.dtype) == (other.shape, other.dtype)


def form(own: np.ndarray, other: np.ndarray | None) -> str:
    """In words, that an output has another form."""
    if other is None:
        return "is missing"
    return f"is {other.dtype} {list(other.shape)}, was {own.dtype} {list(own.shape)}"


def one(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict:
    """`largest` |difference|, and relative to the largest |number| before; `cosine` of the angle between both; the
    share of `signs` that changed, where there are negative numbers. What is not finite is left out."""
    if pairs[0][0].dtype.kind != "f":
        differ = sum(int((before != after).sum()) for before, after in pairs)
        return {"differ": differ, "of": sum(before.size for before, _ in pairs)}
    largest = scale = product = length = other_length = 0.0
    changed = negative = count = 0
    for before, after in pairs:
        whole = np.isfinite(before) & np.isfinite(after)
        a, b = (array[whole].astype(np.float64) for array in (before, after))
        largest, scale = (max(so_far, float(np.abs(x).max(initial=0))) for so_far, x in ((largest, a - b), (scale, a)))
        product, length, other_length = product + float(a @ b), length + float(a @ a), other_length + float(b @ b)
        changed, negative = changed + int((np.sign(a) != np.sign(b)).sum()), negative + int((a < 0).sum())
        count += a.size
    lengths = (length * other_length) ** 0.5
    return {
        "largest": largest,
        "relative": largest / scale if scale else (0.0 if largest == 0 else None),
        "cosine": product / lengths if lengths else None,
        "signs": changed / count if negative else None,
    }


def apart(before: Sequence[Outputs], after: Sequence[Outputs]) -> dict[str, float | None]:
    """Of every group that belongs together (see graph.compare), by the name of the tensor that differs most in it, the
    largest difference over all images. None where it is not finite."""
    found: dict[str, float] = {}
    for a, b in zip(before, after, strict=True):
        for own, other in compare.groups(dict(a), dict(b)):
            name, difference = group_difference(own, other)
            found[name] = max(found.get(name, 0.0), difference)
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def group_difference(before: Outputs, after: Outputs) -> tuple[str, float]:
    """The tensor that differs most, by how much of its scale; of parallel lists of boxes, where each row is compared
    with the nearest one. Of a long list that is done for some rows, evenly spread, because it takes rows times rows."""
    name, difference = max(
        ((name, compare.relative(before[name], after[name])) for name in before), key=lambda each: each[1]
    )
    if not np.isfinite(difference) or difference == 0 or not compare.parallel_rows(dict(before)):
        return name, difference
    pairs = [(compare.rows(before[each]), compare.rows(after[each]), compare.scale(before[each])) for each in before]
    count = len(pairs[0][0])
    looked_at = np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(int))
    first = looked_at < max(1, compare.FIRST_ROWS * count)
    lost = int(compare.LOST_ROWS * len(looked_at))
    return name, min(
        difference,
        max(
            compare.largest_to_nearest(pairs, looked_at[first], lost=0),
            compare.largest_to_nearest(pairs, looked_at[~first], lost=lost),
        ),
    )
