"""What a job asks of a cluster, from the sizes of its model and shard: memory and time. One that was killed for want of
either asks for twice as much the next time.

docs/cluster.md tells where the figures were measured; a profile's set-resources has the last word.
"""

import math

from detport import cutting, disk

PROGRAM_MB = 800  # Python, the runtime and the weights
RUN = 100  # times the input tensor that a runtime holds at a time: EfficientDet-D7 takes 71 times its 28 MB
CHECK = 300  # the same where torch and a runtime work side by side
START_MIN = 10  # of a cluster's file system, at its worst
CAUTION = 3  # times the slowest speed that cutting.py reckons with


def mem_mb(model: dict, attempt: int, checks: bool = False) -> int:
    """Memory of a job that runs a model, or that also runs its network beside it."""
    factor, fixed = (CHECK, 2 * PROGRAM_MB) if checks else (RUN, PROGRAM_MB)
    return math.ceil((fixed + factor * disk.tensor_bytes(model) / disk.MB) * 2 ** (attempt - 1))


def minutes(backend: dict, images: int, attempt: int) -> int:
    """Time of a job that runs a model over so many images."""
    slow = cutting.SPEEDS[cutting.class_of(backend)].slow
    return math.ceil((START_MIN + CAUTION * images / slow / 60) * 2 ** (attempt - 1))
