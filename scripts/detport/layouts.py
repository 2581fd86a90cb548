"""Which output of a network is what, where every box has scores of all classes; and these outputs as rows.

An output is found by the name that `decode.tensors` gives, else by its shape; names that exporters give are not
believed. What has no reading or several is a UsageError that says what the yaml must say: nothing is guessed.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detport import decoders, grids
from detport.errors import UsageError

Shapes = dict[str, tuple[int, ...]]
SHOWN = 3  # readings in a complaint


class Layout(NamedTuple):
    """What a decoder reads: how many numbers a box and its classes have, and how many rows there are, if it knows.

    `levels` are the maps: rows, columns, anchors of a cell. Rows go level by level and cell by cell, the anchors of a
    cell together; with `anchor_first` one anchor's whole map after the other.
    """

    boxes: int
    classes: int
    orders: tuple[tuple[str, ...], ...] = (("boxes", "classes"),)  # of one tensor, objectness between them
    coefficients: int = 0
    levels: tuple[tuple[int, int, int], ...] = ()
    anchor_first: bool = False
    count: int | None = None


class Way(NamedTuple):
    """How to read an output: as which level, None for all; whether a row's numbers come first or last in its shape; a
    shape to split it into, and the order of axes that makes it rows."""

    level: int | None
    channels: str
    split: tuple[int, ...]
    axes: tuple[int, ...]


Cover = list[tuple[str, Way]]  # outputs that together hold all rows, level by level


class Reading(NamedTuple):
    """The outputs of each part; and columns, where one part, `rows`, holds all."""

    parts: dict[str, Cover]
    columns: tuple | None


class Table(NamedTuple):
    """The outputs as rows, one for each box; None is what the network does not give."""

    boxes: np.ndarray
    classes: np.ndarray
    objectness: np.ndarray | None
    coefficients: np.ndarray | None


def expected(options: dict, shapes: Shapes, canvas: tuple[int, int]) -> Layout:
    """What the settings of a decoder make of outputs of these shapes."""
    classes = len(decoders.classes(decoders.categories(options["categories"]), options["background"]))
    layout = Layout(boxes=4 * (options.get("bins") or 1), classes=classes)
    if "strides" in options:
        levels, anchor_first = grids.levels(options, canvas), options.get("rows_by") == "anchor"
        layout = layout._replace(levels=levels, anchor_first=anchor_first)
    if "bins" in options or "variances" in options:  # kinds whose tensors begin with either
        layout = layout._replace(orders=(*layout.orders, ("classes", "boxes")))
    if options["masks"] and options["masks"]["form"] == "prototypes":
        layout = layout._replace(coefficients=trimmed(shapes[mask_output(shapes, options)])[0])
    return layout


def mask_output(shapes: Shapes, options: dict) -> str | None:
    """The name of the output with masks or prototypes: the one that the yaml says, or else the only one of maps."""
    if options["masks"] is None:
        return None
    said = options["tensors"].get("masks")
    maps = [said] if said else [name for name, shape in shapes.items() if len(trimmed(shape)) > 2]
    if len(maps) != 1 or maps[0] not in shapes:
        raise UsageError(f"decode.masks: which of {listed(shapes)} are they? Say it in decode.tensors.masks")
    return maps[0]


def listed(shapes: Shapes) -> str:
    """Outputs for a message."""
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def read(outputs: dict[str, np.ndarray], options: dict, layout: Layout) -> Table:
    """The outputs as rows."""
    reading = find({name: value.shape for name, value in outputs.items()}, options, layout)
    tables = {part: rows(outputs, cover) for part, cover in reading.parts.items()}
    if reading.columns:
        ends = np.cumsum([width(column, layout) for column in reading.columns])
        tables = dict(zip(reading.columns, np.split(tables["rows"], ends[:-1], axis=1), strict=True))
    own = tables.get("objectness")
    return Table(tables["boxes"], tables["classes"], None if own is None else own[:, 0], tables.get("coefficients"))


def rows(outputs: dict[str, np.ndarray], cover: Cover) -> np.ndarray:
    """One table of all levels; a view where it is a single output."""
    parts = [np.asarray(outputs[name], np.float32).reshape(way.split).transpose(way.axes) for name, way in cover]
    tables = [part.reshape(-1, part.shape[-1]) for part in parts]
    return tables[0] if len(tables) == 1 else np.concatenate(tables)


def width(column: str | int, layout: Layout) -> int:
    """Numbers that a part has in every row; a number itself is of columns that nobody reads."""
    if isinstance(column, int):
        return column
    return 1 if column == "objectness" else getattr(layout, column)


def find(shapes: Shapes, options: dict, layout: Layout) -> Reading:
    """The one way to read outputs of these shapes."""
    declared = listed(shapes)
    for part, names in named(options).items():
        if unknown := [name for name in names if name not in shapes]:
            raise UsageError(f"decode.tensors.{part}: no output is called {unknown[0]!r}; there are {declared}")
    found = list(itertools.islice(readings(shapes, options, layout), SHOWN))
    if len(found) > 1:
        ways = "; or ".join(described(reading) for reading in found)
        raise UsageError(f"there is more than one way to read {declared}; say in decode which: {ways}")
    if not found:
        raise UsageError(
            f"the decoder reads {wanted(options, layout)}; declared are {declared}; correct outputs,"
            " decode.categories or decode.background, or say what they are in decode.tensors and decode.columns"
        )
    return found[0]


def readings(shapes: Shapes, options: dict, layout: Layout) -> Iterator[Reading]:
    """All ways to read the outputs: one tensor that holds all parts, or outputs for each part."""
    said = named(options).keys()
    if "rows" in said or not said & {"boxes", "classes"}:
        for columns in orders(options, layout):
            numbers = sum(width(column, layout) for column in columns)
            for cover in covers("rows", numbers, shapes, options, layout):
                yield Reading({"rows": cover}, columns)
    if "rows" not in said and not options["columns"]:
        for parts in dict.fromkeys(tuple(sorted(order)) for order in orders(options, layout)):
            for found in apart(parts, shapes, options, layout):
                yield Reading(found, None)


def named(options: dict) -> dict[str, list[str]]:
    """The names of outputs that the yaml gives, of all parts but masks."""
    given = {part: names for part, names in options["tensors"].items() if part != "masks"}
    return {part: [names] if isinstance(names, str) else names for part, names in given.items()}


def orders(options: dict, layout: Layout) -> list[tuple]:
    """What the columns of one tensor may be."""
    if options["columns"]:
        if ("objectness" in options["columns"]) != options["objectness"]:
            raise UsageError("decode.columns and decode.objectness disagree on whether there is objectness")
        return [tuple(options["columns"])]
    own = ("objectness",) if options["objectness"] else ()
    coefficients = ("coefficients",) if layout.coefficients else ()
    return [(*order[:1], *own, *order[1:], *coefficients) for order in layout.orders]


def apart(parts: tuple[str, ...], shapes: Shapes, options: dict, layout: Layout) -> Iterator[dict[str, Cover]]:
    """All ways to find each part in outputs of its own, all of as many rows as the first."""
    if not parts:
        yield {}
        return
    part, *others = parts
    for cover in covers(part, width(part, layout), shapes, options, layout):
        names = {name for name, _ in cover}
        left = {name: shape for name, shape in shapes.items() if name not in names}
        count = sum(math.prod(way.split) for _, way in cover) // width(part, layout)
        for found in apart(tuple(others), left, options, layout._replace(count=count)):
            yield {part: cover} | found


def covers(part: str, numbers: int, shapes: Shapes, options: dict, layout: Layout) -> Iterator[Cover]:
    """All choices of outputs that together hold a part: one with all rows, one for each level, or those of a list."""
    said = named(options)
    others = {name for key, names in said.items() if key != part for name in names}
    names = said.get(part) or [name for name in shapes if name not in others]
    pieces = len(names) > 1 and part in said and not layout.levels
    free = layout._replace(count=None) if pieces else layout
    fitting = {name: ways(shapes[name], numbers, options, free) for name in names if name in shapes}
    if not pieces:
        yield from ([(name, way)] for name in fitting for way in fitting[name] if way.level is None)
    for i, name in enumerate(said.get(part, ())):  # of levels of one size the place in the list decides
        if name in fitting:
            fitting[name] = [way for way in fitting[name] if way.level == i] or fitting[name]
    groups = [[(name, way) for way in fitting[name]] for name in fitting] if pieces else []
    for level in range(len(layout.levels)):
        groups.append([(name, way) for name in fitting for way in fitting[name] if way.level == level])
    for cover in itertools.product(*groups) if groups else ():
        count = sum(math.prod(way.split) for _, way in cover) // numbers
        if len({name for name, _ in cover}) == len(cover) and layout.count in (None, count):
            yield list(cover)


def ways(shape: tuple[int, ...], numbers: int, options: dict, layout: Layout) -> list[Way]:
    """All ways to read one output as rows of so many numbers, as far as they give different rows."""
    count, rest = divmod(math.prod(shape), numbers)
    if rest:
        return []
    forms = []
    if count == (sum(math.prod(level) for level in layout.levels) or layout.count or count):
        forms += flat_forms(None, count, numbers, shape, any_rank=not layout.levels)
    for i, (height, width, anchors) in enumerate(layout.levels):
        if count == height * width * anchors:
            forms += flat_forms(i, count, numbers, shape, any_rank=False) if len(layout.levels) > 1 else []
            forms += map_forms(i, (height, width), anchors, numbers, layout.anchor_first)
    channels = (options["channels"],) if options["channels"] else ("first", "last")
    found = [way for form, way in forms if trimmed(form) == trimmed(shape) and way.channels in channels]
    if len(found) > 1:
        order = np.arange(math.prod(shape))
        unequal = {(way.level, order.reshape(way.split).transpose(way.axes).tobytes()): way for way in found}
        found = list(unequal.values())
    return found


def flat_forms(
    level: int | None, count: int, numbers: int, shape: tuple[int, ...], any_rank: bool
) -> list[tuple[tuple[int, ...], Way]]:
    """A table of rows, or its transpose; of any rank where it does not matter which row is which."""
    last, first = Way(level, "last", (count, numbers), (0, 1)), Way(level, "first", (numbers, count), (1, 0))
    forms = [(last.split, last), (first.split, first)]
    if any_rank and len(trimmed(shape)) > 2:
        forms += [(shape, last)] if shape[-1] == numbers else []
        forms += [(shape, first)] if trimmed(shape)[0] == numbers else []
    return forms


def map_forms(
    level: int, size: tuple[int, int], anchors: int, numbers: int, anchor_first: bool
) -> list[tuple[tuple[int, ...], Way]]:
    """A map of a level: the numbers of a cell before or behind its place, those of its anchors in one axis or two."""
    first = Way(level, "first", (anchors, numbers, *size), (0, 2, 3, 1) if anchor_first else (2, 3, 0, 1))
    last = Way(level, "last", (*size, anchors, numbers), (2, 0, 1, 3) if anchor_first else (0, 1, 2, 3))
    forms = [((anchors * numbers, *size), first), ((*size, anchors * numbers), last)]
    if anchors > 1:
        around = Way(level, "last", (anchors, *size, numbers), (0, 1, 2, 3) if anchor_first else (1, 2, 0, 3))
        forms += [(way.split, way) for way in (first, last, around)]
    return forms


def problem(model: dict) -> tuple[tuple, str] | None:
    """What is wrong with the outputs that a model declares for a decoder of such a layout."""
    options = model["decode"]
    shapes = {output["name"]: tuple(output["shape"]) for output in model["outputs"]}
    if options["candidates_of"] == "level" and "strides" not in options:
        return (
            "decode",
            "candidates_of",
        ), f"decoder {options['kind']} knows no levels; count over all or for each class"
    spread = options.get("scale_x_y")
    if isinstance(spread, list) and len(spread) != len(options["strides"]):
        return ("decode", "scale_x_y"), f"has {len(spread)} numbers for {len(options['strides'])} strides"
    try:
        layout = expected(options, shapes, (model["input"]["height"], model["input"]["width"]))
        own = mask_output(shapes, options)
        find({name: shape for name, shape in shapes.items() if name != own}, options, layout)
    except UsageError as error:
        return ("outputs",), str(error)
    return None


def trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the axes of one element at the front, as that of the batch."""
    return tuple(itertools.dropwhile(lambda size: size == 1, shape))


def described(reading: Reading) -> str:
    """The keys of decode that choose a reading."""
    tensors = {part: [name for name, _ in cover] for part, cover in reading.parts.items()}
    lists = {part: ", ".join(names) if len(names) == 1 else f"[{', '.join(names)}]" for part, names in tensors.items()}
    parts = ", ".join(f"{part}: {names}" for part, names in lists.items())
    channels = {way.channels for cover in reading.parts.values() for _, way in cover}
    text = f"tensors: {{{parts}}}"
    if reading.columns:
        text += f", columns: [{', '.join(map(str, reading.columns))}]"
    return text + (f", channels: {channels.pop()}" if len(channels) == 1 else "")


def wanted(options: dict, layout: Layout) -> str:
    """The outputs that would do."""
    kinds = [" + ".join(f"{width(part, layout)} {part}" for part in order) for order in orders(options, layout)]
    total = sum(math.prod(level) for level in layout.levels)
    sizes = ", ".join(f"{height}x{width}" for height, width, _ in layout.levels)
    count = f"{total} rows" + (f" (maps of {sizes})" if sizes else "") if total else "rows"
    return f"{count} of {' or '.join(kinds)} numbers, in one tensor or one for each part"
