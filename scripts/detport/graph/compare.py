"""How far two runs of a model are apart."""

import math

import numpy as np

# A list of the best K boxes may lose rows where scores nearly tie: so many of K, but none of the first of them.
LOST_ROWS = 0.01
FIRST_ROWS = 0.1


def largest_difference(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> tuple[str, float]:
    """The tensor that differs most, and its largest difference relative to its scale.

    The outputs, and what enters one operator, may be parallel lists of boxes. These are compared row by row; where that
    differs, each row is compared with the nearest row of the other list, because boxes of nearly equal score may change
    places.
    """
    found = [group_difference(*group) for group in groups(before, after)]
    return max(found, key=lambda item: item[1])


def groups(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[tuple[dict, dict]]:
    """The tensors that belong together: the outputs, and for each operator what enters it."""
    names: dict[str, list[str]] = {}
    for name in before:
        names.setdefault(name.partition(" of ")[2], []).append(name)
    return [({x: before[x] for x in group}, {x: after[x] for x in group}) for group in names.values()]


def group_difference(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> tuple[str, float]:
    """The same of tensors that belong together."""
    worst = max(((name, relative(before[name], after[name])) for name in before), key=lambda item: item[1])
    if worst[1] > 0 and parallel_rows(before):
        return worst[0], min(worst[1], nearest_rows(before, after))
    return worst


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| / largest |a|; infinite where one is not finite or the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(apart(a, b).max(initial=0) / scale(a))


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|; of numbers that were rounded to float16 what is more than one step, because the smallest difference
    before the rounding can become a step."""
    step = np.spacing(np.abs(a)).astype(np.float64) if a.dtype == np.float16 else 0.0
    return np.maximum(np.abs(a.astype(np.float64) - b.astype(np.float64)) - step, 0)


def scale(array: np.ndarray) -> float:
    """Largest absolute value."""
    return max(float(np.abs(array).max(initial=0)), 1e-12)


def parallel_rows(outputs: dict[str, np.ndarray]) -> bool:
    """Whether the outputs are lists of equal length, one row per box; a batch of one does not count as an axis."""
    lengths = {len(rows(array)) for array in outputs.values()}
    return len(outputs) > 1 and len(lengths) == 1 and 1 < lengths.pop() <= 10_000


def nearest_rows(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    """Largest distance from a row of `before` to its nearest row of `after`, but for a few that are not the first."""
    if any(before[name].shape != after[name].shape for name in before):
        return float("inf")
    pairs = [(rows(before[name]), rows(after[name]), scale(before[name])) for name in before]
    count = len(pairs[0][0])
    first = max(1, int(FIRST_ROWS * count))
    return max(
        largest_to_nearest(pairs, np.arange(first), lost=0),
        largest_to_nearest(pairs, np.arange(first, count), lost=int(LOST_ROWS * count)),
    )


def largest_to_nearest(pairs: list[tuple[np.ndarray, np.ndarray, float]], chosen: np.ndarray, lost: int) -> float:
    """Largest distance from one of the chosen rows to its nearest row, leaving out the `lost` worst.

    The rows go by falling distance to the row in their own place, which is at least that to the nearest. So the search
    ends when enough distances are known that no later one can change the result.
    """
    if len(chosen) <= lost:
        return 0.0
    in_place = np.max([apart(a[chosen], b[chosen]).max(1) / size for a, b, size in pairs], axis=0)
    order = np.argsort(-in_place)
    nearest: list[float] = []
    for row, following in zip(chosen[order], [*in_place[order[1:]], 0.0], strict=True):
        distances = np.max([apart(a[row : row + 1], b).max(1) / size for a, b, size in pairs], axis=0)
        nearest.append(float(distances.min()))
        if sum(distance >= following for distance in nearest) > lost:
            break
    return sorted(nearest, reverse=True)[lost]


def rows(array: np.ndarray) -> np.ndarray:
    """[rows, numbers of a row]."""
    if array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array.reshape(len(array), math.prod(array.shape[1:])) if array.ndim else array.reshape(1, 1)


def changes(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, dict]:
    """What an edit does to each tensor: `largest` and `mean` |difference|, or of integers how many `differ`.

    Parallel lists with an index (see row_key) are compared row by row of the same index, in whatever order they are; of
    the index itself it is told how many rows were `exchanged`, lost and replaced by as many others.
    """
    return {name: change for group in groups(before, after) for name, change in group_changes(*group).items()}


def group_changes(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, dict]:
    """The same of tensors that belong together."""
    key = row_key(before, after)
    if key is None:
        return {name: change(before[name], after[name]) for name in before}
    _, one, other = np.intersect1d(rows(before[key]), rows(after[key]), return_indices=True)
    count = len(rows(before[key]))
    found = {}
    for name in before:
        if name == key:
            found[name] = {"exchanged": count - len(one), "of": count}
        elif len(one):
            found[name] = change(rows(before[name])[one], rows(after[name])[other])
    return found


def change(before: np.ndarray, after: np.ndarray) -> dict:
    """The change of one output, number by number."""
    if before.dtype.kind != "f":
        return {"differ": int((before != after).sum()), "of": before.size}
    difference = np.abs(before.astype(np.float64) - after.astype(np.float64))
    return {"largest": float(difference.max(initial=0)), "mean": float(difference.sum() / max(difference.size, 1))}


def row_key(*runs: dict[str, np.ndarray]) -> str | None:
    """The output that says which row is which in parallel lists: an integer per row, none twice in a run."""
    if len({len(rows(array)) for run in runs for array in run.values()}) > 1:
        return None
    for name, array in runs[0].items():
        columns = [rows(run[name]) for run in runs]
        if array.dtype.kind == "i" and all(1 < len(np.unique(x)) == len(x) == x.size for x in columns):
            return name
    return None


def described(name: str, change: dict) -> str:
    """A change in words."""
    if "exchanged" in change:
        return f"{change['exchanged']} of {change['of']} rows of {name} are others; differences are of those that stay"
    if "differ" in change:
        return f"{change['differ']} of {change['of']} values of {name} differ"
    return f"{name} differs by up to {change['largest']:.3g}, mean {change['mean']:.3g}"
