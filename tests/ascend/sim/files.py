"""Output files as the runners write them: raw bytes, or each tool's text."""

from pathlib import Path

import numpy as np

from sim import machine


def write_output(path: Path, data: bytes, stem: str) -> None:
    """Write one output; a test may ask that the outputs of an input are lost or cut."""
    if machine.failure("missing") == stem:
        return
    if machine.failure("short") == stem:
        data = data[: len(data) // 2]
    machine.write(path, data)


def rows_of_text(array: np.ndarray, form: str) -> bytes:
    """Each value in `form` and a space, a line per row of the last dimension."""
    rows = array.reshape(-1, array.shape[-1] if array.ndim else 1)
    return "".join("".join(form % value + " " for value in row) + "\n" for row in rows.tolist()).encode()
