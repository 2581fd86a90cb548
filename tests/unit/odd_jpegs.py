"""JPEG files of rare kinds, written by hand: lossless ones, and one of 12 bits."""

import struct

import numpy as np

END = b"\xff\xd9"
EVERY_LENGTH = bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17))  # 17 categories of differences, 5 bits each


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def packed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")


def difference(value: int) -> str:
    """The bits of a difference: its category, then its digits."""
    size = abs(value).bit_length()
    return f"{size:05b}" + (f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else "")


def lossless(pixels: np.ndarray) -> bytes:
    """Process 14 of the standard: every sample as its difference from the one before it."""
    height, width, channels = pixels.shape
    components = range(1, channels + 1)
    frame = struct.pack(">BHHB", 8, height, width, channels) + b"".join(bytes([i, 0x11, 0]) for i in components)
    scan = bytes([channels]) + b"".join(bytes([i, 0]) for i in components) + bytes([1, 0, 0])
    before = np.empty_like(pixels, int)
    before[:, 1:], before[1:, 0], before[0, 0] = pixels[:, :-1], pixels[:-1, 0], 128
    bits = "".join(map(difference, (pixels - before).ravel().tolist()))
    return (
        b"\xff\xd8"
        + segment(0xC3, frame)
        + segment(0xC4, b"\0" + EVERY_LENGTH)
        + segment(0xDA, scan)
        + packed(bits)
        + END
    )


def of_12_bits(height: int, width: int, grey: int) -> bytes:
    """Extended sequential, one grey all over: the first block has its difference from the middle, the others none."""
    frame = struct.pack(">BHHB", 12, height, width, 1) + bytes([1, 0x11, 0])
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC1, frame) + segment(0xC4, b"\0" + EVERY_LENGTH)
    tables += segment(0xC4, bytes([0x10, 1] + [0] * 15 + [0]))  # of the other coefficients: "there are none", 1 bit
    blocks = -(-height // 8) * -(-width // 8)
    bits = difference((grey - 2048) * 8) + "0" + (difference(0) + "0") * (blocks - 1)
    return b"\xff\xd8" + tables + segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + packed(bits) + END
