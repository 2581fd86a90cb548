"""The library that stages share.

A program that is run by hand gets one thread for NumPy's linear algebra, as every job of one thread does in the workflow:
nothing here has use for more, and to start them takes as long as all else of NumPy.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
