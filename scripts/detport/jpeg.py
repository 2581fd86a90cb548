"""JPEG files of kinds that decoders of ordinary ones do not read, told by their headers."""

from pathlib import Path

START, LENGTH = b"\xff\xd8", 2  # of a file; bytes of a segment's length, which counts itself
NO_FRAMES = (0xC4, 0xC8, 0xCC)  # markers among those of frames that begin none
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {*NO_FRAMES}
KINDS = {0xC3: "a lossless JPEG", 0xC5: "a hierarchical JPEG", 0xC6: "a hierarchical JPEG", 0xF7: "a JPEG-LS file"}


def oddity(path: Path) -> str | None:
    """What is odd about a JPEG, and the remedy; None of an ordinary one and of what is none."""
    with path.open("rb") as file:
        if file.read(len(START)) != START:
            return None
        while True:
            head = file.read(2 + LENGTH)
            if len(head) < 2 + LENGTH or head[0] != 0xFF:
                return None
            if head[1] in FRAMES:
                break
            file.seek(max(int.from_bytes(head[2:]) - LENGTH, 0), 1)
        bits = file.read(1)
    if bits not in (b"", b"\x08"):
        return f"a JPEG of {bits[0]} bits per sample; save it with 8 bits"
    return f"{KINDS[head[1]]}; save it as PNG or as an ordinary JPEG" if head[1] in KINDS else None
