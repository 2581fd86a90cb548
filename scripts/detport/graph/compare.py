"""How far two runs of a model are apart."""

import numpy as np

# A list of the best K boxes may lose rows at its end where scores nearly tie: so many of K are no difference.
LOST_ROWS = 0.01


def largest_difference(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> tuple[str, float]:
    """The output that differs most, and its largest difference relative to its scale.

    Outputs that are parallel lists of boxes are compared row by row; where that differs, each row is compared
    with the nearest row of the other list, because boxes of nearly equal score may change places.
    """
    worst = max(((name, relative(before[name], after[name])) for name in before), key=lambda item: item[1])
    if worst[1] > 0 and parallel_rows(before):
        nearest = nearest_rows(before, after)
        if nearest < worst[1]:
            return worst[0], nearest
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
    """Largest distance from a row of `before` to its nearest row of `after`, leaving out the few worst rows.

    The rows go by falling distance to the row in their own place, which is at least that to the nearest. So the search
    ends when enough distances are known that no later one can change the result.
    """
    if any(before[name].shape != after[name].shape for name in before):
        return float("inf")
    pairs = [(rows(before[name]), rows(after[name]), scale(before[name])) for name in before]
    in_place = np.max([apart(a, b).max(1) / size for a, b, size in pairs], axis=0)
    order = np.argsort(-in_place)
    lost = int(LOST_ROWS * len(order))
    nearest: list[float] = []
    for row, following in zip(order, [*in_place[order[1:]], 0.0], strict=True):
        distances = np.max([apart(a[row : row + 1], b).max(1) / size for a, b, size in pairs], axis=0)
        nearest.append(float(distances.min()))
        if sum(distance >= following for distance in nearest) > lost:
            break
    return sorted(nearest, reverse=True)[lost]


def rows(array: np.ndarray) -> np.ndarray:
    """[rows, numbers of a row]."""
    if array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
