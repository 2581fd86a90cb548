"""Parity: what each step from the image file to the compiled model does to tensors and to detections.

The steps are called rungs: preprocess, eager, exported, simplified, patched, compiled.
"""

GRAPHS = ("exported", "simplified", "patched")  # the rungs that are graphs on their way to a compiler
