"""What EfficientDet's network, its decoder and its yaml agree on: the pyramid, the anchors of a cell, the outputs."""

STRIDES = (8, 16, 32, 64, 128)  # P3..P7
OCTAVES = (2**0, 2 ** (1 / 3), 2 ** (2 / 3))
ASPECTS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))  # factors of width and height
ANCHORS = len(OCTAVES) * len(ASPECTS)  # per cell
CODES = 4  # ty, tx, th, tw
COMPACT = ("logits", "box_codes", "index")


def cells(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of P3..P7 on a canvas."""
    return [(height // stride, width // stride) for stride in STRIDES]


def anchor_count(height: int, width: int) -> int:
    """Anchors of all levels."""
    return ANCHORS * sum(rows * columns for rows, columns in cells(height, width))


def outputs(network: dict, height: int, width: int) -> list[dict]:
    """The outputs of network.contract as a yaml declares them; the raw maps have no names of their own."""
    if network["contract"] == "raw":
        return [
            {"shape": [1, ANCHORS * values, *cell], "dtype": "float32"}
            for values in (network["classes"], CODES)
            for cell in cells(height, width)
        ]
    pairs = min(network["candidates"], anchor_count(height, width) * network["classes"])
    shapes, dtypes = ([1, pairs], [1, pairs, CODES], [1, pairs]), ("float32", "float32", "int32")
    return [
        {"name": name, "shape": shape, "dtype": dtype}
        for name, shape, dtype in zip(COMPACT, shapes, dtypes, strict=True)
    ]
