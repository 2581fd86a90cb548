"""What a job asks of a cluster beside its stage's memory, which memory.py tells: time, from the size of its shard, and
memory for Snakemake. What was killed for want of time asks for twice as much; set-resources has the last word."""

import math

from detport import cutting

ENGINE_MB = 600  # Snakemake starts a job on its node three times, one in the other, with 140 to 190 MB each
START_MIN = 10  # of a cluster's file system, at its worst
CAUTION = 3  # times the slowest speed that cutting.py reckons with


def minutes(backend: dict, images: int, attempt: int) -> int:
    """Time of a job that runs a model over so many images."""
    slow = cutting.SPEEDS[cutting.class_of(backend)].slow
    return math.ceil((START_MIN + CAUTION * images / slow / 60) * 2 ** (attempt - 1))
