"""Renders labelled scenes of simple shapes; a scene is a pure function of its seed.

A scene is an RGB image and a map that says for every pixel which object is seen there, so that visible masks are
right by construction, whatever overlaps. Colour, texture, size and turn of an object say nothing about its class: only
its outline does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

KINDS = ("disc", "square", "triangle", "star", "ring", "cross", "crescent")

# First number of a scene's seed. The demo's images and the training scenes can never be the same ones.
DEMO, TRAINING = 0, 1

BACKGROUND = -1
PATTERNS = ("plain", "gradient", "clouds", "stripes", "checks", "dots")
LONG_SIDE = (176, 288)  # canvas, pixels
OBJECT_SIZE = (0.11, 0.75)  # longer side of an object's box, as a part of the canvas' long side
MEMBER_SIZE = (0.05, 0.07)  # the same for one member of a crowd
MAX_OBJECTS = 9
MIN_VISIBLE = 0.6  # part of an object that later ones must leave visible
MARGIN = 0.35  # least distance of an object's centre from the canvas' edge, in object sizes
MIN_AREA = 40  # visible pixels of an object
CONTRAST = 110.0  # Euclidean RGB distance between an object and what is behind it


class Shape(NamedTuple):
    kind: int  # index into KINDS
    crowd: bool  # a member of the scene's crowd
    visible: float  # visible part of the outline, 0 to 1


class Scene(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8, RGB
    owner: np.ndarray  # (H, W) int16, index into shapes of what is seen at a pixel, or BACKGROUND
    shapes: list[Shape]


def arc(radius: float, start: float, end: float, centre: float = 0.0) -> np.ndarray:
    """Points of a circle's arc from angle `start` to `end` (radians), the circle's centre being on the x axis."""
    angles = np.linspace(start, end, 40)
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def outline(kind: str) -> list[np.ndarray]:
    """The closed polygons of a shape about the origin; a point inside an even number of them is outside."""
    if kind == "disc":
        return [arc(1, 0, 2 * np.pi)]
    if kind == "ring":
        return [arc(1, 0, 2 * np.pi), arc(0.55, 0, 2 * np.pi)]
    if kind == "square":
        return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)]
    if kind == "triangle":
        angles = np.arange(3) * 2 * np.pi / 3
        return [np.stack([np.cos(angles), np.sin(angles)], axis=1)]
    if kind == "star":
        angles = np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        return [np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)]
    if kind == "cross":
        a = 0.32
        quarter = np.array([(1, -a), (1, a), (a, a)])
        turns = [np.array([(c, -s), (s, c)]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return [np.concatenate([quarter @ turn.T for turn in turns])]
    # crescent: the unit disc without a disc of radius r at x = d; the circles meet at x = (1 - r^2 + d^2) / (2 d)
    r, d = 0.85, 0.55
    x = (1 - r * r + d * d) / (2 * d)
    outer, inner = np.arccos(x), np.arccos((x - d) / r)
    return [np.concatenate([arc(1, outer, 2 * np.pi - outer), arc(r, 2 * np.pi - inner, inner, d)])]


def pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random (height, width) float32 pattern between 0 and 1."""
    kind = PATTERNS[rng.integers(len(PATTERNS))]
    if kind == "plain":
        return np.zeros((height, width), np.float32)
    if kind == "clouds":
        cells = int(rng.integers(3, 10))
        coarse = rng.random((cells, cells), np.float32)
        return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    angle, phase, other_phase = (np.float32(value) for value in rng.uniform(0, 2 * np.pi, 3))
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == "gradient":
        return (along - along.min()) / max(np.ptp(along), 1)
    turn = np.float32(2 * np.pi / rng.uniform(6, 24))  # radians per pixel
    stripes = np.sin(turn * along + phase)
    if kind == "stripes":
        return 0.5 + 0.5 * stripes
    product = stripes * np.sin(turn * across + other_phase)
    return (product > (0 if kind == "checks" else 0.4)).astype(np.float32)


def textured(rng: np.random.Generator, height: int, width: int, colour: np.ndarray, spread: float) -> np.ndarray:
    """A (height, width, 3) float32 patch that goes between `colour` and a second one `spread` of the way elsewhere."""
    step = spread * (rng.uniform(0, 255, 3) - colour)
    weight = pattern(rng, height, width)[..., None]
    return colour.astype(np.float32) + weight * step.astype(np.float32)


def contrasting_colour(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """A random colour at least CONTRAST away from `behind`."""
    while True:
        colour = rng.uniform(10, 245, 3)
        if np.linalg.norm(colour - behind) >= CONTRAST:
            return colour


def placed_outline(rng: np.random.Generator, kind: str, size: float, centre: np.ndarray) -> list[np.ndarray]:
    """The outline stretched a little, turned, scaled to a box whose longer side is `size`, and put at `centre`."""
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    polygons = [polygon * (1, stretch) @ turn.T for polygon in outline(kind)]
    low, high = polygons[0].min(axis=0), polygons[0].max(axis=0)
    scale = size / (high - low).max()
    return [(polygon - (low + high) / 2) * scale + centre for polygon in polygons]


def coverage(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Anti-aliased coverage of the polygons, uint8 0..255. Pixel (x, y) is the square from (x, y) to (x + 1, y + 1)."""
    shift = 4  # fillPoly takes fixed-point coordinates with this many fractional bits, pixel centres at integers
    fixed = [np.round((polygon - 0.5) * 2**shift).astype(np.int32) for polygon in polygons]
    alpha = np.zeros((height, width), np.uint8)
    cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, shift)
    return alpha


def paint(rng: np.random.Generator, canvas: np.ndarray, alpha: np.ndarray, mask: np.ndarray) -> None:
    """Paints a new colour and texture over the canvas where `alpha` covers it."""
    ys, xs = np.nonzero(alpha.any(axis=1))[0], np.nonzero(alpha.any(axis=0))[0]
    patch = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    colour = contrasting_colour(rng, canvas[mask].mean(axis=0))
    fill = textured(rng, *mask[patch].shape, colour, spread=0.3)
    weight = alpha[patch][..., None] / np.float32(255)
    canvas[patch] += weight * (fill - canvas[patch])


def leaves_enough(owner: np.ndarray, mask: np.ndarray, areas: list[int]) -> bool:
    """Whether every object stays visible enough when `mask` is painted over; `areas`: pixels of their outlines."""
    hidden = np.bincount(owner[mask] + 1, minlength=len(areas) + 1)[1:]
    seen = np.bincount(owner.ravel() + 1, minlength=len(areas) + 1)[1:]
    return all(
        left >= max(MIN_VISIBLE * area, MIN_AREA)
        for left, hides, area in zip(seen - hidden, hidden, areas, strict=True)
        if hides
    )


def canvas_size(rng: np.random.Generator) -> tuple[int, int]:
    """(height, width) of a landscape, portrait or square canvas."""
    long = int(rng.integers(LONG_SIDE[0], LONG_SIDE[1] + 1))
    short = int(long * rng.uniform(0.6, 0.85))
    return ((short, long), (long, short), (long, long))[rng.choice(3, p=(0.45, 0.35, 0.2))]


def crowd_centres(rng: np.random.Generator, height: int, width: int, spacing: float) -> np.ndarray:
    """Centres (x, y) of a crowd's members: a jittered grid of 3 x 3 to 4 x 5 places, all on the canvas."""
    rows, columns = int(rng.integers(3, 5)), int(rng.integers(3, 6))
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * spacing
    room = np.array([width - columns * spacing, height - rows * spacing])
    return grid + spacing / 2 + rng.uniform(0, 1, 2) * room + rng.uniform(-0.15, 0.15, grid.shape) * spacing


def render_scene(seed: Sequence[int], objects: bool = True, crowd: bool = False) -> Scene:
    """The scene of a seed (DEMO or TRAINING first): `objects` of them or none, and a crowd behind them on request."""
    rng = np.random.default_rng(seed)
    height, width = canvas_size(rng)
    long = max(height, width)
    canvas = textured(rng, height, width, rng.uniform(30, 225, 3), spread=0.4)
    owner = np.full((height, width), BACKGROUND, np.int16)
    kinds: list[int] = []
    areas: list[int] = []

    def add(kind: int, size: float, centre: np.ndarray) -> None:
        alpha = coverage(placed_outline(rng, KINDS[kind], size, centre), height, width)
        mask = alpha > 127
        area = int(mask.sum())
        if area >= MIN_AREA and leaves_enough(owner, mask, areas):
            paint(rng, canvas, alpha, mask)
            owner[mask] = len(kinds)
            kinds.append(kind)
            areas.append(area)

    members = 0
    if crowd:
        kind, size = int(rng.integers(len(KINDS))), rng.uniform(*MEMBER_SIZE) * long
        for centre in crowd_centres(rng, height, width, 1.05 * size):
            add(kind, size, centre)
        members = len(kinds)
    if objects:
        sizes = long * np.exp(rng.uniform(*np.log(OBJECT_SIZE), rng.integers(1, MAX_OBJECTS + 1)))
        for size in sorted(sizes, reverse=True):  # large ones first, or they would hide too much and be left out
            margin = np.minimum(MARGIN * size, (width / 2, height / 2))
            add(int(rng.integers(len(KINDS))), size, rng.uniform(margin, (width, height) - margin))

    noise = rng.integers(-5, 6, canvas.shape, np.int8)
    image = np.clip(np.round(canvas + noise), 0, 255).astype(np.uint8)
    seen = np.bincount(owner.ravel() + 1, minlength=len(kinds) + 1)[1:]
    shapes = [Shape(kinds[i], i < members, float(seen[i] / areas[i])) for i in range(len(kinds))]
    return Scene(image, owner, shapes)


def visible_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) of a mask's pixels, the ends exclusive."""
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
