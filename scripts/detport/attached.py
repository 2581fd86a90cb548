"""Bytes behind a gzip file that nobody sees who unpacks it.

They lie in gzip members of no content, in the "extra field" of their headers (RFC 1952: at most 65535 bytes each). The
last member says how long the content's own member and these bytes are, and holds the digest of both, so that neither is
taken for the other's once one of them was changed.
"""

import hashlib
import struct

VERSION = 1
PIECE, SEAL = b"dp", b"dP"  # the extra subfields of a part of the bytes, and of the last member
MOST = 65535 - 4  # bytes of a subfield: its own name and length count too
EMPTY = b"\x03\0" + bytes(8)  # deflated nothing, its checksum and its length
SEALED = struct.Struct("<IQQ32s")  # version, bytes of the content's member, attached bytes, sha256 of both


def head(name: bytes, length: int) -> bytes:
    """The header of a member whose extra field is one subfield of so many bytes; without a time, of no system."""
    return struct.pack("<4BI2BH2sH", 0x1F, 0x8B, 8, 4, 0, 0, 255, length + 4, name, length)


def member(name: bytes, held: bytes) -> bytes:
    """A member of no content."""
    return head(name, len(held)) + held + EMPTY


AROUND = len(member(PIECE, b""))
LAST = AROUND + SEALED.size


def attach(packed: bytes, held: bytes) -> bytes:
    """What is to be written behind a gzip file."""
    pieces = [member(PIECE, held[start : start + MOST]) for start in range(0, len(held), MOST)]
    return b"".join([*pieces, member(SEAL, SEALED.pack(VERSION, len(packed), len(held), digest(packed, held)))])


def digest(packed: bytes, held: bytes) -> bytes:
    """sha256 of the content's member and of what is attached to it."""
    total = hashlib.sha256(packed)
    total.update(held)
    return total.digest()


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """The gzip file without what is behind it, and that: None where there is nothing, or not as it was attached."""
    alone = data, None
    start = len(data) - LAST
    if start < 0 or data[start : -SEALED.size - len(EMPTY)] != head(SEAL, SEALED.size) or not data.endswith(EMPTY):
        return alone
    version, length, count, sealed = SEALED.unpack_from(data, start + AROUND - len(EMPTY))
    if version != VERSION or length + count + AROUND * -(-count // MOST) != start:
        return alone
    view, pieces, place = memoryview(data), [], length
    for left in range(count, 0, -MOST):
        size = min(left, MOST)
        begin = head(PIECE, size)
        held = place + len(begin)
        place = held + size + len(EMPTY)
        if data[place - size - AROUND : held] != begin or data[held + size : place] != EMPTY:
            return alone
        pieces.append(view[held : held + size])
    packed, held = data[:length], b"".join(pieces)
    return (packed, held) if digest(packed, held) == sealed else alone
