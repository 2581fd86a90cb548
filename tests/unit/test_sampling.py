"""A sample has every category that there is room for, and is always the same."""

from collections import Counter

import pytest

from detport import sampling


def dataset(categories: dict[int, set], crowds: tuple = ()) -> tuple[list[dict], dict]:
    """Index rows and ground truth of images with these categories."""
    rows = [{"image_id": image} for image in categories]
    annotations = [
        {"image_id": image, "category_id": category, "iscrowd": int((image, category) in crowds)}
        for image, found in categories.items()
        for category in found
    ]
    return rows, {"annotations": annotations}


def chosen(rows: list[dict], truth: dict | None, count: int) -> list:
    return [row["image_id"] for row in sampling.choose(rows, truth, count)]


def test_every_category_is_there():
    """One image in a hundred has the rare one, half of them the common one."""
    rows, truth = dataset({i: ({1} if i % 2 else set()) | ({2} if i == 77 else set()) for i in range(100)})
    for count in (1, 2, 5):
        assert 77 in chosen(rows, truth, count)


def test_few_images_show_as_many_categories_as_they_can():
    """Two are enough: the one with all the common categories, and one with the other."""
    rows, truth = dataset({50: {1, 2, 3, 4}, 60: {5}, 61: {5}} | {i: {i % 4 + 1} for i in range(20)})
    found = chosen(rows, truth, 2)
    assert 50 in found and len({60, 61} & set(found)) == 1


def test_rows_keep_their_order_and_the_choice_its_images():
    rows, truth = dataset({i: {i % 7} for i in range(200)})
    once = chosen(rows, truth, 30)
    assert once == sorted(once) and len(set(once)) == 30
    backwards = chosen(rows[::-1], {"annotations": truth["annotations"][::-1]}, 30)
    assert backwards == once[::-1]


def test_the_rest_is_drawn_at_large():
    """Of images with one category each, a sample has about as many as the dataset has."""
    rows, truth = dataset({i: {1} if i < 800 else {2} for i in range(1000)})
    counts = Counter(image < 800 for image in chosen(rows, truth, 100))
    assert 70 <= counts[True] <= 90


def test_a_crowd_shows_no_category():
    rows, truth = dataset({1: {9}, 2: {9}} | {i: set() for i in range(3, 30)}, crowds=((1, 9),))
    assert 2 in chosen(rows, truth, 1)


@pytest.mark.parametrize("truth", [None, {"annotations": []}])
def test_without_objects_any_images_do(truth):
    assert len(chosen([{"image_id": f"a/{i}"} for i in range(50)], truth, 7)) == 7


def test_a_sample_of_all_is_all():
    rows, truth = dataset({i: {1} for i in range(5)})
    assert sampling.choose(rows, truth, 5) is rows
    assert sampling.choose(rows, truth, 50) is rows
