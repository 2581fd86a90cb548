"""How far two runs are apart, when boxes of nearly equal score may change places."""

import numpy as np
import pytest

from detport.graph import compare


def detections(rows: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "bboxs": rng.uniform(0, 1344, (rows, 4)).astype(np.float32),
        "labels": rng.integers(1, 81, rows).astype(np.int32),
        "scores": -np.sort(-rng.random(rows).astype(np.float32)),
    }


def copy(run: dict) -> dict:
    return {name: array.copy() for name, array in run.items()}


def test_equal_runs():
    assert compare.largest_difference(detections(), detections())[1] == 0


def test_rounding_is_measured():
    other = copy(detections())
    other["bboxs"] += 0.01
    name, difference = compare.largest_difference(detections(), other)
    assert name == "bboxs"
    assert difference == pytest.approx(0.01 / detections()["bboxs"].max(), rel=0.1)


def test_neighbours_that_changed_places_are_no_difference():
    other = copy(detections())
    for array in other.values():
        array[[3, 4]] = array[[4, 3]]
    assert compare.largest_difference(detections(), other)[1] == 0


def test_another_box_is_a_difference():
    other = copy(detections())
    other["bboxs"][[3, 50, 60]] += 200
    assert compare.largest_difference(detections(), other)[1] > 0.1


def test_a_few_rows_may_be_lost_but_not_one_of_the_best():
    other = copy(detections(rows=300))
    for row in (297, 298, 299):
        other["bboxs"][row] += 200
    assert compare.largest_difference(detections(rows=300), other)[1] == 0
    other["bboxs"][0] += 200
    assert compare.largest_difference(detections(rows=300), other)[1] > 0.1


def test_what_enters_an_operator_is_a_list_of_its_own():
    before = detections() | {
        f"input {i} of Op (x)": array for i, array in enumerate(detections(rows=50, seed=1).values())
    }
    after = copy(before)
    for array in after.values():
        array[[3, 4]] = array[[4, 3]]
    assert compare.largest_difference(before, after)[1] == 0
    after["input 0 of Op (x)"][0] += 200
    assert compare.largest_difference(before, after)[0] == "input 0 of Op (x)"


def test_another_label_is_a_difference():
    other = copy(detections())
    other["labels"][:5] = 81 - other["labels"][:5]
    assert compare.largest_difference(detections(), other)[1] > 0.01


def test_nan_and_shapes():
    other = copy(detections())
    other["scores"][0] = np.nan
    assert compare.largest_difference(detections(), other)[1] == float("inf")
    assert compare.relative(np.zeros(3), np.zeros(4)) == float("inf")


def test_maps_are_compared_element_by_element():
    before = {"a": np.ones((1, 8, 4, 4)), "b": np.ones((1, 4, 4, 4))}
    after = {"a": before["a"][:, ::-1] * 1, "b": before["b"] * 1.5}
    assert compare.largest_difference(before, after) == ("b", 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_the_search_ends_early_with_the_same_result(seed):
    rng = np.random.default_rng(seed)
    before = detections(rows=250, seed=seed)
    after = {name: array.astype(np.float64) for name, array in before.items()}
    after["bboxs"] += rng.normal(0, 1e-3, after["bboxs"].shape)
    for _ in range(seed):  # neighbours change places, some boxes are lost
        i = rng.integers(0, 249)
        for array in after.values():
            array[[i, i + 1]] = array[[i + 1, i]]
        after["bboxs"][rng.integers(0, 250)] = 5000 if seed % 2 else 3
    scaled = [
        np.concatenate([run[name].reshape(250, -1).astype(float) / compare.scale(before[name]) for name in before], 1)
        for run in (before, after)
    ]
    distances = [np.abs(scaled[1] - row).max(1).min() for row in scaled[0]]
    rest = sorted(distances[25:], reverse=True)
    expected = max(*distances[:25], rest[int(250 * compare.LOST_ROWS)])
    assert compare.nearest_rows(before, after) == pytest.approx(expected)


def test_a_batch_of_one_is_no_axis_of_its_own():
    before = {name: array[None] for name, array in detections().items()}
    after = copy(before)
    for array in after.values():
        array[:, [3, 4]] = array[:, [4, 3]]
    assert compare.largest_difference(before, after)[1] == 0
    after["bboxs"][:, [3, 50, 60]] += 200
    assert compare.largest_difference(before, after)[1] > 0.1


def test_one_step_of_float16_is_no_difference():
    before = {"boxes": np.array([[1000, 7.25], [600, 3]], np.float16), "scores": np.array([[0.5], [0.25]], np.float16)}
    after = {name: np.nextafter(array, np.float16(np.inf)) for name, array in before.items()}
    assert compare.largest_difference(before, after)[1] == 0
    after["boxes"][0, 0] = 1001
    assert compare.largest_difference(before, after) == ("boxes", pytest.approx(0.5 / 1000))


def ranked(index: list[int], logits: list[float]) -> dict[str, np.ndarray]:
    """Parallel lists in the order of the logits, as EfficientDet's compact outputs; codes follow from the index."""
    codes = np.array(index, np.float32)[None, :, None] * np.ones(4, np.float32)
    return {
        "logits": np.array([logits], np.float32),
        "box_codes": codes,
        "index": np.array([index], np.int32),
    }


def test_rows_of_a_ranked_list_are_compared_by_their_index():
    """Two rows change places, one is replaced; what the others lost is half a logit at most."""
    before = ranked([70, 3, 900, 12], [4.0, 3.0, 2.0, 1.0])
    after = ranked([3, 70, 900, 55], [3.75, 3.5, 2.0, 1.5])
    found = compare.changes(before, after)
    assert found == {
        "logits": {"largest": 0.75, "mean": pytest.approx((0.5 + 0.75 + 0) / 3)},
        "box_codes": {"largest": 0.0, "mean": 0.0},
        "index": {"exchanged": 1, "of": 4},
    }
    assert [compare.described(*item) for item in found.items()] == [
        "logits differs by up to 0.75, mean 0.417",
        "box_codes differs by up to 0, mean 0",
        "1 of 4 rows of index are others; differences are of those that stay",
    ]


def test_lists_without_a_common_row_have_no_differences():
    found = compare.changes(ranked([1, 2], [1.0, 0.0]), ranked([3, 4], [1.0, 0.0]))
    assert found == {"index": {"exchanged": 2, "of": 2}}


def test_integers_that_are_no_index_are_counted_where_they_differ():
    before = {"scores": np.float32([0.5, 0.25, 0.125]), "labels": np.array([1, 2, 2])}
    after = {"scores": np.float32([0.5, 0.5, 0.125]), "labels": np.array([1, 7, 2])}
    found = compare.changes(before, after)
    assert found == {"scores": {"largest": 0.25, "mean": pytest.approx(0.25 / 3)}, "labels": {"differ": 1, "of": 3}}
    assert compare.described("labels", found["labels"]) == "1 of 3 values of labels differ"


def test_an_output_without_rows_is_no_obstacle():
    """A graph whose number of detections is open finds nothing in noise."""
    before = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "map": np.float32([[1, 2]])}
    name, difference = compare.largest_difference(before, before | {"map": np.float32([[1, 2.5]])})
    assert (name, difference) == ("map", 0.25)
    assert compare.changes(before, before)["map"] == {"largest": 0, "mean": 0}
